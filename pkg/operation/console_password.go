// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/allocation"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

const consolePasswordKind = "MachineConsolePassword" //nolint:gosec // no password

// ConsolePassword answers with the password of the serial console, which is kept nowhere. The
// Event that says who reads it, and why, is written before.
func (o *Operator) ConsolePassword(ctx context.Context, t Target, spec infrastructure.MachineConsolePasswordSpec) (_ *infrastructure.MachineConsolePassword, err error) {
	defer o.observe(verbConsolePassword)(&err)
	if spec.Reason, err = requireReason(consolePasswordKind, spec.Reason); err != nil {
		return nil, o.status(t, err)
	}
	return operate(ctx, o, t, allocation.VerbConsolePassword, func(ctx context.Context, s *subject) (*infrastructure.MachineConsolePassword, error) {
		if _, err := s.observe(ctx); err != nil {
			return nil, err
		}
		answer := &infrastructure.MachineConsolePassword{ObjectMeta: s.objectMeta(), Spec: spec}
		if allocation.IsDryRun(ctx) {
			return answer, nil
		}
		const eventAction = "ReadConsolePassword"
		if err := s.recordFirst(ctx, ReasonConsolePasswordRead, eventAction, s.note("The console password is requested", spec.Reason)); err != nil {
			return nil, err
		}
		password, err := s.readConsolePassword(ctx, spec.Reason)
		if err != nil {
			note := fmt.Sprintf("The console password was not given (%s), requested", oneline.Sanitize(err.Error(), oneline.MaxNote/2))
			s.recordAfter(ctx, ReasonConsolePasswordRead, eventAction, s.note(note, spec.Reason), true)
			return nil, err
		}
		answer.Status.Password = password
		return answer, nil
	})
}

// readConsolePassword returns the password of the allocation that was observed: the metal-api
// reads it by the machine's id, and the machine may have another allocation by then.
func (s *subject) readConsolePassword(ctx context.Context, reason string) (string, error) {
	if err := s.checkObservedRecently(); err != nil {
		return "", err
	}
	password, err := s.operator.opts.Metal.ConsolePassword(ctx, s.machineID, reason)
	if err != nil {
		return "", allocation.RefuseCall(consolePasswordKind, err, func(f metal.RequestField) (*field.Path, any) {
			if f == metal.FieldReason {
				return field.NewPath("spec", "reason"), reason
			}
			return nil, nil
		})
	}
	if _, err := s.read(ctx); err != nil {
		return "", err
	}
	if password == "" {
		return "", allocation.Refuse(http.StatusConflict, time.Minute, "machine %s has reported no console password: it reports one at the end of its installation: retry then", s.machineID)
	}
	return password, nil
}
