// SPDX-License-Identifier: Apache-2.0

package operations

import (
	"context"

	"k8s.io/apiserver/pkg/registry/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/validation"
)

// reinstallREST serves the subresource reinstall: a create has an image installed.
type reinstallREST struct {
	creater[*infrastructure.MachineReinstall]
}

var _ rest.NamedCreater = reinstallREST{}

func newReinstallREST(r *Resource) reinstallREST {
	return reinstallREST{creater[*infrastructure.MachineReinstall]{
		bodyREST: bodyREST[*infrastructure.MachineReinstall]{r, "MachineReinstall", func() *infrastructure.MachineReinstall { return &infrastructure.MachineReinstall{} }},
		validate: validation.ValidateReinstall,
		operate: func(ctx context.Context, t infrastructure.OperationTarget, body *infrastructure.MachineReinstall) (*infrastructure.MachineReinstall, error) {
			return r.Operator.Reinstall(ctx, t, body.Spec)
		},
	}}
}
