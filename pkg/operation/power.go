// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/allocation"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

var powerActions = map[infrastructure.PowerAction]metal.PowerAction{
	infrastructure.PowerOn:       metal.PowerOn,
	infrastructure.PowerOff:      metal.PowerOff,
	infrastructure.PowerReset:    metal.PowerReset,
	infrastructure.PowerCycle:    metal.PowerCycle,
	infrastructure.PowerBootDisk: metal.PowerBootDisk,
	infrastructure.PowerBootPXE:  metal.PowerBootPXE,
	infrastructure.PowerBootBIOS: metal.PowerBootBIOS,
}

// RequestPower sends a power action to the machine's controller, once for each request.
func (o *Operator) RequestPower(ctx context.Context, t Target, spec infrastructure.MachinePowerSpec) (_ *infrastructure.MachinePower, err error) {
	defer o.observe(verbPower)(&err)
	const kind = "MachinePower"
	action, known := powerActions[spec.Action]
	if !known {
		allowed := slices.Sorted(maps.Keys(powerActions))
		return nil, o.status(t, allocation.RefuseField(kind, field.NotSupported(field.NewPath("spec", "action"), spec.Action, allowed)))
	}
	spec.Reason = oneline.Sanitize(spec.Reason, maxReason)
	r := request{kind: kind, action: string(spec.Action), id: spec.RequestID, reason: spec.Reason}
	return operate(ctx, o, t, "power request", func(ctx context.Context, s *subject) (*infrastructure.MachinePower, error) {
		answer := &infrastructure.MachinePower{ObjectMeta: s.objectMeta(), Spec: spec}
		if repeated, err := s.repeated(r); repeated || err != nil {
			return answer, err
		}
		if _, err := s.observe(ctx); err != nil {
			return nil, err
		}
		if allocation.IsDryRun(ctx) {
			return answer, nil
		}
		ended, err := s.callOnce(ctx, r, func(ctx context.Context) error { return o.opts.Metal.RequestPower(ctx, s.machineID, action) })
		if ended != nil {
			s.recordAfter(ctx, ReasonPowerRequested, "Power"+r.action, s.note(powerNote(r, ended), r.reason), ended.Outcome != infrastructure.OperationSent)
		}
		return answer, err
	})
}

// powerNote says what became of a power action.
func powerNote(r request, ended *infrastructure.MachineOperation) string {
	switch ended.Outcome {
	case infrastructure.OperationRefused:
		return fmt.Sprintf("The metal-api refused the %s (%s)", r.what(), oneline.Sanitize(ended.Message, oneline.MaxNote/2))
	case infrastructure.OperationUncertain:
		return fmt.Sprintf("It is not known whether the %s was sent (%s)", r.what(), oneline.Sanitize(ended.Message, oneline.MaxNote/2))
	}
	return fmt.Sprintf("The %s was sent to the machine's controller", r.what())
}

// PowerState answers what the machine's controller reported last.
func (o *Operator) PowerState(ctx context.Context, t Target) (_ *infrastructure.MachinePower, err error) {
	defer o.observe(verbPowerState)(&err)
	var state *metal.PowerState
	m, err := o.look(ctx, t, func(ctx context.Context, id, _ string) (*metal.Machine, error) {
		if state, err = o.opts.Catalogue.LookupPowerState(ctx, id); state == nil {
			return nil, err
		}
		return state.Machine, err
	})
	if err != nil {
		return nil, err
	}
	power := &infrastructure.MachinePower{ObjectMeta: m, Status: infrastructure.MachinePowerStatus{
		State: powerStateOf(state.State), BMCVersion: state.BMCVersion, BIOSVersion: state.BIOSVersion,
	}}
	if !state.Time.IsZero() {
		observed := metav1.NewTime(state.Time)
		power.Status.ObservedTime = &observed
	}
	return power, nil
}

func powerStateOf(state string) infrastructure.PowerState {
	switch state {
	case "ON":
		return infrastructure.PowerStateOn
	case "OFF":
		return infrastructure.PowerStateOff
	}
	return infrastructure.PowerStateUnknown
}

// look reads something of the target's machine, with what it read, and checks that the machine is
// the target's. The reads count against the limit of the namespace's look-ups. It returns the
// metadata for the answer.
func (o *Operator) look(ctx context.Context, t Target, read func(ctx context.Context, id, project string) (*metal.Machine, error)) (metav1.ObjectMeta, error) {
	none := metav1.ObjectMeta{}
	limited := o.opts.Catalogue.WithAllowance(ctx, t.Namespace)
	if d := t.Discovered; d != nil {
		project, bound := o.opts.Bindings.Project(t.Namespace)
		if !bound {
			return none, o.status(t, allocation.Refuse(http.StatusForbidden, 0, "namespace %q is not bound to a project", t.Namespace))
		}
		m, err := read(limited, d.MachineID, project)
		switch {
		case err != nil:
			return none, o.status(t, lookupError(err))
		case m == nil, m.AllocationUUID() != d.AllocationUUID, m.Project() != project:
			return none, o.status(t, allocation.Refuse(http.StatusConflict, 0, "machine %s is not any more in the allocation %s that is shown", d.MachineID, d.AllocationUUID))
		}
		return metav1.ObjectMeta{Namespace: t.Namespace, Name: t.Name, UID: t.UID}, nil
	}
	h, err := o.opts.Protocol.Held(ctx, t.ref())
	if err != nil {
		return none, err
	}
	m, err := read(limited, h.Allocation.MachineID, h.Project())
	if err != nil {
		return none, o.status(t, lookupError(err))
	}
	if err := h.Check(m); err != nil {
		return none, o.status(t, err)
	}
	return metav1.ObjectMeta{Namespace: t.Namespace, Name: t.Name, UID: h.Meta.UID}, nil
}
