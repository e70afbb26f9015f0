// SPDX-License-Identifier: Apache-2.0

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

// Identified implements Observer.
func (o *fakeObserver) Identified() (machines []*metal.Machine, networks []*metal.Network, ips []*metal.IP) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for m := range maps.Values(o.machines) {
		if cluster, _ := metal.TagValue(m.Tags, metal.TagManagementCluster); m.Allocation != nil && cluster == managementCluster {
			machines = append(machines, m)
		}
	}
	return machines, slices.Collect(maps.Values(o.networks)), slices.Collect(maps.Values(o.ips))
}

// unrecordedKinds are the kinds of what no record names, counted.
func (env *environment) unrecordedKinds(recoverer *Recoverer) map[string]int {
	env.sweep()
	env.whileClockAdvances(func() { recoverer.reconcileAll(env.context()) })
	kinds := map[string]int{}
	for _, u := range recoverer.unrecorded {
		kinds[u.kind]++
	}
	return kinds
}

func TestUnrecorded_CountsMetalThatNoRecordNames(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	recoverer := NewRecoverer(env.p)
	c := env.allocatedCluster("c")
	env.machine("m")
	_, err := env.allocate(env.p, "m", "c")
	require.NoError(t, err)
	assert.Empty(t, env.unrecordedKinds(recoverer))

	// What is left when a user removes a finalizer.
	m := env.getMachine("m")
	env.machines.remove(m)
	assert.Equal(t, map[string]int{kindMachine: 1}, env.unrecordedKinds(recoverer))
	env.clusters.remove(c)
	assert.Equal(t, map[string]int{kindMachine: 1, kindNetwork: 1, kindAddress: 1}, env.unrecordedKinds(recoverer))
	assert.Contains(t, recoverer.unrecorded, unrecorded{kindNetwork, c.Status.Allocation.NetworkID, simulator.ProjectA, teamA, "c"})
	assert.Contains(t, recoverer.unrecorded, unrecorded{kindAddress, c.Status.Allocation.IPAddress, simulator.ProjectA, teamA, "c"})
	assert.Contains(t, recoverer.unrecorded, unrecorded{kindMachine, m.Status.Allocation.MachineID, simulator.ProjectA, teamA, "m"})

	// Objects of these names release it, with every check of a release.
	env.cluster("c", func(again *infrastructure.MetalStackCluster) {
		again.Spec.PrivateNetworkID = c.Status.Allocation.NetworkID
		again.Spec.ControlPlaneEndpoint.Host = c.Status.Allocation.IPAddress
	})
	_, err = env.allocateCluster("c")
	require.NoError(t, err)
	assert.Equal(t, map[string]int{kindMachine: 1}, env.unrecordedKinds(recoverer))
	env.machine("m", func(again *infrastructure.MetalStackMachine) {
		again.Spec.ProviderID = "metal:///" + m.Status.Allocation.MachineID
	})
	_, err = env.allocate(env.p, "m", "c")
	require.NoError(t, err)
	assert.Empty(t, env.unrecordedKinds(recoverer))
	_, err = env.release(env.p, "m")
	require.NoError(t, err)
	_, err = env.releaseCluster(env.p, "c")
	require.NoError(t, err)
	env.requireNothingAllocated()
	assert.Empty(t, env.unrecordedKinds(recoverer))
}

func TestUnrecorded_SkipsWhatAttemptCouldOwn(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	recoverer := NewRecoverer(env.p)
	c := env.allocatedCluster("c")
	_, err := env.clusters.Update(env.context(), teamA, "c", func(c *infrastructure.MetalStackCluster) error {
		// As it is between the answer of the metal-api and the record of it.
		a := c.Status.Allocation
		a.Phase, a.NetworkID, a.IPAddress = infrastructure.AllocationAllocating, "", ""
		a.StartTime = env.p.recordTime()
		later := *env.p.recordTime()
		later.Time = later.Add(time.Hour)
		a.NotBefore = &later
		c.Spec.PrivateNetworkID, c.Spec.ControlPlaneEndpoint.Host = "", ""
		return nil
	})
	require.NoError(t, err)
	assert.Empty(t, env.unrecordedKinds(recoverer), "%v", c.UID)
}

// Two management clusters may bind a namespace of the same name to one project.
func TestReleaseCluster_KeepsAddressOfOtherManagementCluster(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	specs := env.adoptable()
	env.p.opts.ManagementCluster = "another"
	theirs := env.allocatedCluster("c", specs["network"])
	require.False(t, theirs.Status.Allocation.IPAdopted)
	env.clusters.remove(theirs) // Its record is in the other management cluster.
	env.p = env.newProtocol()
	ours := env.allocatedCluster("c", specs["network"], func(c *infrastructure.MetalStackCluster) {
		c.Spec.ControlPlaneEndpoint.Host = theirs.Status.Allocation.IPAddress
	})
	assert.True(t, ours.Status.Allocation.IPAdopted)
	assert.Equal(t, ours.UID, ours.Status.Allocation.UID)
	_, err := env.releaseCluster(env.p, "c")
	require.NoError(t, err)
	assert.Zero(t, env.sim.CallsOf("ip-free"))
}

func TestAdopt_RefusedNetworkKeepsIdentity(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	old := env.allocatedCluster("c")
	env.clusters.remove(old)
	env.cluster("holder", func(c *infrastructure.MetalStackCluster) { c.UID = old.UID })
	again := env.cluster("c", func(c *infrastructure.MetalStackCluster) {
		c.Spec.PrivateNetworkID = old.Status.Allocation.NetworkID
	})
	_, err := env.allocateCluster("c")
	require.ErrorContains(t, err, "belongs to another MetalStackCluster")
	assert.Equal(t, again.UID, env.getCluster("c").Status.Allocation.UID)
}

// An address whose cluster used a network that it had adopted has an identity of
// its own.
func TestAllocateCluster_ReclaimsAddressOfFormerCluster(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	specs := env.adoptable()
	old := env.allocatedCluster("c", specs["network"])
	require.False(t, old.Status.Allocation.IPAdopted)
	env.clusters.remove(old)
	address := func(c *infrastructure.MetalStackCluster) {
		c.Spec.ControlPlaneEndpoint.Host = old.Status.Allocation.IPAddress
	}
	other := env.allocatedCluster("other", specs["network"], address)
	assert.True(t, other.Status.Allocation.IPAdopted, "it is another cluster's")
	_, err := env.releaseCluster(env.p, "other")
	require.NoError(t, err)
	assert.Zero(t, env.sim.CallsOf("ip-free"))

	again := env.allocatedCluster("c", specs["network"], address)
	assert.True(t, again.Status.Allocation.NetworkAdopted)
	assert.False(t, again.Status.Allocation.IPAdopted)
	assert.Equal(t, old.UID, again.Status.Allocation.UID)
	_, err = env.releaseCluster(env.p, "c")
	require.NoError(t, err)
	assert.Equal(t, 1, env.sim.CallsOf("ip-free"))
	assert.Zero(t, env.sim.CallsOf("network-free"))
}
