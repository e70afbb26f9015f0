// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
)

// conditioned is an object of any kind with conditions.
type conditioned interface {
	metav1.Object
	runtime.Object
}

func conditionsOf(t *testing.T, obj runtime.Object) *[]metav1.Condition {
	t.Helper()
	switch o := obj.(type) {
	case *infrastructure.MetalStackMachine:
		return &o.Status.Conditions
	case *infrastructure.MetalStackFirewall:
		return &o.Status.Conditions
	case *infrastructure.MetalStackCluster:
		return &o.Status.Conditions
	}
	t.Fatalf("%T has no conditions", obj)
	return nil
}

// metalObject is a record of a kind that holds metal, and how it is shown.
type metalObject struct {
	projector storage.Projector
	record    conditioned
	// metal makes all metal that the record names present.
	metal func()
	// lose takes metal away, by the reason of the condition that says so.
	lose map[string]func()
}

const (
	networkID = "net"
	address   = "100.64.0.1"
)

// metalObjects are records of all kinds that hold metal.
func (f *fixture) metalObjects(phase infrastructure.AllocationPhase) map[string]metalObject {
	firewall := &infrastructure.MetalStackFirewall{ObjectMeta: f.record("").ObjectMeta}
	firewall.Status.Allocation = f.allocated(phonedHome()).Status.Allocation
	machine := f.allocated(phonedHome())
	cluster := &infrastructure.MetalStackCluster{ObjectMeta: f.record("").ObjectMeta}
	cluster.Status.Allocation = &infrastructure.ClusterAllocation{
		AllocationState: machine.Status.Allocation.AllocationState, NetworkID: networkID, IPAddress: address,
	}
	machine.Status.Allocation.Phase, firewall.Status.Allocation.Phase, cluster.Status.Allocation.Phase = phase, phase, phase
	server := func() { f.facts.machines[machineID] = phonedHome() }
	ended := map[string]func(){infrastructure.ReasonAllocationGone: func() { f.facts.machines[machineID].Allocation = nil }}
	return map[string]metalObject{
		"machine":  {NewMachineProjector(f.source), machine, server, ended},
		"firewall": {NewFirewallProjector(f.source), firewall, server, ended},
		"cluster": {NewClusterProjector(f.source), cluster, func() {
			f.facts.networks[networkID] = &metal.Network{ID: networkID}
			f.facts.ips[address] = &metal.IP{Address: address}
			clear(f.facts.gone)
		}, map[string]func(){
			infrastructure.ReasonNetworkGone: func() { f.facts.gone[networkID] = true },
			infrastructure.ReasonAddressGone: func() { f.facts.gone[address] = true },
		}},
	}
}

func allocatedOf(t *testing.T, obj runtime.Object) metav1.Condition {
	t.Helper()
	c := meta.FindStatusCondition(*conditionsOf(t, obj), infrastructure.ConditionAllocated)
	require.NotNil(t, c, "there is no condition Allocated")
	return *c
}

func TestAllocated_FollowsMetalThatIsGone(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"machine", "firewall", "cluster"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := newFixture(t)
			h := b.metalObjects(infrastructure.AllocationAllocated)[kind]
			for reason, lose := range h.lose {
				h.metal()
				shown := h.projector.Project(h.record, nil)
				assert.Equal(t, metav1.ConditionTrue, allocatedOf(t, shown).Status)
				began := allocatedOf(t, shown).LastTransitionTime

				lose()
				gone := h.projector.Project(h.record, shown)
				assert.Equal(t, metav1.ConditionFalse, allocatedOf(t, gone).Status)
				assert.Equal(t, reason, allocatedOf(t, gone).Reason)
				assert.Equal(t, (*conditionsOf(t, gone))[0].Message, allocatedOf(t, gone).Message, "Ready says the same")
				assert.False(t, allocatedOf(t, gone).LastTransitionTime.Time.Before(began.Time))
				assert.Equal(t, gone, h.projector.Project(h.record, gone), "nothing has changed")

				bare := h.record.DeepCopyObject()
				h.projector.Strip(gone)
				h.projector.Strip(bare)
				assert.Equal(t, bare, gone, "what is seen of metal is not recorded")
			}
		})
	}
}

func TestAllocated_StaysTrueWhileMetalIsNotLookedAt(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	for kind, h := range b.metalObjects(infrastructure.AllocationAllocated) {
		assert.Equal(t, metav1.ConditionTrue, allocatedOf(t, h.projector.Project(h.record, nil)).Status, kind)
	}
}

func TestConditions_SayTheGenerationThatTheyAreTrueOf(t *testing.T) {
	t.Parallel()
	for phase, follows := range map[infrastructure.AllocationPhase]bool{
		// What was said about the spec as it was before it changed.
		"":                                  false,
		infrastructure.AllocationAllocating: true,
		infrastructure.AllocationAllocated:  true,
		infrastructure.AllocationReleasing:  true,
		infrastructure.AllocationReleased:   true,
	} {
		b := newFixture(t)
		for kind, h := range b.metalObjects(phase) {
			h.metal()
			*conditionsOf(t, h.record) = []metav1.Condition{{
				Type: infrastructure.ConditionAllocated, Status: metav1.ConditionFalse, Reason: "Recorded", ObservedGeneration: 1,
			}}
			h.record.SetGeneration(7)
			shown := h.projector.Project(h.record, nil)
			assert.EqualValues(t, 7, (*conditionsOf(t, shown))[0].ObservedGeneration, "Ready of a %s in phase %q", kind, phase)
			assert.Equal(t, follows, allocatedOf(t, shown).ObservedGeneration == 7, "Allocated of a %s in phase %q", kind, phase)

			bare := h.record.DeepCopyObject()
			h.projector.Strip(shown)
			h.projector.Strip(bare)
			assert.Equal(t, bare, shown, "%s in phase %q", kind, phase)
		}
	}
}

func TestReady_SaysWhyAReleaseIsRefused(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	for kind, h := range b.metalObjects(infrastructure.AllocationReleasing) {
		h.metal()
		record := func(reason, message string) {
			*conditionsOf(t, h.record) = []metav1.Condition{{
				Type: infrastructure.ConditionAllocated, Status: metav1.ConditionFalse, Reason: reason, Message: message,
				LastTransitionTime: metav1.NewTime(created.Truncate(time.Second)),
			}}
		}
		record(infrastructure.ReasonReleasing, "It is being given back.")
		ready := (*conditionsOf(t, h.projector.Project(h.record, nil)))[0]
		assert.Equal(t, infrastructure.ReasonReleasing, ready.Reason, kind)

		record(infrastructure.ReasonReleaseRefused, "machine is locked")
		ready = (*conditionsOf(t, h.projector.Project(h.record, nil)))[0]
		assert.Equal(t, metav1.ConditionFalse, ready.Status, kind)
		assert.Equal(t, infrastructure.ReasonReleaseRefused, ready.Reason, kind)
		assert.Equal(t, "machine is locked", ready.Message, kind)
	}
}

func TestReady_SaysWhatADeletionWaitsFor(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	deletedAt := metav1.NewTime(created)
	deleting := func(reason, message string) []metav1.Condition {
		return []metav1.Condition{{Type: infrastructure.ConditionDeleting, Status: metav1.ConditionTrue, Reason: reason, Message: message}}
	}
	readyOf := func(obj runtime.Object) metav1.Condition { return (*conditionsOf(t, obj))[0] }
	for kind, h := range b.metalObjects(infrastructure.AllocationAllocated) {
		h.metal()
		h.record.SetDeletionTimestamp(&deletedAt)
		alive := readyOf(h.projector.Project(h.record, nil))

		*conditionsOf(t, h.record) = deleting(infrastructure.ReasonOwnerNotFound, "Machine m cannot be found")
		shown := h.projector.Project(h.record, nil)
		assert.Equal(t, metav1.ConditionTrue, readyOf(shown).Status, kind)
		assert.Equal(t, alive.Message+deletionSeparator+"Machine m cannot be found", readyOf(shown).Message, kind)
		assert.Equal(t, metav1.ConditionTrue, allocatedOf(t, shown).Status, kind)

		// What was shown is shown on, and said once.
		clear(b.facts.machines)
		clear(b.facts.networks)
		assert.Equal(t, shown, h.projector.Project(h.record, shown), kind)
		*conditionsOf(t, h.record) = deleting(infrastructure.ReasonReleasing, "nothing is in the way")
		assert.Equal(t, alive.Message, readyOf(h.projector.Project(h.record, shown)).Message, kind)
	}
	for kind, h := range b.metalObjects(infrastructure.AllocationReleasing) {
		h.metal()
		h.record.SetDeletionTimestamp(&deletedAt)
		*conditionsOf(t, h.record) = append(deleting(infrastructure.ReasonReleaseRefused, "machine is locked"), metav1.Condition{
			Type: infrastructure.ConditionAllocated, Status: metav1.ConditionFalse, Reason: infrastructure.ReasonReleasing, Message: "It is being given back.",
		})
		assert.Equal(t, "machine is locked", readyOf(h.projector.Project(h.record, nil)).Message, "%s: the release is tried again", kind)
	}
}
