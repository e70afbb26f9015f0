package contract_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

const glance = 20 * time.Millisecond

// estate is what another provider has allocated for a cluster: nothing of it
// carries an identity of ours.
type estate struct {
	network, address  string
	firewall, machine *metal.Machine
	deeds             int
}

func (w *world) privateNetwork() string {
	w.t.Helper()
	n, err := w.metal.AllocateNetwork(w.t.Context(), metal.NetworkRequest{Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Name: "old"})
	require.NoError(w.t, err)
	return n.ID
}

func (w *world) estate() estate {
	w.t.Helper()
	e := estate{network: w.privateNetwork()}
	ip, err := w.metal.AllocateIP(w.t.Context(), metal.IPRequest{Project: simulator.ProjectA, Network: simulator.InternetNetwork, Type: metal.TypeStatic, Name: "old"})
	require.NoError(w.t, err)
	e.address = ip.Address
	request := func(name, image string, networks ...string) metal.MachineRequest {
		return metal.MachineRequest{
			Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Size: simulator.SmallSize, Image: image,
			Name: name, Hostname: name, Networks: networks, Tags: []string{"cluster.metal-stack.io/id=" + e.network},
		}
	}
	e.firewall, err = w.metal.AllocateFirewall(w.t.Context(), metal.FirewallRequest{MachineRequest: request("old-firewall", simulator.FirewallImage, e.network, simulator.InternetNetwork)})
	require.NoError(w.t, err)
	e.machine, err = w.metal.AllocateMachine(w.t.Context(), request("old-node", simulator.MachineImage, e.network))
	require.NoError(w.t, err)
	e.deeds = len(w.Metal.Sim.Books().History)
	return e
}

// untouched: of an estate nothing was freed, and nothing was added to it.
func (w *world) untouched(e estate) {
	w.t.Helper()
	books := w.Metal.Sim.Books()
	require.Len(w.t, books.History, e.deeds, "nothing was allocated or freed")
	for _, m := range []*metal.Machine{e.firewall, e.machine} {
		account, found := books.Machine(m.ID)
		require.True(w.t, found)
		assert.Equal(w.t, m.AllocationUUID(), account.AllocationUUID)
	}
}

// takeOver makes the objects that docs/migration.md tells to make.
func (w *world) takeOver(e estate) {
	w.t.Helper()
	ctx := w.t.Context()
	c := w.cluster("c", func(c *v1alpha4.MetalStackCluster) {
		c.Spec.PrivateNetworkID = e.network
		c.Spec.ControlPlaneEndpoint = v1alpha4.APIEndpoint{Host: e.address, Port: 443}
	})
	assert.EqualValues(w.t, 443, c.Spec.ControlPlaneEndpoint.Port)
	_, err := w.api.MetalStackFirewalls(team).Create(ctx, &v1alpha4.MetalStackFirewall{
		ObjectMeta: metav1.ObjectMeta{Name: "old-firewall"},
		Spec:       v1alpha4.MetalStackFirewallSpec{Image: simulator.FirewallImage, MachineType: simulator.SmallSize, ProviderID: "metal:///" + e.firewall.ID},
	}, metav1.CreateOptions{})
	require.NoError(w.t, err)
	f, err := w.api.MetalStackFirewalls(team).Allocate(ctx, "old-firewall", joins("c"), metav1.CreateOptions{})
	require.NoError(w.t, err)
	assert.True(w.t, f.Status.Allocation.Adopted)
	m := w.machine("old-node", "c", func(m *v1alpha4.MetalStackMachine) {
		m.Spec.ProviderID = "metal://" + simulator.DefaultPartition + "/" + e.machine.ID
	})
	assert.True(w.t, m.Status.Allocation.Adopted)
	assert.NotEmpty(w.t, m.Status.Addresses)
}

func TestAClusterOfAnotherProviderIsTakenOverAsItIs(t *testing.T) {
	t.Parallel()
	w := start(t)
	e := w.estate()
	require.Eventually(t, func() bool {
		m, err := w.api.MetalStackMachines(team).Get(t.Context(), e.machine.ID, metav1.GetOptions{})
		return err == nil && !m.Status.Metal.Managed
	}, limit, glance, "before, it is shown as discovered")
	w.takeOver(e)
	_, err := w.api.MetalStackMachines(team).Get(t.Context(), e.machine.ID, metav1.GetOptions{})
	assert.True(t, apierrors.IsNotFound(err), "afterwards it is shown once: %v", err)
	w.untouched(e)
}

func TestATakeoverIsUndoneWithoutTouchingMetal(t *testing.T) {
	t.Parallel()
	w := start(t)
	e := w.estate()
	w.takeOver(e)
	objects := map[string]string{"metalstackmachines": "old-node", "metalstackfirewalls": "old-firewall", "metalstackclusters": "c"}
	for resource, name := range objects {
		client := w.Dynamic().Resource(v1alpha4.SchemeGroupVersion.WithResource(resource)).Namespace(team)
		_, err := client.Patch(t.Context(), name, types.MergePatchType, []byte(`{"metadata":{"annotations":{"`+v1alpha4.DeleteForMoveAnnotation+`":""}}}`), metav1.PatchOptions{})
		require.NoError(t, err)
		require.NoError(t, client.Delete(t.Context(), name, metav1.DeleteOptions{}))
		_, err = client.Patch(t.Context(), name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
		require.NoError(t, err)
		_, err = client.Get(t.Context(), name, metav1.GetOptions{})
		require.True(t, apierrors.IsNotFound(err), "%v", err)
	}
	w.untouched(e)
	require.Eventually(t, func() bool {
		m, err := w.api.MetalStackMachines(team).Get(t.Context(), e.machine.ID, metav1.GetOptions{})
		return err == nil && !m.Status.Metal.Managed
	}, limit, glance, "it is shown as discovered again")

	// And once more.
	w.takeOver(e)
	w.untouched(e)
}

func TestWhatWasTakenOverIsGivenBackButNamedNetworksAndAddressesAreKept(t *testing.T) {
	t.Parallel()
	w := start(t)
	e := w.estate()
	w.takeOver(e)
	release := func(resource, name string) {
		require.Eventually(t, func() bool {
			return w.api.RESTClient().Delete().Namespace(team).Resource(resource).Name(name).SubResource("allocation").Do(t.Context()).Error() == nil
		}, limit, glance, name)
	}
	release("metalstackmachines", "old-node")
	release("metalstackfirewalls", "old-firewall")
	release("metalstackclusters", "c")
	books := w.Metal.Sim.Books()
	assert.Empty(t, books.Of(simulator.ProjectA))
	kept := map[string]bool{}
	for _, n := range books.Networks {
		kept[n.ID] = true
	}
	for _, ip := range books.IPs {
		kept[ip.Address] = true
	}
	assert.True(t, kept[e.network], "the network is kept")
	assert.True(t, kept[e.address], "the address is kept")
}
