package allocation

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// Identified implements Observer: all that was seen and carries the identity.
func (s *fakeObserver) Identified() (machines []*metal.Machine, networks []*metal.Network, ips []*metal.IP) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for m := range maps.Values(s.machines) {
		if cluster, _ := metal.TagValue(m.Tags, metal.TagManagementCluster); m.Allocation != nil && cluster == managementCluster {
			machines = append(machines, m)
		}
	}
	return machines, slices.Collect(maps.Values(s.networks)), slices.Collect(maps.Values(s.ips))
}

// unrecordedKinds are the kinds of what no record names, counted.
func (w *environment) unrecordedKinds(k *Recoverer) map[string]int {
	w.sweep()
	w.clock.Step(unrecordedInterval)
	w.whileClockAdvances(func() { k.ReconcileAll(w.context()) })
	kinds := map[string]int{}
	for _, u := range k.unrecorded {
		kinds[u.kind]++
	}
	return kinds
}

func TestUnrecorded_IsWhatCarriesAnIdentityAndNoRecordNames(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	k := NewRecoverer(w.p)
	c := w.allocatedCluster("c")
	w.machine("m")
	_, err := w.allocate(w.p, "m", "c")
	require.NoError(t, err)
	assert.Empty(t, w.unrecordedKinds(k))

	// What a user leaves behind who takes a finalizer off.
	m := w.record("m")
	w.machines.remove(m)
	assert.Equal(t, map[string]int{kindMachine: 1}, w.unrecordedKinds(k))
	w.clusters.remove(c)
	assert.Equal(t, map[string]int{kindMachine: 1, kindNetwork: 1, kindAddress: 1}, w.unrecordedKinds(k))
	assert.Contains(t, k.unrecorded, unrecorded{kindNetwork, c.Status.Allocation.NetworkID, simulator.ProjectA, teamA, "c"})
	assert.Contains(t, k.unrecorded, unrecorded{kindAddress, c.Status.Allocation.IPAddress, simulator.ProjectA, teamA, "c"})
	assert.Contains(t, k.unrecorded, unrecorded{kindMachine, m.Status.Allocation.MachineID, simulator.ProjectA, teamA, "m"})

	// It is given back by objects of these names, with every check of a release.
	w.cluster("c", func(again *infrastructure.MetalStackCluster) {
		again.Spec.PrivateNetworkID = c.Status.Allocation.NetworkID
		again.Spec.ControlPlaneEndpoint.Host = c.Status.Allocation.IPAddress
	})
	_, err = w.allocateCluster("c")
	require.NoError(t, err)
	assert.Equal(t, map[string]int{kindMachine: 1}, w.unrecordedKinds(k))
	w.machine("m", func(again *infrastructure.MetalStackMachine) {
		again.Spec.ProviderID = "metal:///" + m.Status.Allocation.MachineID
	})
	_, err = w.allocate(w.p, "m", "c")
	require.NoError(t, err)
	assert.Empty(t, w.unrecordedKinds(k))
	_, err = w.release(w.p, "m")
	require.NoError(t, err)
	_, err = w.releaseCluster(w.p, "c")
	require.NoError(t, err)
	w.requireNothingAllocated()
	assert.Empty(t, w.unrecordedKinds(k))
}

func TestUnrecorded_DoesNotCountWhatAnAttemptCouldOwn(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	k := NewRecoverer(w.p)
	c := w.allocatedCluster("c")
	_, err := w.clusters.Update(w.context(), teamA, "c", func(c *infrastructure.MetalStackCluster) error {
		// As it is between the answer of the metal-api and the record of it.
		a := c.Status.Allocation
		a.Phase, a.NetworkID, a.IPAddress = infrastructure.AllocationAllocating, "", ""
		a.StartTime = w.p.recordTime()
		later := *w.p.recordTime()
		later.Time = later.Add(time.Hour)
		a.NotBefore = &later
		c.Spec.PrivateNetworkID, c.Spec.ControlPlaneEndpoint.Host = "", ""
		return nil
	})
	require.NoError(t, err)
	assert.Empty(t, w.unrecordedKinds(k), "%v", c.UID)
}

// Two management clusters may bind a namespace of the same name to one project.
func TestAdopt_AddressOfAnotherManagementClusterIsKept(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	specs := w.adoptable()
	w.p.opts.ManagementCluster = "another"
	theirs := w.allocatedCluster("c", specs["network"])
	require.False(t, theirs.Status.Allocation.IPAdopted)
	w.clusters.remove(theirs) // Its record is in the other management cluster.
	w.p = w.newProtocol()
	ours := w.allocatedCluster("c", specs["network"], func(c *infrastructure.MetalStackCluster) {
		c.Spec.ControlPlaneEndpoint.Host = theirs.Status.Allocation.IPAddress
	})
	assert.True(t, ours.Status.Allocation.IPAdopted)
	assert.Equal(t, ours.UID, ours.Status.Allocation.UID)
	_, err := w.releaseCluster(w.p, "c")
	require.NoError(t, err)
	assert.Zero(t, w.sim.CallsOf("ip-free"))
}

func TestAdopt_RefusedNetworkLeavesTheIdentityAsItWas(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	old := w.allocatedCluster("c")
	w.clusters.remove(old)
	w.cluster("holder", func(c *infrastructure.MetalStackCluster) { c.UID = old.UID })
	again := w.cluster("c", func(c *infrastructure.MetalStackCluster) {
		c.Spec.PrivateNetworkID = old.Status.Allocation.NetworkID
	})
	_, err := w.allocateCluster("c")
	require.ErrorContains(t, err, "belongs to another MetalStackCluster")
	assert.Equal(t, again.UID, w.clusterRecord("c").Status.Allocation.UID)
}

// An address whose cluster used a network that it had adopted has an identity of
// its own.
func TestAllocateCluster_ReclaimsAddressOfFormerCluster(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	specs := w.adoptable()
	old := w.allocatedCluster("c", specs["network"])
	require.False(t, old.Status.Allocation.IPAdopted)
	w.clusters.remove(old)
	address := func(c *infrastructure.MetalStackCluster) {
		c.Spec.ControlPlaneEndpoint.Host = old.Status.Allocation.IPAddress
	}
	other := w.allocatedCluster("other", specs["network"], address)
	assert.True(t, other.Status.Allocation.IPAdopted, "it is another cluster's")
	_, err := w.releaseCluster(w.p, "other")
	require.NoError(t, err)
	assert.Zero(t, w.sim.CallsOf("ip-free"))

	again := w.allocatedCluster("c", specs["network"], address)
	assert.True(t, again.Status.Allocation.NetworkAdopted)
	assert.False(t, again.Status.Allocation.IPAdopted)
	assert.Equal(t, old.UID, again.Status.Allocation.UID)
	_, err = w.releaseCluster(w.p, "c")
	require.NoError(t, err)
	assert.Equal(t, 1, w.sim.CallsOf("ip-free"))
	assert.Zero(t, w.sim.CallsOf("network-free"))
}
