// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func (env *environment) allocateCluster(name string) (c *infrastructure.MetalStackCluster, err error) {
	env.whileClockAdvances(func() { c, err = env.p.AllocateCluster(env.context(), teamA, name, body("")) })
	return c, err
}

func (env *environment) releaseCluster(p *Protocol, name string) (c *infrastructure.MetalStackCluster, err error) {
	env.whileClockAdvances(func() { c, err = p.ReleaseCluster(env.context(), teamA, name, "") })
	return c, err
}

func TestAllocateCluster_LostAnswersAllocateOnce(t *testing.T) {
	t.Parallel()
	for _, endpoint := range []string{"network-allocate", "ip-allocate"} {
		t.Run(endpoint, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			claim := env.cluster("cluster")
			env.sim.Inject(simulator.Fault{Endpoint: endpoint, Kind: simulator.FaultCommitThenLose, Times: 1})
			_, err := env.allocateCluster("cluster")
			require.NoError(t, err)
			assert.Equal(t, 2, env.sim.Inventory().Allocations(uidTag(claim.UID)))
			env.requireReleasesAll(env.p)
		})
	}
	for _, endpoint := range []string{"network-free", "ip-free"} {
		t.Run(endpoint, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			env.allocatedCluster("cluster")
			env.sim.Inject(simulator.Fault{Endpoint: endpoint, Kind: simulator.FaultCommitThenLose, Times: 1})
			env.requireReleasesAll(env.p)
		})
	}
}

func TestAllocateCluster_AfterMoveOwnsNetworkAndAddress(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	old := env.allocatedCluster("cluster")
	node := env.allocatedMachine("node")
	env.clusters.remove(old)
	env.machines.remove(node)
	env.cluster("cluster", func(c *infrastructure.MetalStackCluster) { c.Spec = *old.Spec.DeepCopy() })
	env.machine("node", func(m *infrastructure.MetalStackMachine) { m.Spec.ProviderID = node.Spec.ProviderID })
	c, err := env.allocateCluster("cluster")
	require.NoError(t, err)
	a := c.Status.Allocation
	assert.Equal(t, old.UID, a.UID)
	assert.Equal(t, old.Status.Allocation.NetworkID, a.NetworkID)
	assert.Equal(t, old.Status.Allocation.IPAddress, a.IPAddress)
	assert.False(t, a.NetworkAdopted)
	assert.False(t, a.IPAdopted)
	assert.Equal(t, 1, env.sim.CallsOf("network-allocate"))
	assert.Equal(t, 1, env.sim.CallsOf("ip-allocate"))
	_, err = env.allocate(env.p, "node", "cluster")
	require.NoError(t, err)
	env.requireReleasesAll(env.p)
}

func TestReleaseCluster_KeepsAdoptedNetworkAndAddress(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	specs := env.adoptable()
	c := env.allocatedCluster("cluster", specs["network"], specs["address"])
	assert.True(t, c.Status.Allocation.NetworkAdopted)
	assert.True(t, c.Status.Allocation.IPAdopted)
	assert.True(t, c.Status.Ready)

	env.cluster("second", specs["network"], specs["address"])
	_, err := env.allocateCluster("second")
	require.ErrorContains(t, err, "belongs to another MetalStackCluster")

	_, err = env.releaseCluster(env.p, "cluster")
	require.NoError(t, err)
	assert.Zero(t, env.sim.CallsOf("network-free"))
	assert.Zero(t, env.sim.CallsOf("ip-free"))
}

func TestAllocateCluster_NetworkOfOtherProjectIsNotFound(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	n, err := env.client.AllocateNetwork(env.context(), metal.NetworkRequest{Project: simulator.ProjectB, Partition: simulator.DefaultPartition, Name: "theirs"})
	require.NoError(t, err)
	var texts []string
	for _, id := range []string{n.ID, "00000000-0000-4000-8000-0000000fffff", simulator.SuperNetwork, simulator.UnderlayNetwork} {
		env.cluster("cluster", func(c *infrastructure.MetalStackCluster) { c.Spec.PrivateNetworkID = id })
		_, err := env.allocateCluster("cluster")
		require.True(t, apierrors.IsInvalid(err), "%v", err)
		texts = append(texts, replaced(err.Error(), id, "X"))
	}
	for _, text := range texts {
		assert.Equal(t, texts[0], text)
	}
}

func TestAllocateCluster_ExternalEndpointIsKept(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	for _, host := range []string{"api.example.org", "192.0.2.1", "2001:db8:ffff::1"} {
		env.cluster("cluster", func(c *infrastructure.MetalStackCluster) { c.Spec.ControlPlaneEndpoint.Host = host })
		c, err := env.allocateCluster("cluster")
		require.NoError(t, err)
		assert.Empty(t, c.Status.Allocation.IPAddress)
		assert.Nil(t, c.Status.ControlPlaneIP)
		_, err = env.releaseCluster(env.p, "cluster")
		require.NoError(t, err)
	}
	assert.Zero(t, env.sim.CallsOf("ip-free"))
}

func TestAllocateCluster_AddressOfOtherProjectIsNotFound(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	theirs, err := env.client.AllocateIP(env.context(), metal.IPRequest{Project: simulator.ProjectB, Network: simulator.InternetNetwork, Name: "theirs", Type: metal.TypeStatic})
	require.NoError(t, err)
	var texts []string
	private, err := env.client.AllocateNetwork(env.context(), metal.NetworkRequest{Project: simulator.ProjectB, Partition: simulator.DefaultPartition, Name: "theirs"})
	require.NoError(t, err)
	inside := netip.MustParsePrefix(private.Prefixes[0]).Addr().Next().String()
	for _, host := range []string{theirs.Address, "203.0.113.250", inside, "10.0.255.1", "10.1.0.1"} {
		env.cluster("cluster", func(c *infrastructure.MetalStackCluster) { c.Spec.ControlPlaneEndpoint.Host = host })
		_, err := env.allocateCluster("cluster")
		require.True(t, apierrors.IsInvalid(err), "%v", err)
		require.ErrorContains(t, err, "is not allocated to project")
		texts = append(texts, replaced(err.Error(), host, "X"))
	}
	assert.Equal(t, texts[0], texts[1])
	assert.Equal(t, texts[2], texts[3], "whether the range is anybody's is not said")
}

func TestAllocateCluster_PrivateNetworkMustBeOfProject(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.cluster("cluster", func(c *infrastructure.MetalStackCluster) { c.Spec.PrivateNetworkID = simulator.InternetNetwork })
	_, err := env.allocateCluster("cluster")
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	require.ErrorContains(t, err, "is not a private network of project")
	assert.Contains(t, env.getCluster("cluster").Status.Conditions[0].Message, "is not a private network of project")
}

func TestAllocateCluster_SpecOfOtherProjectIsRefused(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.cluster("cluster", func(c *infrastructure.MetalStackCluster) { c.Spec.ProjectID = simulator.ProjectB })
	_, err := env.allocateCluster("cluster")
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	require.ErrorContains(t, err, "spec.projectID")
	assert.Zero(t, env.sim.CallsOf("network-allocate"))
	_, err = env.releaseCluster(env.p, "cluster")
	require.NoError(t, err)
}

func TestAllocateCluster_KeepsNetworkWhenAddressIsRefused(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.cluster("cluster")
	repair := env.sim.Inject(simulator.Fault{Endpoint: "ip-allocate", Kind: simulator.FaultStatus, Status: http.StatusUnprocessableEntity, Message: "project quota for machines reached max:1"})
	_, err := env.allocateCluster("cluster")
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	require.ErrorContains(t, err, "quota")
	c := env.getCluster("cluster")
	assert.Empty(t, c.Status.Allocation.Phase)
	assert.NotEmpty(t, c.Status.Allocation.NetworkID)
	repair()
	env.advance(time.Minute)
	_, err = env.allocateCluster("cluster")
	require.NoError(t, err)
	assert.Equal(t, 1, env.sim.CallsOf("network-allocate"))
	env.requireReleasesAll(env.p)
}

func TestAllocate_RefusedInClusterThatIsBeingReleased(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	env.machine("node")
	var released error
	env.p.onCrashPoint = func(step string) {
		switch step {
		case "cluster/releasing":
			// The cluster is Releasing, and looks for machines.
			_, err := env.p.AllocateMachine(env.context(), teamA, "node", body("cluster"))
			assert.True(t, apierrors.IsConflict(err), "%v", err)
		}
	}
	_, released = env.releaseCluster(env.p, "cluster")
	require.NoError(t, released)

	env.p.onCrashPoint = nil
	env.allocatedCluster("other")
	env.machine("late")
	env.p.onCrashPoint = func(step string) {
		if step == "machine/begun" {
			// The machine is Allocating; the cluster finds it.
			_, err := env.p.ReleaseCluster(env.context(), teamA, "other", "")
			assert.True(t, apierrors.IsConflict(err), "%v", err)
		}
	}
	_, err := env.allocate(env.p, "late", "other")
	require.NoError(t, err)
	env.p.onCrashPoint = nil
	env.requireReleasesAll(env.p)
}

func TestAllocate_JoinsNetworkOfExternallyManagedCluster(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	network := func(project string) string {
		n, err := env.client.AllocateNetwork(env.context(), metal.NetworkRequest{Project: project, Partition: simulator.DefaultPartition, Name: "external"})
		require.NoError(t, err)
		return n.ID
	}
	ours, theirs := network(simulator.ProjectA), network(simulator.ProjectB)
	managed := func(id string) func(*infrastructure.MetalStackCluster) {
		return func(c *infrastructure.MetalStackCluster) {
			c.Annotations = map[string]string{infrastructure.ManagedByAnnotation: "another-controller"}
			c.Spec.PrivateNetworkID = id
		}
	}
	c := env.cluster("external", managed(ours))
	env.machine("node")
	m, err := env.allocate(env.p, "node", "external")
	require.NoError(t, err)
	assert.Contains(t, env.machineState(m.Status.Allocation.MachineID).Networks, ours)
	assert.Contains(t, env.machineState(m.Status.Allocation.MachineID).Tags, metal.Tag(metal.TagCluster, string(c.UID)))
	assert.Nil(t, env.getCluster("external").Status.Allocation, "nothing is done to the cluster")

	for name, c := range map[string]struct{ network, says string }{
		"thief": {theirs, "not found in project"},
		"hasty": {"", "has no spec.privateNetworkID"},
	} {
		env.cluster(name, managed(c.network))
		env.machine(name)
		_, err = env.allocate(env.p, name, name)
		require.True(t, apierrors.IsInvalid(err), "%v", err)
		require.ErrorContains(t, err, c.says)
		assert.Contains(t, allocatedCondition(t, env.getMachine(name)).Message, c.says)
	}
}
