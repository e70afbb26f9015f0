// SPDX-License-Identifier: Apache-2.0

package operations

import (
	"context"

	"k8s.io/apiserver/pkg/registry/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/validation"
)

// identifyREST serves the subresource identify: a create switches the chassis LED.
type identifyREST struct {
	creater[*infrastructure.MachineIdentify]
}

var _ rest.NamedCreater = identifyREST{}

func newIdentifyREST(r *Resource) identifyREST {
	return identifyREST{creater[*infrastructure.MachineIdentify]{
		bodyREST: bodyREST[*infrastructure.MachineIdentify]{r, "MachineIdentify", func() *infrastructure.MachineIdentify { return &infrastructure.MachineIdentify{} }},
		validate: validation.ValidateIdentify,
		operate: func(ctx context.Context, t infrastructure.OperationTarget, body *infrastructure.MachineIdentify) (*infrastructure.MachineIdentify, error) {
			return r.Operator.Identify(ctx, t, body.Spec)
		},
	}}
}
