// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestProtocol_AllocatesAndReleases(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)

	c := env.allocatedCluster("cluster")
	require.Equal(t, infrastructure.AllocationAllocated, c.Status.Allocation.Phase)
	require.NotEmpty(t, c.Status.Allocation.NetworkID)
	assert.Equal(t, c.Status.Allocation.NetworkID, c.Spec.PrivateNetworkID)
	assert.Equal(t, c.Status.Allocation.IPAddress, c.Spec.ControlPlaneEndpoint.Host)
	assert.True(t, c.Status.Ready)

	claim := env.machine("node")
	m, err := env.allocate(env.p, "node", "cluster")
	require.NoError(t, err)
	a := m.Status.Allocation
	require.Equal(t, infrastructure.AllocationAllocated, a.Phase)
	assert.Equal(t, "metal://"+simulator.DefaultPartition+"/"+a.MachineID, m.Spec.ProviderID)
	assert.Equal(t, "cluster", a.ClusterName)
	assert.EqualValues(t, 1, a.Attempt)
	held := env.machinesWithIdentity(claim.UID)
	require.Len(t, held, 1)
	assert.Equal(t, a.MachineID, held[0].ID)
	assert.Equal(t, a.AllocationUUID, held[0].AllocationUUID)
	assert.Equal(t, "node", held[0].Hostname)
	assert.Contains(t, held[0].Networks, c.Status.Allocation.NetworkID)
	for _, tag := range []string{
		metal.Tag(metal.TagNamespace, teamA), metal.Tag(metal.TagName, "node"),
		metal.Tag(metal.TagManagementCluster, managementCluster), metal.Tag(metal.TagCluster, string(c.UID)),
	} {
		assert.Contains(t, held[0].Tags, tag)
	}
	assert.Equal(t, "I2Nsb3VkLWNvbmZpZwojIHRoZS1zZWNyZXQtam9pbi10b2tlbi1vZi1hLW5vZGUK", held[0].UserData)

	again, err := env.allocate(env.p, "node", "cluster")
	require.NoError(t, err)
	assert.Equal(t, m, again)
	assert.Equal(t, 1, env.sim.Inventory().Allocations(uidTag(claim.UID)))

	f := env.firewall("firewall")
	env.whileClockAdvances(func() { f, err = env.p.AllocateFirewall(env.context(), teamA, "firewall", body("cluster")) })
	require.NoError(t, err)
	assert.Equal(t, metal.RoleFirewall, env.machinesWithIdentity(f.UID)[0].Role)
	assert.Subset(t, env.machinesWithIdentity(f.UID)[0].Networks, []string{simulator.InternetNetwork, c.Status.Allocation.NetworkID})

	_, err = env.releaseCluster(env.p, "cluster")
	require.ErrorContains(t, err, "2 machines and firewalls of the cluster are allocated")

	m, err = env.release(env.p, "node")
	require.NoError(t, err)
	assert.Equal(t, infrastructure.AllocationReleased, m.Status.Allocation.Phase)
	assert.Equal(t, infrastructure.PhaseReleased, m.Status.Metal.Phase)
	env.whileClockAdvances(func() { _, err = env.p.ReleaseFirewall(env.context(), teamA, "firewall", f.UID) })
	require.NoError(t, err)
	c, err = env.releaseCluster(env.p, "cluster")
	require.NoError(t, err)
	assert.Equal(t, infrastructure.AllocationReleased, c.Status.Allocation.Phase)
	_, err = env.release(env.p, "node")
	require.NoError(t, err)

	env.requireNothingAllocated()
	assert.Equal(t, 1, env.sim.Inventory().Frees(uidTag(claim.UID)))
	env.requireNoSecrets()
	_, err = env.allocate(env.p, "node", "cluster")
	require.ErrorContains(t, err, "already released")
}

func TestCheckAllocatable_DistinguishesReleasingFromReleased(t *testing.T) {
	t.Parallel()
	for phase, message := range map[infrastructure.AllocationPhase]string{
		infrastructure.AllocationReleasing: "being released: delete and recreate the object",
		infrastructure.AllocationReleased:  "already released: delete and recreate the object",
	} {
		require.ErrorContains(t, checkAllocatable(&metav1.ObjectMeta{}, phase), message)
	}
	for _, phase := range []infrastructure.AllocationPhase{"", infrastructure.AllocationAllocating, infrastructure.AllocationAllocated} {
		require.NoError(t, checkAllocatable(&metav1.ObjectMeta{}, phase))
	}
}

// Cluster API names what belongs to a cluster after it, and a Cluster's name may
// have dots.
func TestHostname_ReplacesDots(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	c := env.allocatedCluster("prod.example")
	require.Equal(t, infrastructure.AllocationAllocated, c.Status.Allocation.Phase)
	names := map[string]bool{}
	for _, name := range []string{"prod.example-cp-x7k2p", "prod-example-cp-x7k2p"} {
		claim := env.machine(name)
		_, err := env.allocate(env.p, name, "prod.example")
		require.NoError(t, err)
		held := env.machinesWithIdentity(claim.UID)
		require.Len(t, held, 1)
		assert.Empty(t, validation.IsDNS1123Label(held[0].Hostname), held[0].Hostname)
		assert.Contains(t, held[0].Tags, metal.Tag(metal.TagName, name))
		names[held[0].Hostname] = true
		_, err = env.release(env.p, name)
		require.NoError(t, err)
	}
	assert.Len(t, names, 2)
	_, err := env.releaseCluster(env.p, "prod.example")
	require.NoError(t, err)
	env.requireNothingAllocated()
}
