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

// TestWhatARestoredClaimWillFindIsNotAdopted: a backup of the ledger may be
// older than an allocation. The object, a claim again, finds by its identity
// what was allocated for it; so nobody else may have that by its name.
func TestWhatARestoredClaimWillFindIsNotAdopted(t *testing.T) {
	t.Parallel()
	t.Run("machine", func(t *testing.T) {
		t.Parallel()
		w := newEnvironment(t)
		w.allocatedCluster("cluster")
		backup := w.machine("node")
		m, err := w.allocate(w.p, "node", "cluster")
		require.NoError(t, err)
		w.machines.put(t, backup)

		w.machine("thief", named(m.Status.Allocation.MachineID))
		_, err = w.allocate(w.p, "thief", "cluster")
		require.ErrorContains(t, err, "metalstackmachines/team-a/node")
		again, err := w.allocate(w.p, "node", "cluster")
		require.NoError(t, err)
		assert.Equal(t, m.Status.Allocation.AllocationUUID, again.Status.Allocation.AllocationUUID)
		w.gone(w.p)
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
			w := newEnvironment(t)
			backup := w.cluster("cluster")
			c, err := w.allocateCluster("cluster")
			require.NoError(t, err)
			w.clusters.put(t, backup)

			w.cluster("thief", func(thief *infrastructure.MetalStackCluster) { name(&thief.Spec, c.Status.Allocation) })
			_, err = w.allocateCluster("thief")
			require.True(t, apierrors.IsInvalid(err), "%v", err)
			require.ErrorContains(t, err, "belongs to another MetalStackCluster")
			again, err := w.allocateCluster("cluster")
			require.NoError(t, err)
			assert.Equal(t, c.Status.Allocation.NetworkID, again.Status.Allocation.NetworkID)
			assert.Equal(t, c.Status.Allocation.IPAddress, again.Status.Allocation.IPAddress)
			assert.Empty(t, w.adopters())
			w.gone(w.p)
		})
	}
}

// TestADuplicateIsNotAdopted: the Recoverer frees what carries the identity of an
// object that has another machine, and may be about to.
func TestADuplicateIsNotAdopted(t *testing.T) {
	t.Parallel()
	for _, phase := range []infrastructure.AllocationPhase{infrastructure.AllocationAllocated, infrastructure.AllocationReleased} {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			w := newEnvironment(t)
			_, id := w.twin()
			k := NewRecoverer(w.p)
			w.whileClockAdvances(func() { k.ReconcileAll(w.context()); k.wg.Wait() })
			if phase == infrastructure.AllocationReleased {
				_, err := w.release(w.p, "node")
				require.NoError(t, err)
			}
			w.advance(w.p.timing.allocateInFlight() + time.Second)
			w.machine("thief", named(id))
			var stolen error
			freed := w.newProtocol()
			w.p.onCrashPoint = func(step string) {
				if step == "duplicate/free-looked" {
					_, stolen = freed.AllocateMachine(w.context(), teamA, "thief", body("cluster"))
				}
			}
			w.keepUntil(k, func() bool { return !w.account(id).Allocated })
			require.ErrorContains(t, stolen, "metalstackmachines/team-a/node")
			assert.Equal(t, infrastructure.AllocationPhase(""), w.record("thief").Status.Allocation.Phase)
			w.gone(w.p)
		})
	}
}

// TestADuplicateThatAnotherClusterNamesIsNotFreed: whoever wrote the identity there.
func TestADuplicateThatAnotherClusterNamesIsNotFreed(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	c := w.allocatedCluster("cluster")
	uid := LabelValue(string(c.UID))
	network, err := w.sim.AllocateNetworkFor(simulator.ProjectA, simulator.DefaultPartition, "theirs", map[string]string{metal.TagUID: uid})
	require.NoError(t, err)
	address, err := w.sim.AllocateIPFor(simulator.ProjectA, simulator.InternetNetwork, "theirs", []string{metal.Tag(metal.TagUID, uid)})
	require.NoError(t, err)
	w.clusters.put(t, holding(w.cluster("other"), network, address))
	_, err = w.releaseCluster(w.p, "cluster")
	require.NoError(t, err)
	assert.Equal(t, infrastructure.AllocationReleased, w.clusterRecord("cluster").Status.Allocation.Phase)
	books := w.sim.Books()
	kept := 0
	for _, n := range books.Networks {
		assert.NotEqual(t, c.Status.Allocation.NetworkID, n.ID, "its own is freed")
		if n.ID == network {
			kept++
		}
	}
	for _, ip := range books.IPs {
		assert.NotEqual(t, c.Status.Allocation.IPAddress, ip.Address, "its own is freed")
		if ip.Address == address {
			kept++
		}
	}
	assert.Equal(t, 2, kept)
}

// TestADuplicateThatItsHolderGivesBackIsNotFreedAgain: whoever asks whether a
// record names it does so before the last look.
func TestADuplicateThatItsHolderGivesBackIsNotFreedAgain(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	m := w.node("node")
	id := w.tagged(simulator.ProjectA, w.clusterRecord("cluster").Status.Allocation.NetworkID)
	w.machine("holder", named(id))
	_, err := w.allocate(w.p, "holder", "cluster")
	require.NoError(t, err)
	require.NoError(t, w.sim.SetTags(id, []string{uidTag(m.UID), metal.Tag(metal.TagManagementCluster, managementCluster)}), "somebody copies tags")
	w.sweep()
	held, err := w.machines.Get(w.context(), teamA, "holder")
	require.NoError(t, err)
	api := &outdated{Metal: w.client}
	freed := func() { assert.NoError(t, w.sim.ForceFree(id)); w.machines.remove(held) }
	api.meanwhile = freed
	w.p = w.newProtocolWith(api)
	w.keptFor(w.p.timing.allocateInFlight())
	if api.meanwhile != nil {
		freed()
	}
	assert.Zero(t, w.sim.CallsOf(machineFree))
}

// TestWhatAnotherRecordNamesIsNotFound: an object that carries somebody else's
// copied tags is not the one that they were copied from.
func TestWhatAnotherRecordNamesIsNotFound(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	c, backup := w.allocatedCluster("cluster"), w.machine("node")
	id := w.tagged(simulator.ProjectA, c.Status.Allocation.NetworkID)
	w.machine("holder", named(id))
	held, err := w.allocate(w.p, "holder", "cluster")
	require.NoError(t, err)
	require.NoError(t, w.sim.SetTags(id, []string{uidTag(backup.UID), metal.Tag(metal.TagManagementCluster, managementCluster)}))
	m, err := w.allocate(w.p, "node", "cluster")
	require.NoError(t, err)
	assert.NotEqual(t, id, m.Status.Allocation.MachineID)
	w.sweep()
	w.keptFor(w.p.timing.allocateInFlight())
	_, err = w.release(w.p, "node")
	require.NoError(t, err)
	assert.Equal(t, held.Status.Allocation.AllocationUUID, w.account(id).AllocationUUID, "it is as it was")

	uid := LabelValue(string(w.cluster("new").UID))
	network, err := w.sim.AllocateNetworkFor(simulator.ProjectA, simulator.DefaultPartition, "theirs", map[string]string{metal.TagUID: uid})
	require.NoError(t, err)
	address, err := w.sim.AllocateIPFor(simulator.ProjectA, simulator.InternetNetwork, "theirs", []string{metal.Tag(metal.TagUID, uid)})
	require.NoError(t, err)
	w.clusters.put(t, holding(w.cluster("other"), network, address))
	got, err := w.allocateCluster("new")
	require.NoError(t, err)
	assert.NotEqual(t, network, got.Status.Allocation.NetworkID)
	assert.NotEqual(t, address, got.Status.Allocation.IPAddress)
}

// holding is a cluster that adopted a network and an address.
func holding(c *infrastructure.MetalStackCluster, network, address string) *infrastructure.MetalStackCluster {
	c.Spec.PrivateNetworkID, c.Spec.ControlPlaneEndpoint.Host = network, address
	c.Status.Allocation = &infrastructure.ClusterAllocation{
		AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocated, UID: c.UID},
		NetworkID:       network, NetworkAdopted: true, IPAddress: address, IPAdopted: true,
	}
	return c
}
