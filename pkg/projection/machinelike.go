// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/providerid"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// MachineLikeProjector projects machines or firewalls: both stand for one metal-api machine.
type MachineLikeProjector struct {
	Source
	role string
}

// machineLike is what machines and firewalls have in common; status points
// into the object.
type machineLike struct {
	meta        *metav1.ObjectMeta
	image       string
	machineType string
	partition   string
	providerID  string
	status      infrastructure.MachineLikeStatus
	// controlled is whether a firewall-controller runs on it.
	controlled bool
	// observed is the machine that is shown; live is nil if none was observed.
	observed
	// kept is whether goes on being shown what was shown, because nothing was observed.
	kept bool
}

// machineLikeOf returns nil for an object that is neither, or no object.
func machineLikeOf(obj runtime.Object) *machineLike {
	switch o := obj.(type) {
	case *infrastructure.MetalStackMachine:
		if o != nil {
			return newMachineLike(&o.ObjectMeta, o.Spec.Image, o.Spec.MachineType, o.Spec.Partition, o.Spec.ProviderID, o.Status.MachineLike(), false)
		}
	case *infrastructure.MetalStackFirewall:
		if o != nil {
			return newMachineLike(&o.ObjectMeta, o.Spec.Image, o.Spec.MachineType, o.Spec.Partition, o.Spec.ProviderID, o.Status.MachineLike(), hasFirewallController(o))
		}
	}
	return nil
}

func newMachineLike(object *metav1.ObjectMeta, image, machineType, partition, providerID string, status infrastructure.MachineLikeStatus, controlled bool) *machineLike {
	return &machineLike{
		meta: object, image: image, machineType: machineType, partition: partition, providerID: providerID,
		status: status, controlled: controlled,
	}
}

// Refs implements storage.Projector. A claim refs nothing, whatever provider ID
// it names: or it could hide another object's machine by naming it.
func (p *MachineLikeProjector) Refs(record runtime.Object) []metal.Ref {
	s := machineLikeOf(record)
	if s == nil || *s.status.Allocation == nil {
		return nil
	}
	a := *s.status.Allocation
	var refs []metal.Ref
	if a.Phase == infrastructure.AllocationAllocated || a.Phase == infrastructure.AllocationReleasing {
		if a.MachineID != "" {
			refs = append(refs, metal.Ref{Kind: metal.KindMachine, ID: a.MachineID})
		}
		if a.AllocationUUID != "" {
			refs = append(refs, metal.Ref{Kind: metal.KindAllocation, ID: a.AllocationUUID})
		}
	}
	if a.Phase == infrastructure.AllocationAllocating || a.Phase == infrastructure.AllocationReleasing {
		refs = append(refs, metal.Ref{Kind: metal.KindUID, ID: string(a.UID)})
	}
	return refs
}

// Strip implements storage.Projector.
func (p *MachineLikeProjector) Strip(obj runtime.Object) {
	s := machineLikeOf(obj)
	if s == nil {
		return
	}
	*s.status.Ready = false
	*s.status.Addresses = nil
	*s.status.FailureDomain = ""
	*s.status.Metal = nil
	*s.status.Conditions = recordedConditions(*s.status.Conditions, s.allocationState())
}

// Project implements storage.Projector.
func (p *MachineLikeProjector) Project(record, previous runtime.Object) runtime.Object {
	obj := record.DeepCopyObject()
	s := machineLikeOf(obj)
	if s == nil {
		return obj
	}
	p.Strip(obj)
	shown := machineLikeOf(previous)
	if shown != nil && shown.meta.UID != s.meta.UID {
		shown = nil
	}
	var before []metav1.Condition
	if shown != nil {
		before = *shown.status.Conditions
	}
	ready := p.fill(s, shown)
	*s.status.Ready = ready.isTrue()
	computed := computedStates{
		ready: ready, allocated: s.allocatedState(ready),
		matchesSpec:   s.matchesSpecState(meta.FindStatusCondition(before, infrastructure.ConditionMatchesSpec)),
		imageUpToDate: p.imageUpToDateState(s, meta.FindStatusCondition(before, infrastructure.ConditionImageUpToDate)),
	}
	p.fillMaintenance(s, shown, before, &computed)
	*s.status.Conditions = projectedConditions(s.meta, *s.status.Conditions, s.allocationState(), computed, before, p.Clock.Now)
	return obj
}

// allocationState is how far the allocation is; nil if none has begun.
func (m *machineLike) allocationState() *infrastructure.AllocationState {
	if *m.status.Allocation == nil {
		return nil
	}
	return &(*m.status.Allocation).AllocationState
}

// allocatedState is the condition Allocated of a record that names its machine.
func (m *machineLike) allocatedState(ready conditionState) conditionState {
	a := *m.status.Allocation
	switch {
	case a == nil:
		return conditionState{}
	case a.Adopted:
		return allocatedState(&a.AllocationState, ready, infrastructure.ReasonAdopted, "Machine "+a.MachineID+" was adopted with its existing allocation.")
	}
	return allocatedState(&a.AllocationState, ready, infrastructure.ReasonAllocated, "Machine "+a.MachineID+" was allocated.")
}

// fill fills in everything but Ready, whose state it returns.
func (p *MachineLikeProjector) fill(s, shown *machineLike) conditionState {
	a := *s.status.Allocation
	if a == nil || a.Phase == "" {
		*s.status.Metal = &infrastructure.Metal{Managed: true, Phase: infrastructure.PhasePending}
		return notAllocatedState(s.meta.CreationTimestamp.Time, *s.status.Conditions)
	}
	v := conditionState{status: metav1.ConditionFalse}
	switch a.Phase {
	case infrastructure.AllocationAllocating:
		if m := p.allocatingMachine(s, a); m != nil {
			s.show(m)
		}
		s.showPhase(a, infrastructure.PhaseAllocating)
		v.since = s.meta.CreationTimestamp.Time
		v.reason, v.message = infrastructure.ReasonAllocating, "Allocating a machine from the metal-api."
		return v
	case infrastructure.AllocationReleasing:
		phase := infrastructure.PhaseReleasing
		switch m, presence := p.Facts.Machine(a.MachineID); {
		case presence == metal.Present && isRecordedAllocation(m, a):
			s.show(m)
		case presence == metal.Unobserved && s.controlled && a.AllocationUUID != "" && !s.keep(shown, a):
			phase = infrastructure.PhaseUnknown
		}
		s.showPhase(a, phase)
		v.since = releaseTime(a.AllocationState, *s.status.Conditions)
		v.reason, v.message = releasingReason(s.meta, *s.status.Conditions, "Releasing the machine to the metal-api.")
		return v
	case infrastructure.AllocationReleased:
		s.showPhase(a, infrastructure.PhaseReleased)
		v.since = releaseTime(a.AllocationState, *s.status.Conditions)
		v.reason, v.message = infrastructure.ReasonReleased, "The machine was released to the metal-api."
		return v
	default:
		return p.fillAllocated(s, shown, a).withDeletion(s.meta, *s.status.Conditions)
	}
}

func (p *MachineLikeProjector) fillAllocated(s, shown *machineLike, a *infrastructure.MachineAllocation) conditionState {
	m, presence := p.Facts.Machine(a.MachineID)
	switch {
	case presence == metal.Present && isRecordedAllocation(m, a):
		s.show(m)
		return liveState(s.observed, s.meta.CreationTimestamp.Time)
	case presence == metal.Unobserved:
		return unobservedState(s, shown, a)
	}
	s.showPhase(a, infrastructure.PhaseGone)
	*s.status.FailureDomain = s.specPartition()
	v := conditionState{status: metav1.ConditionFalse, reason: infrastructure.ReasonAllocationGone}
	switch {
	case presence == metal.Gone || m == nil:
		v.message = fmt.Sprintf("Machine %s not found in the metal-api.", a.MachineID)
	case m.Allocation == nil:
		v.since = m.Changed
		v.message = fmt.Sprintf("Allocation %s of machine %s was ended by another client; the machine is not allocated.", a.AllocationUUID, a.MachineID)
	default:
		v.since = m.Allocation.Created
		// Which project has it now must not be disclosed.
		v.message = fmt.Sprintf("Allocation %s of machine %s was ended by another client; the machine has a new allocation.", a.AllocationUUID, a.MachineID)
	}
	return v
}

// unobservedState keeps showing what was shown: not having observed it proves nothing.
func unobservedState(s, shown *machineLike, a *infrastructure.MachineAllocation) conditionState {
	if shown != nil && *shown.status.Metal != nil && (*shown.status.Metal).AllocationUUID == a.AllocationUUID {
		if c := meta.FindStatusCondition(*shown.status.Conditions, infrastructure.ConditionReady); c != nil {
			s.kept = true
			*s.status.Metal, *s.status.Addresses, *s.status.FailureDomain = (*shown.status.Metal).DeepCopy(), slices.Clone(*shown.status.Addresses), *shown.status.FailureDomain
			return conditionState{status: c.Status, reason: c.Reason, message: c.Message, since: c.LastTransitionTime.Time}
		}
	}
	s.showPhase(a, infrastructure.PhaseUnknown)
	*s.status.FailureDomain = s.specPartition()
	return conditionState{
		status: metav1.ConditionUnknown, reason: infrastructure.ReasonNotObserved, since: timeOrZero(a.StartTime),
		message: fmt.Sprintf("Machine %s not observed yet.", a.MachineID),
	}
}

// allocatingMachine returns the machine that an allocation in flight has got already.
func (p *MachineLikeProjector) allocatingMachine(s *machineLike, a *infrastructure.MachineAllocation) *metal.Machine {
	project, bound := p.Bindings.Project(s.meta.Namespace)
	if !bound || a.UID == "" {
		return nil
	}
	for _, m := range p.Facts.MachinesByUID(string(a.UID)) {
		// A tag alone proves nothing: users of other projects can set it, too.
		if m.Allocation != nil && m.Allocation.Project == project && m.Allocation.Role == p.role {
			return m
		}
	}
	return nil
}

func (m *machineLike) show(machine *metal.Machine) {
	m.observed = observe(machine, m.reinstallRequested())
	*m.status.Metal = metalOf(m.observed, true)
	if m.controlled {
		addNetworkTypes(*m.status.Metal, machine)
	}
	*m.status.Addresses = Addresses(machine)
	*m.status.FailureDomain = machine.Partition
}

// keep goes on showing metal that was shown, and returns whether it was.
func (m *machineLike) keep(shown *machineLike, a *infrastructure.MachineAllocation) bool {
	if shown == nil || *shown.status.Metal == nil || (*shown.status.Metal).AllocationUUID != a.AllocationUUID || (*shown.status.Metal).Hostname == "" {
		return false
	}
	*m.status.Metal = (*shown.status.Metal).DeepCopy()
	return true
}

// showPhase overrides the phase, and names the metal if nothing is known of it.
func (m *machineLike) showPhase(a *infrastructure.MachineAllocation, phase string) {
	if *m.status.Metal == nil {
		*m.status.Metal = &infrastructure.Metal{MachineID: a.MachineID, AllocationUUID: a.AllocationUUID, Managed: true}
	}
	(*m.status.Metal).Phase = phase
}

// specPartition is the partition after the spec, for metal that is not seen.
func (m *machineLike) specPartition() string {
	if m.partition != "" {
		return m.partition
	}
	if id, err := providerid.Parse(m.providerID); err == nil {
		return id.Partition
	}
	return ""
}

// isRecordedAllocation is true if m is in the very allocation that is recorded.
func isRecordedAllocation(m *metal.Machine, a *infrastructure.MachineAllocation) bool {
	return m != nil && m.Allocation != nil && m.Allocation.UUID == a.AllocationUUID
}

func timeOrZero(t *metav1.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.Time
}
