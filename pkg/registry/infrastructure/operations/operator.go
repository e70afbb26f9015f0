// SPDX-License-Identifier: Apache-2.0

// Package operations serves the subresources by which the machines of
// MetalStackMachines and MetalStackFirewalls are operated: power, identify,
// consolepassword, log, reinstall and lock. Each is a right of its own.
//
// It validates requests, and finds out which object they are for and whether the user
// may operate it. It must never change metal or records itself: that is what the Operator
// is for.
package operations

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// Operator operates machines: pkg/operation.Operator. Its errors are API statuses; its
// answers are the caller's.
type Operator interface {
	// WithDryRun makes what is done with a context a dry run.
	WithDryRun(ctx context.Context) context.Context

	PowerState(ctx context.Context, t infrastructure.OperationTarget) (*infrastructure.MachinePower, error)
	RequestPower(ctx context.Context, t infrastructure.OperationTarget, spec infrastructure.MachinePowerSpec) (*infrastructure.MachinePower, error)
	Identify(ctx context.Context, t infrastructure.OperationTarget, spec infrastructure.MachineIdentifySpec) (*infrastructure.MachineIdentify, error)
	ConsolePassword(ctx context.Context, t infrastructure.OperationTarget, spec infrastructure.MachineConsolePasswordSpec) (*infrastructure.MachineConsolePassword, error)
	Log(ctx context.Context, t infrastructure.OperationTarget) (*infrastructure.MachineLog, error)
	Reinstall(ctx context.Context, t infrastructure.OperationTarget, spec infrastructure.MachineReinstallSpec) (*infrastructure.MachineReinstall, error)
	LockState(ctx context.Context, t infrastructure.OperationTarget) (*infrastructure.MachineLock, error)
	Lock(ctx context.Context, t infrastructure.OperationTarget, spec infrastructure.MachineLockSpec) (*infrastructure.MachineLock, error)
	Unlock(ctx context.Context, t infrastructure.OperationTarget, reason string) (*infrastructure.MachineLock, error)
}

// Authorizer decides what needs a right besides that to the subresource:
// pkg/visibility.Resolver.
type Authorizer interface {
	// AuthorizeDiscovered returns an API status unless the user may operate discovered machines.
	AuthorizeDiscovered(ctx context.Context, u user.Info, resource schema.GroupResource, namespace, name string) error
	// AuthorizeReinstall returns an API status unless the user may reinstall the machine.
	AuthorizeReinstall(ctx context.Context, u user.Info, resource schema.GroupResource, namespace, name string) error
}
