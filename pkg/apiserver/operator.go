// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/operation"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/operations"
)

// operator is an operation.Operator for the registry, which does not link it.
type operator struct {
	*operation.Operator
}

var _ operations.Operator = operator{}

// PowerState implements operations.Operator.
func (o operator) PowerState(ctx context.Context, t infrastructure.OperationTarget) (*infrastructure.MachinePower, error) {
	return o.Operator.PowerState(ctx, operation.Target(t))
}

// RequestPower implements operations.Operator.
func (o operator) RequestPower(ctx context.Context, t infrastructure.OperationTarget, spec infrastructure.MachinePowerSpec) (*infrastructure.MachinePower, error) {
	return o.Operator.RequestPower(ctx, operation.Target(t), spec)
}

// Identify implements operations.Operator.
func (o operator) Identify(ctx context.Context, t infrastructure.OperationTarget, spec infrastructure.MachineIdentifySpec) (*infrastructure.MachineIdentify, error) {
	return o.Operator.Identify(ctx, operation.Target(t), spec)
}

// ConsolePassword implements operations.Operator.
func (o operator) ConsolePassword(ctx context.Context, t infrastructure.OperationTarget, spec infrastructure.MachineConsolePasswordSpec) (*infrastructure.MachineConsolePassword, error) {
	return o.Operator.ConsolePassword(ctx, operation.Target(t), spec)
}

// Log implements operations.Operator.
func (o operator) Log(ctx context.Context, t infrastructure.OperationTarget) (*infrastructure.MachineLog, error) {
	return o.Operator.Log(ctx, operation.Target(t))
}

// Reinstall implements operations.Operator.
func (o operator) Reinstall(ctx context.Context, t infrastructure.OperationTarget, spec infrastructure.MachineReinstallSpec) (*infrastructure.MachineReinstall, error) {
	return o.Operator.Reinstall(ctx, operation.Target(t), spec)
}

// LockState implements operations.Operator.
func (o operator) LockState(ctx context.Context, t infrastructure.OperationTarget) (*infrastructure.MachineLock, error) {
	return o.Operator.LockState(ctx, operation.Target(t))
}

// Lock implements operations.Operator.
func (o operator) Lock(ctx context.Context, t infrastructure.OperationTarget, spec infrastructure.MachineLockSpec) (*infrastructure.MachineLock, error) {
	return o.Operator.Lock(ctx, operation.Target(t), spec)
}

// Unlock implements operations.Operator.
func (o operator) Unlock(ctx context.Context, t infrastructure.OperationTarget, reason string) (*infrastructure.MachineLock, error) {
	return o.Operator.Unlock(ctx, operation.Target(t), reason)
}
