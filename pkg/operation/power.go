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

var actionPath = field.NewPath("spec", "action")

var powerActions = map[infrastructure.PowerAction]metal.PowerAction{
	infrastructure.PowerOn:       metal.PowerOn,
	infrastructure.PowerOff:      metal.PowerOff,
	infrastructure.PowerReset:    metal.PowerReset,
	infrastructure.PowerCycle:    metal.PowerCycle,
	infrastructure.PowerBootDisk: metal.PowerBootDisk,
	infrastructure.PowerBootPXE:  metal.PowerBootPXE,
	infrastructure.PowerBootBIOS: metal.PowerBootBIOS,
}

const powerKind = "MachinePower"

// RequestPower sends a power action to the machine's controller, once for each request. With
// BootPXE the next boot wipes the disks, and installs the allocated image: it is a reinstallation,
// whose right is not checked here.
func (o *Operator) RequestPower(ctx context.Context, t Target, spec infrastructure.MachinePowerSpec) (_ *infrastructure.MachinePower, err error) {
	defer o.observe(verbPower)(&err)
	action, known := powerActions[spec.Action]
	if !known {
		allowed := slices.Sorted(maps.Keys(powerActions))
		return nil, o.status(t, allocation.RefuseField(powerKind, field.NotSupported(actionPath, spec.Action, allowed)))
	}
	spec.Reason = oneline.Sanitize(spec.Reason, maxReason)
	r := request{kind: powerKind, action: string(spec.Action), id: spec.RequestID, reason: spec.Reason}
	if r.installs() {
		if spec.Reason, err = requireReason(powerKind, spec.Reason); err != nil {
			return nil, o.status(t, err)
		}
	}
	return operate(ctx, o, t, allocation.VerbPower, func(ctx context.Context, s *subject) (*infrastructure.MachinePower, error) {
		answer := &infrastructure.MachinePower{ObjectMeta: s.objectMeta(), Spec: spec}
		if repeated, err := s.repeated(r); repeated || err != nil {
			return answer, err
		}
		m, err := s.observe(ctx)
		if err != nil {
			return nil, err
		}
		if r.installs() {
			if err := s.checkBootPXE(m); err != nil {
				return nil, err
			}
		}
		if allocation.IsDryRun(ctx) {
			return answer, nil
		}
		eventAction := "Power" + r.action
		if r.installs() {
			what := fmt.Sprintf("The %s, after which the next boot wipes the disks and installs the image, is requested", r.what())
			if err := s.recordFirst(ctx, ReasonPowerRequested, eventAction, s.note(what, r.reason)); err != nil {
				return nil, err
			}
		}
		ended, err := s.callOnce(ctx, r, func(ctx context.Context) error { return o.opts.Metal.RequestPower(ctx, s.machineID, action) })
		switch {
		case r.installs():
			s.recordFailure(ctx, ReasonPowerRequested, eventAction, r, ended, err)
		case ended != nil:
			s.recordAfter(ctx, ReasonPowerRequested, eventAction, s.note(outcomeNote(r, ended.Outcome, ended.Message), r.reason), err != nil)
		}
		return answer, err
	})
}

// checkBootPXE refuses what a reinstallation is refused for. There is no force: a reinstallation
// has it. What is marked for one may boot from the network.
func (s *subject) checkBootPXE(m *metal.Machine) error {
	if err := checkUnlocked(m); err != nil {
		return err
	}
	owner := s.clusterAPIMachine()
	if owner == "" || m.Allocation.Reinstall {
		return nil
	}
	return allocation.RefuseField(powerKind, field.Invalid(actionPath, infrastructure.PowerBootPXE, fmt.Sprintf(
		"the machine is that of Machine %q of Cluster API: the next boot from the network would wipe its disks and install it again, with the user data that it was allocated with: use reinstall with force",
		owner)))
}

// PowerState answers what the machine's controller reported last.
func (o *Operator) PowerState(ctx context.Context, t Target) (_ *infrastructure.MachinePower, err error) {
	defer o.observe(verbPowerState)(&err)
	var state *metal.PowerState
	m, err := o.look(ctx, t, refOf(t), func(ctx context.Context, id string) (*metal.Machine, error) {
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
func (o *Operator) look(ctx context.Context, t Target, ref allocation.MachineRef, read func(ctx context.Context, id string) (*metal.Machine, error)) (metav1.ObjectMeta, error) {
	none := metav1.ObjectMeta{}
	limited := o.opts.Catalogue.WithAllowance(ctx, t.Namespace)
	if d := t.Discovered; d != nil {
		project, bound := o.opts.Bindings.Project(t.Namespace)
		if !bound {
			return none, o.status(t, allocation.Refuse(http.StatusForbidden, 0, "namespace %q is not bound to a project", t.Namespace))
		}
		m, err := read(limited, d.MachineID)
		switch {
		case err != nil:
			return none, o.status(t, lookupError(err))
		case m == nil, m.AllocationUUID() != d.AllocationUUID, m.Project() != project:
			return none, o.status(t, allocation.Refuse(http.StatusConflict, 0, "machine %s is not any more in the allocation %s that is shown", d.MachineID, d.AllocationUUID))
		}
		return metav1.ObjectMeta{Namespace: t.Namespace, Name: t.Name, UID: t.UID}, nil
	}
	h, err := o.opts.Protocol.Held(ctx, ref)
	if err != nil {
		return none, err
	}
	m, err := read(limited, h.Allocation.MachineID)
	if err != nil {
		return none, o.status(t, lookupError(err))
	}
	if err := h.Check(m); err != nil {
		return none, o.status(t, err)
	}
	return metav1.ObjectMeta{Namespace: t.Namespace, Name: t.Name, UID: h.Meta.UID}, nil
}
