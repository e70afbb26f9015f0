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

func (w *environment) allocateCluster(name string) (c *infrastructure.MetalStackCluster, err error) {
	w.whileClockAdvances(func() { c, err = w.p.AllocateCluster(w.context(), teamA, name, body("")) })
	return c, err
}

func (w *environment) releaseCluster(p *Protocol, name string) (c *infrastructure.MetalStackCluster, err error) {
	w.whileClockAdvances(func() { c, err = p.ReleaseCluster(w.context(), teamA, name, "") })
	return c, err
}

func TestLostAnswersOfAClusterAllocateOnce(t *testing.T) {
	t.Parallel()
	for _, endpoint := range []string{"network-allocate", "ip-allocate"} {
		t.Run(endpoint, func(t *testing.T) {
			t.Parallel()
			w := newEnvironment(t)
			claim := w.cluster("cluster")
			w.sim.Inject(simulator.Fault{Endpoint: endpoint, Kind: simulator.FaultCommitThenLose, Times: 1})
			_, err := w.allocateCluster("cluster")
			require.NoError(t, err)
			assert.Equal(t, 2, w.sim.Books().Allocations(uidTag(claim.UID)))
			w.gone(w.p)
		})
	}
	for _, endpoint := range []string{"network-free", "ip-free"} {
		t.Run(endpoint, func(t *testing.T) {
			t.Parallel()
			w := newEnvironment(t)
			w.allocatedCluster("cluster")
			w.sim.Inject(simulator.Fault{Endpoint: endpoint, Kind: simulator.FaultCommitThenLose, Times: 1})
			w.gone(w.p)
		})
	}
}

func TestAMovedClusterHasItsOwnNetworkAndAddressAgain(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	old := w.allocatedCluster("cluster")
	node := w.node("node")
	w.clusters.remove(old)
	w.machines.remove(node)
	w.cluster("cluster", func(c *infrastructure.MetalStackCluster) { c.Spec = *old.Spec.DeepCopy() })
	w.machine("node", func(m *infrastructure.MetalStackMachine) { m.Spec.ProviderID = node.Spec.ProviderID })
	c, err := w.allocateCluster("cluster")
	require.NoError(t, err)
	a := c.Status.Allocation
	assert.Equal(t, old.UID, a.UID)
	assert.Equal(t, old.Status.Allocation.NetworkID, a.NetworkID)
	assert.Equal(t, old.Status.Allocation.IPAddress, a.IPAddress)
	assert.False(t, a.NetworkAdopted)
	assert.False(t, a.IPAdopted)
	assert.Equal(t, 1, w.sim.CallsOf("network-allocate"))
	assert.Equal(t, 1, w.sim.CallsOf("ip-allocate"))
	_, err = w.allocate(w.p, "node", "cluster")
	require.NoError(t, err)
	w.gone(w.p)
}

func TestNetworksAndAddressesThatASpecNamesAreKeptOnRelease(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	specs := w.adoptable()
	c := w.allocatedCluster("cluster", specs["network"], specs["address"])
	assert.True(t, c.Status.Allocation.NetworkAdopted)
	assert.True(t, c.Status.Allocation.IPAdopted)
	assert.True(t, c.Status.Ready)

	w.cluster("second", specs["network"], specs["address"])
	_, err := w.allocateCluster("second")
	require.ErrorContains(t, err, "belongs to another MetalStackCluster")

	_, err = w.releaseCluster(w.p, "cluster")
	require.NoError(t, err)
	assert.Zero(t, w.sim.CallsOf("network-free"))
	assert.Zero(t, w.sim.CallsOf("ip-free"))
}

func TestAnotherProjectsNetworkIsAsUnknownAsNone(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	n, err := w.client.AllocateNetwork(w.context(), metal.NetworkRequest{Project: simulator.ProjectB, Partition: simulator.DefaultPartition, Name: "theirs"})
	require.NoError(t, err)
	var texts []string
	for _, id := range []string{n.ID, "00000000-0000-4000-8000-0000000fffff", simulator.SuperNetwork, simulator.UnderlayNetwork} {
		w.cluster("cluster", func(c *infrastructure.MetalStackCluster) { c.Spec.PrivateNetworkID = id })
		_, err := w.allocateCluster("cluster")
		require.True(t, apierrors.IsInvalid(err), "%v", err)
		texts = append(texts, replaced(err.Error(), id, "X"))
	}
	for _, text := range texts {
		assert.Equal(t, texts[0], text)
	}
}

func TestAHostThatIsNotMetalStacksIsAnEndpointOfSomebodyElse(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	for _, host := range []string{"api.example.org", "192.0.2.1", "2001:db8:ffff::1"} {
		w.cluster("cluster", func(c *infrastructure.MetalStackCluster) { c.Spec.ControlPlaneEndpoint.Host = host })
		c, err := w.allocateCluster("cluster")
		require.NoError(t, err)
		assert.Empty(t, c.Status.Allocation.IPAddress)
		assert.Nil(t, c.Status.ControlPlaneIP)
		_, err = w.releaseCluster(w.p, "cluster")
		require.NoError(t, err)
	}
	assert.Zero(t, w.sim.CallsOf("ip-free"))
}

func TestAnotherProjectsAddressIsAsUnknownAsNone(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	theirs, err := w.client.AllocateIP(w.context(), metal.IPRequest{Project: simulator.ProjectB, Network: simulator.InternetNetwork, Name: "theirs", Type: metal.TypeStatic})
	require.NoError(t, err)
	var texts []string
	private, err := w.client.AllocateNetwork(w.context(), metal.NetworkRequest{Project: simulator.ProjectB, Partition: simulator.DefaultPartition, Name: "theirs"})
	require.NoError(t, err)
	inside := netip.MustParsePrefix(private.Prefixes[0]).Addr().Next().String()
	for _, host := range []string{theirs.Address, "203.0.113.250", inside, "10.0.255.1", "10.1.0.1"} {
		w.cluster("cluster", func(c *infrastructure.MetalStackCluster) { c.Spec.ControlPlaneEndpoint.Host = host })
		_, err := w.allocateCluster("cluster")
		require.True(t, apierrors.IsInvalid(err), "%v", err)
		require.ErrorContains(t, err, "is not allocated to project")
		texts = append(texts, replaced(err.Error(), host, "X"))
	}
	assert.Equal(t, texts[0], texts[1])
	assert.Equal(t, texts[2], texts[3], "whether the range is anybody's is not said")
}

func TestAPrivateNetworkIsTheProjectsOwn(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.cluster("cluster", func(c *infrastructure.MetalStackCluster) { c.Spec.PrivateNetworkID = simulator.InternetNetwork })
	_, err := w.allocateCluster("cluster")
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	require.ErrorContains(t, err, "is not a private network of project")
	assert.Contains(t, w.clusterRecord("cluster").Status.Conditions[0].Message, "is not a private network of project")
}

func TestAClusterOfAnotherProjectIsNotAllocated(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.cluster("cluster", func(c *infrastructure.MetalStackCluster) { c.Spec.ProjectID = simulator.ProjectB })
	_, err := w.allocateCluster("cluster")
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	require.ErrorContains(t, err, "spec.projectID")
	assert.Zero(t, w.sim.CallsOf("network-allocate"))
	_, err = w.releaseCluster(w.p, "cluster")
	require.NoError(t, err)
}

func TestAClusterKeepsWhatItGotWhenTheNextStepIsRefused(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.cluster("cluster")
	repair := w.sim.Inject(simulator.Fault{Endpoint: "ip-allocate", Kind: simulator.FaultStatus, Status: http.StatusUnprocessableEntity, Message: "project quota for machines reached max:1"})
	_, err := w.allocateCluster("cluster")
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	require.ErrorContains(t, err, "quota")
	c := w.clusterRecord("cluster")
	assert.Empty(t, c.Status.Allocation.Phase)
	assert.NotEmpty(t, c.Status.Allocation.NetworkID)
	repair()
	w.advance(time.Minute)
	_, err = w.allocateCluster("cluster")
	require.NoError(t, err)
	assert.Equal(t, 1, w.sim.CallsOf("network-allocate"))
	w.gone(w.p)
}

func TestAMachineDoesNotJoinAClusterThatGoes(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	w.machine("node")
	var released error
	w.p.onCrashPoint = func(step string) {
		switch step {
		case "cluster/releasing":
			// The cluster has said that it goes, and looks for machines.
			_, err := w.p.AllocateMachine(w.context(), teamA, "node", body("cluster"))
			assert.True(t, apierrors.IsConflict(err), "%v", err)
		}
	}
	_, released = w.releaseCluster(w.p, "cluster")
	require.NoError(t, released)

	w.p.onCrashPoint = nil
	w.allocatedCluster("other")
	w.machine("late")
	w.p.onCrashPoint = func(step string) {
		if step == "machine/begun" {
			// The machine has said that it comes; the cluster sees it.
			_, err := w.p.ReleaseCluster(w.context(), teamA, "other", "")
			assert.True(t, apierrors.IsConflict(err), "%v", err)
		}
	}
	_, err := w.allocate(w.p, "late", "other")
	require.NoError(t, err)
	w.p.onCrashPoint = nil
	w.gone(w.p)
}

func TestMachinesOfAnExternallyManagedClusterJoinTheNetworkThatItNames(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	network := func(project string) string {
		n, err := w.client.AllocateNetwork(w.context(), metal.NetworkRequest{Project: project, Partition: simulator.DefaultPartition, Name: "external"})
		require.NoError(t, err)
		return n.ID
	}
	ours, theirs := network(simulator.ProjectA), network(simulator.ProjectB)
	managed := func(id string) func(*infrastructure.MetalStackCluster) {
		return func(c *infrastructure.MetalStackCluster) {
			c.Annotations = map[string]string{infrastructure.ManagedByAnnotation: "somebody"}
			c.Spec.PrivateNetworkID = id
		}
	}
	c := w.cluster("external", managed(ours))
	w.machine("node")
	m, err := w.allocate(w.p, "node", "external")
	require.NoError(t, err)
	assert.Contains(t, w.account(m.Status.Allocation.MachineID).Networks, ours)
	assert.Contains(t, w.account(m.Status.Allocation.MachineID).Tags, metal.Tag(metal.TagCluster, string(c.UID)))
	assert.Nil(t, w.clusterRecord("external").Status.Allocation, "nothing is done to the cluster")

	for name, c := range map[string]struct{ network, says string }{
		"thief": {theirs, "not found in project"},
		"hasty": {"", "spec.privateNetworkID is empty"},
	} {
		w.cluster(name, managed(c.network))
		w.machine(name)
		_, err = w.allocate(w.p, name, name)
		require.True(t, apierrors.IsInvalid(err), "%v", err)
		require.ErrorContains(t, err, c.says)
		assert.Contains(t, condition(t, w.record(name)).Message, c.says)
	}
}
