// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// A backup of the ledger may be older than an allocation. The object, a claim
// again, finds by its identity what was allocated for it; so no other object may
// adopt it.
func TestAdopt_NotWhatRestoredClaimOwns(t *testing.T) {
	t.Parallel()
	t.Run("machine", func(t *testing.T) {
		t.Parallel()
		env := newEnvironment(t)
		env.allocatedCluster("cluster")
		backup := env.machine("node")
		m, err := env.allocate(env.p, "node", "cluster")
		require.NoError(t, err)
		env.machines.put(t, backup)

		env.machine("thief", named(m.Status.Allocation.MachineID))
		_, err = env.allocate(env.p, "thief", "cluster")
		require.ErrorContains(t, err, "metalstackmachines/team-a/node")
		again, err := env.allocate(env.p, "node", "cluster")
		require.NoError(t, err)
		assert.Equal(t, m.Status.Allocation.AllocationUUID, again.Status.Allocation.AllocationUUID)
		env.requireReleasesAll(env.p)
	})
	for what, name := range map[string]func(spec *infrastructure.MetalStackClusterSpec, a *infrastructure.ClusterAllocation){
		"network": func(spec *infrastructure.MetalStackClusterSpec, a *infrastructure.ClusterAllocation) {
			spec.PrivateNetworkID = a.NetworkID
		},
		"address": func(spec *infrastructure.MetalStackClusterSpec, a *infrastructure.ClusterAllocation) {
			spec.ControlPlaneEndpoint.Host = a.IPAddress
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			backup := env.cluster("cluster")
			c, err := env.allocateCluster("cluster")
			require.NoError(t, err)
			env.clusters.put(t, backup)

			env.cluster("thief", func(thief *infrastructure.MetalStackCluster) { name(&thief.Spec, c.Status.Allocation) })
			_, err = env.allocateCluster("thief")
			require.True(t, apierrors.IsInvalid(err), "%v", err)
			require.ErrorContains(t, err, "belongs to another MetalStackCluster")
			again, err := env.allocateCluster("cluster")
			require.NoError(t, err)
			assert.Equal(t, c.Status.Allocation.NetworkID, again.Status.Allocation.NetworkID)
			assert.Equal(t, c.Status.Allocation.IPAddress, again.Status.Allocation.IPAddress)
			assert.Empty(t, env.adoptingClusters())
			env.requireReleasesAll(env.p)
		})
	}
}

// The Recoverer frees what carries the identity of an object that has another
// machine, and may be about to.
func TestAdopt_NotDuplicate(t *testing.T) {
	t.Parallel()
	for _, phase := range []infrastructure.AllocationPhase{infrastructure.AllocationAllocated, infrastructure.AllocationReleased} {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			_, id := env.allocateDuplicate()
			recoverer := NewRecoverer(env.p)
			env.whileClockAdvances(func() { recoverer.reconcileAll(env.context()); recoverer.wg.Wait() })
			if phase == infrastructure.AllocationReleased {
				_, err := env.release(env.p, "node")
				require.NoError(t, err)
			}
			env.advance(env.p.timing.allocateInFlight() + time.Second)
			env.machine("thief", named(id))
			var stolen error
			freed := env.newProtocol()
			env.p.onCrashPoint = func(step string) {
				if step == "duplicate/free-observed" {
					_, stolen = freed.AllocateMachine(env.context(), teamA, "thief", body("cluster"))
				}
			}
			env.reconcileUntil(recoverer, func() bool { return !env.machineState(id).Allocated })
			require.ErrorContains(t, stolen, "metalstackmachines/team-a/node")
			assert.Equal(t, infrastructure.AllocationPhase(""), env.getMachine("thief").Status.Allocation.Phase)
			env.requireReleasesAll(env.p)
		})
	}
}

// It is kept no matter who wrote the identity into its tags.
func TestRecoverer_KeepsDuplicateThatOtherRecordNames(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	c := env.allocatedCluster("cluster")
	uid := LabelValue(string(c.UID))
	network, err := env.sim.AllocateNetworkFor(simulator.ProjectA, simulator.DefaultPartition, "theirs", map[string]string{metal.TagUID: uid})
	require.NoError(t, err)
	address, err := env.sim.AllocateIPFor(simulator.ProjectA, simulator.InternetNetwork, "theirs", []string{metal.Tag(metal.TagUID, uid)})
	require.NoError(t, err)
	env.clusters.put(t, adoptingCluster(env.cluster("other"), network, address))
	_, err = env.releaseCluster(env.p, "cluster")
	require.NoError(t, err)
	assert.Equal(t, infrastructure.AllocationReleased, env.getCluster("cluster").Status.Allocation.Phase)
	inventory := env.sim.Inventory()
	kept := 0
	for _, n := range inventory.Networks {
		assert.NotEqual(t, c.Status.Allocation.NetworkID, n.ID, "its own is freed")
		if n.ID == network {
			kept++
		}
	}
	for _, ip := range inventory.IPs {
		assert.NotEqual(t, c.Status.Allocation.IPAddress, ip.Address, "its own is freed")
		if ip.Address == address {
			kept++
		}
	}
	assert.Equal(t, 2, kept)
}

// Whether a record names it is checked before the last read of the machine.
func TestRecoverer_FreesDuplicateOnceThatHolderReleases(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.allocatedMachine("node")
	id := env.allocateWithTags(simulator.ProjectA, env.getCluster("cluster").Status.Allocation.NetworkID)
	env.machine("holder", named(id))
	_, err := env.allocate(env.p, "holder", "cluster")
	require.NoError(t, err)
	require.NoError(t, env.sim.SetTags(id, []string{uidTag(m.UID), metal.Tag(metal.TagManagementCluster, managementCluster)}), "the tags are copied")
	env.sweep()
	held, err := env.machines.Get(env.context(), teamA, "holder")
	require.NoError(t, err)
	api := &staleMetal{Metal: env.client}
	freed := func() { assert.NoError(t, env.sim.ForceFree(id)); env.machines.remove(held) }
	api.meanwhile = freed
	env.p = env.newProtocolWith(api)
	env.reconcileAfter(env.p.timing.allocateInFlight())
	if api.meanwhile != nil {
		freed()
	}
	assert.Zero(t, env.sim.CallsOf(machineFree))
}

// A machine with tags copied from another object's is not that object's.
func TestAllocate_DoesNotFindWhatOtherRecordNames(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	c, backup := env.allocatedCluster("cluster"), env.machine("node")
	id := env.allocateWithTags(simulator.ProjectA, c.Status.Allocation.NetworkID)
	env.machine("holder", named(id))
	held, err := env.allocate(env.p, "holder", "cluster")
	require.NoError(t, err)
	require.NoError(t, env.sim.SetTags(id, []string{uidTag(backup.UID), metal.Tag(metal.TagManagementCluster, managementCluster)}))
	m, err := env.allocate(env.p, "node", "cluster")
	require.NoError(t, err)
	assert.NotEqual(t, id, m.Status.Allocation.MachineID)
	env.sweep()
	env.reconcileAfter(env.p.timing.allocateInFlight())
	_, err = env.release(env.p, "node")
	require.NoError(t, err)
	assert.Equal(t, held.Status.Allocation.AllocationUUID, env.machineState(id).AllocationUUID, "it is as it was")

	uid := LabelValue(string(env.cluster("new").UID))
	network, err := env.sim.AllocateNetworkFor(simulator.ProjectA, simulator.DefaultPartition, "theirs", map[string]string{metal.TagUID: uid})
	require.NoError(t, err)
	address, err := env.sim.AllocateIPFor(simulator.ProjectA, simulator.InternetNetwork, "theirs", []string{metal.Tag(metal.TagUID, uid)})
	require.NoError(t, err)
	env.clusters.put(t, adoptingCluster(env.cluster("other"), network, address))
	got, err := env.allocateCluster("new")
	require.NoError(t, err)
	assert.NotEqual(t, network, got.Status.Allocation.NetworkID)
	assert.NotEqual(t, address, got.Status.Allocation.IPAddress)
}

// adoptingCluster is a cluster that adopted a network and an address.
func adoptingCluster(c *infrastructure.MetalStackCluster, network, address string) *infrastructure.MetalStackCluster {
	c.Spec.PrivateNetworkID, c.Spec.ControlPlaneEndpoint.Host = network, address
	c.Status.Allocation = &infrastructure.ClusterAllocation{
		AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocated, UID: c.UID},
		NetworkID:       network, NetworkAdopted: true, IPAddress: address, IPAdopted: true,
	}
	return c
}
