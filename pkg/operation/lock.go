// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"context"
	"fmt"
	"net/http"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/allocation"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

const lockKind = "MachineLock"

// LockState answers whether the machine is locked, as it is read for the request. It is answered
// while the machine is being released, too.
func (o *Operator) LockState(ctx context.Context, t Target) (_ *infrastructure.MachineLock, err error) {
	defer o.observe(verbLockState)(&err)
	var machine *metal.Machine
	ref := refOf(t)
	ref.Releasing = true
	m, err := o.look(ctx, t, ref, func(ctx context.Context, id string) (*metal.Machine, error) {
		if err := o.opts.Catalogue.AcquireMachineLookup(ctx, id); err != nil {
			return nil, err
		}
		machine, err = o.opts.Protocol.ObserveMachine(ctx, id)
		return machine, err
	})
	if err != nil {
		return nil, err
	}
	return &infrastructure.MachineLock{ObjectMeta: m, Status: lockStatus(machine)}, nil
}

func lockStatus(m *metal.Machine) infrastructure.MachineLockStatus {
	return infrastructure.MachineLockStatus{Locked: m.State == metal.StateLocked, Reason: oneline.Sanitize(m.StateDescription, maxMessage)}
}

// Lock has the metal-api refuse to free the machine. A lock that is there already stays as it is;
// a reservation is not replaced.
func (o *Operator) Lock(ctx context.Context, t Target, spec infrastructure.MachineLockSpec) (_ *infrastructure.MachineLock, err error) {
	defer o.observe(verbLock)(&err)
	if spec.Reason, err = requireReason(lockKind, spec.Reason); err != nil {
		return nil, o.status(t, err)
	}
	return operate(ctx, o, t, "lock request", func(ctx context.Context, s *subject) (*infrastructure.MachineLock, error) {
		m, err := s.observe(ctx)
		if err != nil {
			return nil, err
		}
		answer := &infrastructure.MachineLock{ObjectMeta: s.objectMeta(), Spec: spec, Status: lockStatus(m)}
		switch {
		case m.State == metal.StateLocked:
			return answer, nil
		case m.State != metal.StateAvailable:
			return nil, allocation.Refuse(http.StatusConflict, 0, "machine %s has the state %s in metal-stack (%s), which a lock would replace", m.ID,
				m.State, oneline.Sanitize(m.StateDescription, maxReason))
		case allocation.IsDryRun(ctx):
			return answer, nil
		}
		answer.Status, err = s.setState(ctx, metal.StateLocked, spec.Reason, ReasonLocked, "Lock", "lock", spec.Reason)
		return answer, err
	})
}

// Unlock takes a lock away, also while the object is being deleted, which the lock keeps from
// being released. What is not locked stays as it is, reserved or not.
func (o *Operator) Unlock(ctx context.Context, t Target, reason string) (_ *infrastructure.MachineLock, err error) {
	defer o.observe(verbUnlock)(&err)
	if reason = oneline.Sanitize(reason, maxReason); reason == "" {
		return nil, o.status(t, allocation.RefuseField(lockKind, field.Required(field.NewPath("reason"), "must say why, in one line: it is a parameter of the query")))
	}
	return operate(ctx, o, t, unlockVerb, func(ctx context.Context, s *subject) (*infrastructure.MachineLock, error) {
		m, err := s.observe(ctx)
		if err != nil {
			return nil, err
		}
		answer := &infrastructure.MachineLock{ObjectMeta: s.objectMeta(), Status: lockStatus(m)}
		if m.State != metal.StateLocked || allocation.IsDryRun(ctx) {
			return answer, nil
		}
		answer.Status, err = s.setState(ctx, metal.StateAvailable, "", ReasonUnlocked, "Unlock", "unlocking", reason)
		return answer, err
	})
}

// setState writes the Event, and sets the state. The metal-api has no precondition: it replaces
// what another client has set since the machine was read.
func (s *subject) setState(ctx context.Context, state, description, eventReason, action, what, reason string) (none infrastructure.MachineLockStatus, _ error) {
	record := s.recordFirst
	if eventReason == ReasonUnlocked {
		record = s.recordFirstOrLog
	}
	if err := record(ctx, eventReason, action, s.note(fmt.Sprintf("The %s of the machine is requested", what), reason)); err != nil {
		return none, err
	}
	err := s.checkObservedRecently()
	if err == nil {
		var m *metal.Machine
		if m, err = s.operator.opts.Metal.SetState(context.WithoutCancel(ctx), s.machineID, state, description); err == nil {
			return lockStatus(m), nil
		}
		err = callError(lockKind, err, "the state of the machine may have been set: read the lock, and retry")
	}
	note := fmt.Sprintf("The %s of the machine failed (%s), requested", what, oneline.Sanitize(err.Error(), oneline.MaxNote/2))
	s.recordAfter(ctx, eventReason, action, s.note(note, reason), true)
	return none, err
}
