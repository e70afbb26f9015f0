// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
)

const (
	projectA   = "10000000-0000-4000-8000-00000000000a"
	namespaceA = "team-a"
)

// fixture is what projections are tested on.
type fixture struct {
	t      testing.TB
	facts  *facts
	clock  *clocktesting.FakePassiveClock
	source Source
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	bindings, err := tenancy.NewStatic([]string{namespaceA + "=" + projectA})
	require.NoError(t, err)
	b := &fixture{
		t:     t,
		facts: &facts{machines: map[string]*metal.Machine{}, networks: map[string]*metal.Network{}, ips: map[string]*metal.IP{}, gone: map[string]bool{}},
		clock: clocktesting.NewFakePassiveClock(time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)),
	}
	b.source = Source{Facts: b.facts, Bindings: bindings, Clock: b.clock}
	return b
}

// facts are what a test says.
type facts struct {
	machines map[string]*metal.Machine
	networks map[string]*metal.Network
	ips      map[string]*metal.IP
	gone     map[string]bool
}

func factOf[T any](f *facts, all map[string]*T, id string) (*T, metal.Presence) {
	switch fact, there := all[id]; {
	case f.gone[id]:
		return nil, metal.Gone
	case there:
		return fact, metal.Present
	}
	return nil, metal.Unobserved
}

func (f *facts) Machine(id string) (*metal.Machine, metal.Presence) { return factOf(f, f.machines, id) }
func (f *facts) Network(id string) (*metal.Network, metal.Presence) { return factOf(f, f.networks, id) }
func (f *facts) IP(address string) (*metal.IP, metal.Presence)      { return factOf(f, f.ips, address) }

func (f *facts) MachinesByUID(uid string) []*metal.Machine {
	var found []*metal.Machine
	for _, m := range f.machines {
		if m.Allocation != nil && m.UID() == uid {
			found = append(found, m)
		}
	}
	return found
}

func (f *fixture) record(phase infrastructure.AllocationPhase) *infrastructure.MetalStackMachine {
	began := metav1.NewTime(time.Date(2026, 11, 22, 13, 0, 0, 0, time.UTC))
	m := &infrastructure.MetalStackMachine{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespaceA, Name: "node", UID: "uid-of-node", Generation: 3, CreationTimestamp: began},
		Spec:       infrastructure.MetalStackMachineSpec{Partition: "fra-01", MachineType: "v1-small-x86", Image: "ubuntu-24.04"},
	}
	if phase != "" {
		m.Status.Allocation = &infrastructure.MachineAllocation{
			AllocationState: infrastructure.AllocationState{Phase: phase, Attempt: 1, UID: m.UID, StartTime: &began},
		}
	}
	return m
}

// allocated is a record that names the allocation that m is in.
func (f *fixture) allocated(m *metal.Machine) *infrastructure.MetalStackMachine {
	r := f.record(infrastructure.AllocationAllocated)
	r.Status.Allocation.MachineID, r.Status.Allocation.AllocationUUID = m.ID, m.AllocationUUID()
	r.Spec.ProviderID = "metal://fra-01/" + m.ID
	return r
}

func (f *fixture) project(record, previous *infrastructure.MetalStackMachine) *infrastructure.MetalStackMachine {
	f.t.Helper()
	before := record.DeepCopy()
	var shown *infrastructure.MetalStackMachine
	if previous == nil {
		shown = NewMachineProjector(f.source).Project(record, nil).(*infrastructure.MetalStackMachine)
	} else {
		shown = NewMachineProjector(f.source).Project(record, previous).(*infrastructure.MetalStackMachine)
	}
	require.Equal(f.t, before, record, "Project must not modify the record")
	return shown
}

func readyOf(t testing.TB, m *infrastructure.MetalStackMachine) metav1.Condition {
	t.Helper()
	c := meta.FindStatusCondition(m.Status.Conditions, infrastructure.ConditionReady)
	require.NotNil(t, c)
	return *c
}

const machineID = "00000000-0000-4000-8000-000000000004"

var created = time.Date(2026, 11, 22, 13, 56, 3, 298054443, time.UTC)

// phonedHome is a machine that runs.
func phonedHome() *metal.Machine {
	return &metal.Machine{
		ID: machineID, Partition: "fra-01", Rack: "fra-01-rack-01", Size: "v1-small-x86", Liveliness: "Alive",
		Tags: []string{"a=b"}, Changed: created, LastEventTime: created.Add(5 * time.Minute),
		Events: []metal.Event{
			{Event: "Phoned Home", Time: created.Add(2 * time.Minute)},
			{Event: "Installing", Time: created.Add(time.Minute)},
			{Event: "Waiting", Time: created.Add(-time.Minute)},
			{Event: "Phoned Home", Time: created.Add(-time.Hour)},
		},
		Allocation: &metal.Allocation{
			UUID: "uuid-1", Project: projectA, Name: "node", Hostname: "node", Image: "ubuntu-24.04.20260101", Role: metal.RoleMachine, Created: created,
			Networks: []metal.MachineNetwork{
				{NetworkID: "internet", IPs: []string{"100.64.0.9"}, NAT: true},
				{NetworkID: "private", IPs: []string{"2001:db8::1", "10.0.0.2"}, Private: true},
			},
		},
	}
}
