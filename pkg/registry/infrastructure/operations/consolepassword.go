// SPDX-License-Identifier: Apache-2.0

package operations

import (
	"context"

	"k8s.io/apiserver/pkg/registry/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/validation"
)

// consolePasswordREST serves the subresource consolepassword: a create answers with the
// password. It is a create, and no get, because it is recorded as an Event, and because it
// is no part of any role that reads.
type consolePasswordREST struct {
	creater[*infrastructure.MachineConsolePassword]
}

var _ rest.NamedCreater = consolePasswordREST{}

func newConsolePasswordREST(r *Resource) consolePasswordREST {
	return consolePasswordREST{creater[*infrastructure.MachineConsolePassword]{
		bodyREST: bodyREST[*infrastructure.MachineConsolePassword]{r, "MachineConsolePassword", func() *infrastructure.MachineConsolePassword { return &infrastructure.MachineConsolePassword{} }},
		validate: validation.ValidateConsolePassword,
		operate: func(ctx context.Context, t infrastructure.OperationTarget, body *infrastructure.MachineConsolePassword) (*infrastructure.MachineConsolePassword, error) {
			return r.Operator.ConsolePassword(ctx, t, body.Spec)
		},
	}}
}
