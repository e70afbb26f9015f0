// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"context"
	"net/http"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/allocation"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

const consolePasswordKind = "MachineConsolePassword" //nolint:gosec // no password

// ConsolePassword answers with the password of the serial console, which is kept nowhere. The
// Event that says who reads it, and why, is written before.
func (o *Operator) ConsolePassword(ctx context.Context, t Target, spec infrastructure.MachineConsolePasswordSpec) (_ *infrastructure.MachineConsolePassword, err error) {
	defer o.observe(verbConsolePassword)(&err)
	if spec.Reason, err = requireReason(consolePasswordKind, spec.Reason); err != nil {
		return nil, o.status(t, err)
	}
	return operate(ctx, o, t, "console password request", func(ctx context.Context, s *subject) (*infrastructure.MachineConsolePassword, error) {
		if _, err := s.observe(ctx); err != nil {
			return nil, err
		}
		answer := &infrastructure.MachineConsolePassword{ObjectMeta: s.objectMeta(), Spec: spec}
		if allocation.IsDryRun(ctx) {
			return answer, nil
		}
		if err := s.recordFirst(ctx, ReasonConsolePasswordRead, "ReadConsolePassword", s.note("The console password is read", spec.Reason)); err != nil {
			return nil, err
		}
		password, err := o.opts.Metal.ConsolePassword(ctx, s.machineID, spec.Reason)
		if err != nil {
			return nil, allocation.RefuseCall(consolePasswordKind, err)
		}
		if password == "" {
			return nil, allocation.Refuse(http.StatusConflict, time.Minute, "machine %s has reported no console password: it does so when it was installed", s.machineID)
		}
		answer.Status.Password = password
		return answer, nil
	})
}
