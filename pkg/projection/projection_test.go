// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/randfill"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
)

func TestMachineProjector_RunningMachine(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	m := phonedHome()
	b.facts.machines[m.ID] = m
	shown := b.project(b.allocated(m), nil)
	assert.True(t, shown.Status.Ready)
	assert.Nil(t, shown.Status.Initialization.Provisioned, "only the record knows what was")
	assert.Equal(t, []infrastructure.MachineAddress{
		{Type: infrastructure.MachineHostName, Address: "node"},
		{Type: infrastructure.MachineInternalDNS, Address: "node"},
		{Type: infrastructure.MachineInternalIP, Address: "10.0.0.2"},
		{Type: infrastructure.MachineInternalIP, Address: "2001:db8::1"},
		{Type: infrastructure.MachineExternalIP, Address: "100.64.0.9"},
	}, shown.Status.Addresses)
	assert.Equal(t, "Phoned Home", shown.Status.Metal.LastEvent.Event)
	assert.Equal(t, created.Add(2*time.Minute).Truncate(time.Second), readyOf(t, shown).LastTransitionTime.Time)

	// A heartbeat is no change.
	beat := *m
	beat.LastEventTime = m.LastEventTime.Add(time.Minute)
	b.facts.machines[m.ID] = &beat
	assert.Equal(t, shown, b.project(b.allocated(m), shown))
}

func TestReady_FollowsTheMetalBothWays(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	m := phonedHome()
	record := b.allocated(m)
	var shown *infrastructure.MetalStackMachine
	last := metav1.Time{}
	for _, step := range []struct {
		name   string
		change func(m *metal.Machine)
		status metav1.ConditionStatus
		reason string
	}{
		{"installing", func(m *metal.Machine) { m.Events = m.Events[1:] }, metav1.ConditionFalse, infrastructure.ReasonProvisioning},
		{"home", func(*metal.Machine) {}, metav1.ConditionTrue, infrastructure.ReasonPhonedHome},
		{"silent", func(m *metal.Machine) { m.Liveliness = "Unknown" }, metav1.ConditionUnknown, infrastructure.ReasonUnreachable},
		{"alive", func(*metal.Machine) {}, metav1.ConditionTrue, infrastructure.ReasonPhonedHome},
		{"crashed", func(m *metal.Machine) {
			m.Events = append([]metal.Event{{Event: "Crashed", Time: created.Add(time.Hour)}}, m.Events...)
		}, metav1.ConditionFalse, infrastructure.ReasonProvisioning},
		{"crash loop", func(m *metal.Machine) {
			m.CrashLoop = true
			m.Events = append([]metal.Event{{Event: "Crashed", Time: created.Add(2 * time.Hour)}, {Event: "Crashed", Time: created.Add(time.Hour)}}, m.Events...)
		}, metav1.ConditionFalse, infrastructure.ReasonCrashLoop},
		{"home again", func(m *metal.Machine) {
			m.Events = append([]metal.Event{{Event: "Phoned Home", Time: created.Add(3 * time.Hour)}}, m.Events...)
		}, metav1.ConditionTrue, infrastructure.ReasonPhonedHome},
		{"reclaim failed", func(m *metal.Machine) { m.FailedMachineReclaim = true }, metav1.ConditionFalse, infrastructure.ReasonFailedReclaim},
	} {
		now := phonedHome()
		step.change(now)
		b.facts.machines[m.ID] = now
		before := shown
		shown = b.project(record, before)
		ready := readyOf(t, shown)
		assert.Equal(t, step.status, ready.Status, step.name)
		assert.Equal(t, step.reason, ready.Reason, step.name)
		assert.Equal(t, step.status == metav1.ConditionTrue, shown.Status.Ready, step.name)
		assert.False(t, ready.LastTransitionTime.Before(&last), "%s: the time of a transition goes back", step.name)
		if before != nil && readyOf(t, before).Status == ready.Status {
			assert.Equal(t, readyOf(t, before).LastTransitionTime, ready.LastTransitionTime, step.name)
		}
		last = ready.LastTransitionTime
		assert.NotEqual(t, b.clock.Now().Unix(), last.Unix(), "%s: dated by metal, not by the clock", step.name)
	}
}

func TestPhase_FollowsTheRecord(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		record        func(b *fixture) *infrastructure.MetalStackMachine
		phase, reason string
		shown         bool // what the metal-api says of the machine is shown
	}{
		{"a claim", func(b *fixture) *infrastructure.MetalStackMachine { return b.record("") },
			infrastructure.PhasePending, infrastructure.ReasonNotAllocated, false},
		{"a refused claim", func(b *fixture) *infrastructure.MetalStackMachine {
			m := b.record(infrastructure.AllocationAllocating)
			m.Status.Allocation.Phase = ""
			m.Status.Conditions = []metav1.Condition{{Type: infrastructure.ConditionAllocated, Status: metav1.ConditionFalse, Reason: infrastructure.ReasonAllocationRefused, Message: "no machine available"}}
			return m
		}, infrastructure.PhasePending, infrastructure.ReasonAllocationRefused, false},
		{"under way", func(b *fixture) *infrastructure.MetalStackMachine {
			return b.record(infrastructure.AllocationAllocating)
		},
			infrastructure.PhaseAllocating, infrastructure.ReasonAllocating, false},
		{"under way, and seen", func(b *fixture) *infrastructure.MetalStackMachine {
			b.facts.machines[machineID].Tags = []string{metal.Tag(metal.TagUID, "uid-of-node")}
			return b.record(infrastructure.AllocationAllocating)
		}, infrastructure.PhaseAllocating, infrastructure.ReasonAllocating, true},
		{"under way, and its tag in another project", func(b *fixture) *infrastructure.MetalStackMachine {
			b.facts.machines[machineID].Tags = []string{metal.Tag(metal.TagUID, "uid-of-node")}
			b.facts.machines[machineID].Allocation.Project = "theirs"
			return b.record(infrastructure.AllocationAllocating)
		}, infrastructure.PhaseAllocating, infrastructure.ReasonAllocating, false},
		{"releasing", func(b *fixture) *infrastructure.MetalStackMachine {
			m := b.allocated(phonedHome())
			m.Status.Allocation.Phase = infrastructure.AllocationReleasing
			m.Status.Allocation.StartTime = nil
			return m
		}, infrastructure.PhaseReleasing, infrastructure.ReasonReleasing, true},
		{"released", func(b *fixture) *infrastructure.MetalStackMachine {
			m := b.allocated(phonedHome())
			m.Status.Allocation.Phase = infrastructure.AllocationReleased
			return m
		}, infrastructure.PhaseReleased, infrastructure.ReasonReleased, false},
		{"freed behind our back", func(b *fixture) *infrastructure.MetalStackMachine {
			b.facts.machines[machineID].Allocation = nil
			return b.allocated(phonedHome())
		}, infrastructure.PhaseGone, infrastructure.ReasonAllocationGone, false},
		{"allocated for another object", func(b *fixture) *infrastructure.MetalStackMachine {
			b.facts.machines[machineID].Allocation.UUID = "uuid-2"
			b.facts.machines[machineID].Allocation.Project = "theirs"
			return b.allocated(phonedHome())
		}, infrastructure.PhaseGone, infrastructure.ReasonAllocationGone, false},
		{"not in the metal-api any more", func(b *fixture) *infrastructure.MetalStackMachine {
			b.facts.gone[machineID] = true
			return b.allocated(phonedHome())
		}, infrastructure.PhaseGone, infrastructure.ReasonAllocationGone, false},
		{"not observed yet", func(b *fixture) *infrastructure.MetalStackMachine {
			delete(b.facts.machines, machineID)
			return b.allocated(phonedHome())
		}, infrastructure.PhaseUnknown, infrastructure.ReasonNotObserved, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newFixture(t)
			b.facts.machines[machineID] = phonedHome()
			shown := b.project(c.record(b), nil)
			assert.Equal(t, c.phase, shown.Status.Metal.Phase)
			ready := readyOf(t, shown)
			assert.Equal(t, c.reason, ready.Reason)
			assert.NotEqual(t, metav1.ConditionTrue, ready.Status)
			assert.False(t, shown.Status.Ready)
			assert.True(t, shown.Status.Metal.Managed)
			assert.Equal(t, c.shown, shown.Status.Metal.Hostname != "")
			assert.Equal(t, c.shown, len(shown.Status.Addresses) > 0)
			assert.False(t, ready.LastTransitionTime.IsZero())
			data, err := json.Marshal(shown.Status)
			require.NoError(t, err)
			assert.NotContains(t, string(data), "theirs", "another project is named")
		})
	}
}

func TestProject_KeepsUnobservedMetalAsShown(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	m := phonedHome()
	b.facts.machines[m.ID] = m
	record := b.allocated(m)
	shown := b.project(record, nil)
	delete(b.facts.machines, m.ID)
	assert.Equal(t, shown, b.project(record, shown))

	// Nor is what was shown of another allocation.
	record.Status.Allocation.AllocationUUID = "uuid-2"
	assert.Equal(t, infrastructure.PhaseUnknown, b.project(record, shown).Status.Metal.Phase)
}

func TestMachineProjector_RefsAndDiscoveredRefs(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	j := NewMachineProjector(b.source)
	m := phonedHome()
	m.Tags = []string{metal.Tag(metal.TagUID, "uid-of-node")}
	b.facts.machines[m.ID] = m
	machine := metal.Ref{Kind: metal.KindMachine, ID: m.ID}
	allocation := metal.Ref{Kind: metal.KindAllocation, ID: "uuid-1"}
	uid := metal.Ref{Kind: metal.KindUID, ID: "uid-of-node"}

	claim := b.record("")
	claim.Spec.ProviderID = "metal://fra-01/" + m.ID
	assert.Empty(t, j.Refs(claim), "a claim could hide another's machine by naming it")
	assert.Equal(t, []metal.Ref{uid}, j.Refs(b.record(infrastructure.AllocationAllocating)))
	allocated := b.allocated(m)
	assert.Equal(t, []metal.Ref{machine, allocation}, j.Refs(allocated))
	allocated.Status.Allocation.Phase = infrastructure.AllocationReleasing
	assert.Equal(t, []metal.Ref{machine, allocation, uid}, j.Refs(allocated))
	allocated.Status.Allocation.Phase = infrastructure.AllocationReleased
	assert.Empty(t, j.Refs(allocated))

	obj, refs := j.Discovered(machine)
	require.NotNil(t, obj)
	assert.Equal(t, []metal.Ref{allocation, uid}, refs)
	assert.Equal(t, refs, j.DiscoveredRefs(machine))
	same, _ := j.Discovered(machine)
	assert.Equal(t, obj, same)
	found := obj.(*infrastructure.MetalStackMachine)
	assert.Equal(t, m.ID, found.Name)
	assert.Equal(t, "metal://fra-01/"+m.ID, found.Spec.ProviderID)
	assert.Equal(t, created.Truncate(time.Second), found.CreationTimestamp.Time)
	assert.True(t, found.Status.Ready)

	again := phonedHome()
	again.Allocation.UUID = "uuid-2"
	b.facts.machines[m.ID] = again
	other, _ := j.Discovered(machine)
	assert.NotEqual(t, found.UID, other.(*infrastructure.MetalStackMachine).UID, "another allocation is another object")

	for name, change := range map[string]func(m *metal.Machine){
		"unbound project": func(m *metal.Machine) { m.Allocation.Project = "20000000-0000-4000-8000-00000000000" },
		"unallocated":     func(m *metal.Machine) { m.Allocation = nil },
		"a firewall":      func(m *metal.Machine) { m.Allocation.Role = metal.RoleFirewall },
	} {
		now := phonedHome()
		change(now)
		b.facts.machines[m.ID] = now
		none, refs := j.Discovered(machine)
		assert.Nil(t, none, name)
		assert.Equal(t, refs, j.DiscoveredRefs(machine), name)
	}
	none, _ := j.Discovered(uid)
	assert.Nil(t, none)
	assert.Nil(t, j.DiscoveredRefs(uid))
}

var (
	_ storage.DiscoveredRefs = &MachineLikeProjector{}
	_ storage.RecordsOnly    = &ClusterProjector{}
)

func TestClusterProjector_NetworkAndAddress(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	j := NewClusterProjector(b.source)
	began := metav1.NewTime(created.Truncate(time.Second))
	record := &infrastructure.MetalStackCluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespaceA, Name: "cluster", UID: "c"},
		Spec:       infrastructure.MetalStackClusterSpec{Partition: "fra-01"},
		Status: infrastructure.MetalStackClusterStatus{Allocation: &infrastructure.ClusterAllocation{
			AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocated, StartTime: &began},
			NetworkID:       "net", IPAddress: "100.64.0.1",
		}},
	}
	assert.Equal(t, []metal.Ref{{Kind: metal.KindNetwork, ID: "net"}, {Kind: metal.KindIP, ID: "100.64.0.1"}}, j.Refs(record))
	project := func(previous runtime.Object) *infrastructure.MetalStackCluster {
		return j.Project(record, previous).(*infrastructure.MetalStackCluster)
	}
	ready := func(c *infrastructure.MetalStackCluster) metav1.Condition { return c.Status.Conditions[0] }

	assert.Equal(t, infrastructure.ReasonNotObserved, ready(project(nil)).Reason)
	b.facts.networks["net"] = &metal.Network{ID: "net", Prefixes: []string{"2001:db8::/64", "10.0.0.0/22"}, VRF: 7, UsedIPs: 2}
	b.facts.ips["100.64.0.1"] = &metal.IP{Address: "100.64.0.1", Type: metal.TypeStatic, NetworkID: "internet"}
	shown := project(nil)
	assert.True(t, shown.Status.Ready)
	assert.Equal(t, []string{"10.0.0.0/22", "2001:db8::/64"}, shown.Status.Network.Prefixes)
	assert.Equal(t, "internet", shown.Status.ControlPlaneIP.NetworkID)
	assert.Equal(t, "fra-01", shown.Status.FailureDomains[0].Name)
	assert.Equal(t, began, ready(shown).LastTransitionTime)

	delete(b.facts.networks, "net")
	assert.Equal(t, shown, project(shown), "what is not observed proves nothing")
	b.facts.gone["net"] = true
	assert.Equal(t, infrastructure.ReasonNetworkGone, ready(project(shown)).Reason)
	assert.Equal(t, b.clock.Now(), ready(project(shown)).LastTransitionTime.Time)
	b.facts.gone = map[string]bool{"100.64.0.1": true}
	b.facts.networks["net"] = &metal.Network{ID: "net"}
	assert.Equal(t, infrastructure.ReasonAddressGone, ready(project(shown)).Reason)
	record.Status.Allocation = nil
	assert.Equal(t, infrastructure.ReasonNotAllocated, ready(project(nil)).Reason)
}

func TestClusterProjector_HostedControlPlaneIsReadyWithoutEndpoint(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	j := NewClusterProjector(b.source)
	record := &infrastructure.MetalStackCluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespaceA, Name: "cluster", UID: "c"},
		Spec:       infrastructure.MetalStackClusterSpec{ControlPlaneEndpointProvider: infrastructure.EndpointOfControlPlane},
		Status: infrastructure.MetalStackClusterStatus{Allocation: &infrastructure.ClusterAllocation{
			AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocating}, NetworkID: "net",
		}},
	}
	b.facts.networks["net"] = &metal.Network{ID: "net"}
	conditions := func() (ready, allocated *metav1.Condition) {
		all := j.Project(record, nil).(*infrastructure.MetalStackCluster).Status.Conditions
		return meta.FindStatusCondition(all, infrastructure.ConditionReady), meta.FindStatusCondition(all, infrastructure.ConditionAllocated)
	}
	ready, _ := conditions()
	assert.Equal(t, "Allocating the private network from the metal-api.", ready.Message)
	record.Status.Allocation.Phase = infrastructure.AllocationAllocated
	ready, allocated := conditions()
	assert.Equal(t, metav1.ConditionTrue, ready.Status)
	assert.Contains(t, ready.Message, "the control plane's provider brings the endpoint")
	assert.Contains(t, allocated.Message, "the endpoint that its provider will bring")
	record.Spec.ControlPlaneEndpoint.Host = "api.example.org"
	_, allocated = conditions()
	assert.Contains(t, allocated.Message, "the control plane is reached at api.example.org.")
	b.facts.networks, b.facts.gone = nil, map[string]bool{"net": true}
	ready, _ = conditions()
	assert.Equal(t, infrastructure.ReasonNetworkGone, ready.Reason)
}

func TestClusterProjector_ExternallyManaged(t *testing.T) {
	t.Parallel()
	j := NewClusterProjector(newFixture(t).source)
	record := &infrastructure.MetalStackCluster{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespaceA, Name: "cluster", UID: "c", Annotations: map[string]string{infrastructure.ManagedByAnnotation: ""},
	}}
	for _, provisioned := range []*bool{nil, new(false), new(true)} {
		record.Status.Initialization.Provisioned = provisioned
		c := j.Project(record, nil).(*infrastructure.MetalStackCluster)
		assert.Equal(t, provisioned != nil && *provisioned, c.Status.Ready)
		assert.Equal(t, infrastructure.ReasonExternallyManaged, c.Status.Conditions[0].Reason)
	}
	// What it holds from before another controller took over is still observed.
	record.Status.Allocation = &infrastructure.ClusterAllocation{
		AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocated}, NetworkID: "net",
	}
	assert.Equal(t, infrastructure.ReasonNotObserved, j.Project(record, nil).(*infrastructure.MetalStackCluster).Status.Conditions[0].Reason)
}

// What is recorded and projected again is what was shown, whatever it was.
func TestProject_AfterStripChangesNothing(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.facts.machines[machineID] = phonedHome()
	b.facts.networks["net"] = &metal.Network{ID: "net"}
	b.facts.ips["100.64.0.1"] = &metal.IP{Address: "100.64.0.1"}
	b.source.Images = imagesOf(metal.FeatureMachine, "ubuntu-24.04.20260101", "ubuntu-24.04.20260401")
	phases := []infrastructure.AllocationPhase{"", infrastructure.AllocationAllocating, infrastructure.AllocationAllocated, infrastructure.AllocationReleasing, infrastructure.AllocationReleased}
	pick := rand.New(rand.NewPCG(1, 2))
	fill := randfill.NewWithSeed(3).NilChance(.3).NumElements(0, 3).Funcs(
		func(s *infrastructure.MachineAllocation, c randfill.Continue) {
			c.FillNoCustom(s)
			s.Phase = phases[pick.IntN(len(phases))]
			s.MachineID = []string{machineID, "another", ""}[pick.IntN(3)]
			s.AllocationUUID = []string{"uuid-1", "another", ""}[pick.IntN(3)]
		},
		func(s *infrastructure.ClusterAllocation, c randfill.Continue) {
			c.FillNoCustom(s)
			s.Phase = phases[pick.IntN(len(phases))]
			s.NetworkID = []string{"net", "another", ""}[pick.IntN(3)]
			s.IPAddress = []string{"100.64.0.1", "another", ""}[pick.IntN(3)]
		},
		func(o *infrastructure.MachineOperation, c randfill.Continue) {
			c.FillNoCustom(o)
			o.AllocationUUID = []string{"uuid-1", "another", ""}[pick.IntN(3)]
			o.RequestTime = new(metav1.NewMicroTime(created.Truncate(time.Microsecond)))
		},
		func(c *metav1.Condition, f randfill.Continue) {
			f.FillNoCustom(c)
			c.Type = []string{"Ready", "Allocated", "MatchesSpec", "ImageUpToDate", "PowerRequested", "Paused"}[pick.IntN(6)]
		},
		func(s *infrastructure.MetalStackMachineSpec, c randfill.Continue) {
			c.FillNoCustom(s)
			s.Image = []string{"ubuntu-24.04", "ubuntu-24.04.20260101", "another"}[pick.IntN(3)]
		},
	)
	newerImages, powerRequests := 0, 0
	for range 500 {
		for _, c := range []struct {
			projector storage.Projector
			obj       runtime.Object
		}{
			{NewMachineProjector(b.source), &infrastructure.MetalStackMachine{}},
			{NewFirewallProjector(b.source), &infrastructure.MetalStackFirewall{}},
			{NewClusterProjector(b.source), &infrastructure.MetalStackCluster{}},
		} {
			fill.Fill(c.obj)
			shown := c.projector.Project(c.obj, nil)
			recorded := shown.DeepCopyObject()
			c.projector.Strip(recorded)
			require.Equal(t, shown, c.projector.Project(recorded, nil))
			require.Equal(t, shown, c.projector.Project(recorded, shown))
			require.Equal(t, shown, c.projector.Project(shown, shown))
			again := recorded.DeepCopyObject()
			c.projector.Strip(again)
			require.Equal(t, recorded, again)
			require.Equal(t, c.projector.Refs(shown), c.projector.Refs(recorded))
			if m, ok := shown.(*infrastructure.MetalStackMachine); ok && imageUpToDateOf(m) != nil {
				newerImages++
			}
			if m, ok := shown.(*infrastructure.MetalStackMachine); ok && conditionOf(m, infrastructure.ConditionPowerRequested) != nil {
				powerRequests++
			}
		}
	}
	require.Positive(t, newerImages)
	require.Positive(t, powerRequests)
}

func TestReady_MessagesNameTheNextStep(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	m := phonedHome()
	m.CrashLoop = true
	b.facts.machines[m.ID] = m
	assert.True(t, strings.Contains(readyOf(t, b.project(b.allocated(m), nil)).Message, "metalctl machine console "+m.ID))
}
