// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// formerID is the cluster id by which the CRD provider and its metal-ccm know team-a/cluster.
const formerID = teamA + ".cluster"

// crdProviderCluster is metal of a cluster that the CRD provider has made: the network and the
// control plane's address have namespace and name for a cluster id, machines the id of the
// network.
type crdProviderCluster struct {
	env                        *environment
	network, address           string
	machine, firewall, another *metal.Machine
}

func (env *environment) crdProviderCluster() *crdProviderCluster {
	env.t.Helper()
	n, err := env.client.AllocateNetwork(env.context(), metal.NetworkRequest{
		Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Name: "cluster", Labels: map[string]string{metal.TagCluster: formerID},
	})
	require.NoError(env.t, err)
	c := &crdProviderCluster{env: env, network: n.ID}
	c.address = env.serviceAddress(simulator.ProjectA, metal.TypeEphemeral,
		metal.Tag(metal.TagCluster, formerID), "metal-stack.infrastructure.cluster.x-k8s.io/purpose=control-plane")
	request := func(name, image string, networks ...string) metal.MachineRequest {
		return metal.MachineRequest{
			Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Size: simulator.SmallSize, Image: image, Name: name, Hostname: name,
			Networks: networks, Tags: []string{metal.Tag(metal.TagCluster, n.ID), "metal-stack.infrastructure.cluster.x-k8s.io/cluster-resource=" + formerID},
		}
	}
	for name, m := range map[string]**metal.Machine{"node": &c.machine, "another": &c.another} {
		*m, err = env.client.AllocateMachine(env.context(), request(name, simulator.MachineImage, n.ID))
		require.NoError(env.t, err)
	}
	c.firewall, err = env.client.AllocateFirewall(env.context(), metal.FirewallRequest{MachineRequest: request("firewall", simulator.FirewallImage, n.ID, simulator.InternetNetwork)})
	require.NoError(env.t, err)
	return c
}

// adopt has the cluster adopted under an id, and the machine.
func (c *crdProviderCluster) adopt(id string) *infrastructure.MetalStackCluster {
	c.env.t.Helper()
	cluster := c.env.allocatedCluster("cluster", func(spec *infrastructure.MetalStackCluster) {
		spec.Spec.PrivateNetworkID, spec.Spec.ControlPlaneEndpoint.Host, spec.Spec.ClusterID = c.network, c.address, id
	})
	c.env.machine("node", func(m *infrastructure.MetalStackMachine) {
		m.Spec.ProviderID = "metal://" + simulator.DefaultPartition + "/" + c.machine.ID
	})
	m, err := c.env.allocate(c.env.p, "node", "cluster")
	require.NoError(c.env.t, err)
	require.Equal(c.env.t, c.machine.AllocationUUID(), m.Status.Allocation.AllocationUUID)
	return cluster
}

// release releases the machine, and then the cluster.
func (c *crdProviderCluster) release() {
	c.env.t.Helper()
	_, err := c.env.release(c.env.p, "node")
	require.NoError(c.env.t, err)
	c.env.releaseClusterUntilDone()
}

// free has another client free a machine.
func (c *crdProviderCluster) free(m *metal.Machine) {
	c.env.t.Helper()
	_, err := c.env.client.FreeMachine(c.env.context(), m.ID)
	require.NoError(c.env.t, err)
}

// adoptedIDs are the ids under which such a cluster is adopted: of its network, as the
// migration guide says, or what the network's label says.
func (c *crdProviderCluster) adoptedIDs() map[string]struct{ spec, id string } {
	return map[string]struct{ spec, id string }{
		"the network's id":    {c.network, c.network},
		"the network's label": {"", formerID},
	}
}

func TestReleaseCluster_OfCRDProviderFreesItsServiceAddressesOnly(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"the network's id", "the network's label"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			c := env.crdProviderCluster()
			ids := c.adoptedIDs()[name]
			cluster := c.adopt(ids.spec)
			require.Equal(t, ids.id, infrastructure.ClusterID(cluster))
			other := map[string]string{c.network: formerID, formerID: c.network}[ids.id]
			c.free(c.another)
			for _, test := range []struct {
				what, kind string
				tags       []string
				want       []string // nil: freed
			}{
				{"of a Service", metal.TypeEphemeral, []string{serviceTag(ids.id, "web")}, nil},
				{"that no Service has any more", metal.TypeEphemeral, []string{metal.Tag(metal.TagCluster, ids.id)}, nil},
				{"of a Service by the other id", metal.TypeEphemeral, []string{serviceTag(other, "web")}, []string{serviceTag(other, "web")}},
				{"of a Service by both", metal.TypeEphemeral, []string{serviceTag(ids.id, "web"), serviceTag(other, "web")}, []string{serviceTag(other, "web")}},
				{"of a cluster whose name begins likewise", metal.TypeEphemeral, []string{serviceTag(ids.id+"2", "web")}, []string{serviceTag(ids.id+"2", "web")}},
				{"static", metal.TypeStatic, []string{serviceTag(ids.id, "web")}, []string{}},
			} {
				address := env.serviceAddress(simulator.ProjectA, test.kind, test.tags...)
				defer func() { assert.Equal(t, test.want, env.tagsOfAddress(address), test.what) }()
			}
			before := env.tagsOfAddress(c.address)
			c.release()
			assert.Equal(t, before, env.tagsOfAddress(c.address), "the control plane's address was adopted")
			inventory := env.sim.Inventory()
			assert.True(t, slices.ContainsFunc(inventory.Networks, func(n simulator.NetworkState) bool { return n.ID == c.network }), "so was the network")
			assert.Equal(t, c.firewall.AllocationUUID(), env.machineState(c.firewall.ID).AllocationUUID, "no record has the firewall")
		})
	}
}

// Machines that were not adopted run the cluster's Services, whichever of its ids they carry.
func TestReleaseCluster_OfCRDProviderKeepsServiceAddressesWhileItsMachinesRun(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"the network's id", "the network's label"} {
		for _, carries := range []string{"the network's id", "the network's label", "another cluster's id", "none"} {
			t.Run(name+", and the machine has "+carries, func(t *testing.T) {
				t.Parallel()
				env := newEnvironment(t)
				c := env.crdProviderCluster()
				ids := c.adoptedIDs()[name]
				c.adopt(ids.spec)
				tags := map[string][]string{
					"the network's id":     {metal.Tag(metal.TagCluster, c.network)},
					"the network's label":  {metal.Tag(metal.TagCluster, formerID)},
					"another cluster's id": {metal.Tag(metal.TagCluster, formerID+"2")},
				}[carries]
				c.free(c.another)
				left, err := env.client.AllocateMachine(env.context(), metal.MachineRequest{
					Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Size: simulator.SmallSize, Image: simulator.MachineImage,
					Name: "left", Hostname: "left", Networks: []string{c.network}, Tags: tags,
				})
				require.NoError(t, err)
				tag := serviceTag(ids.id, "web")
				address := env.serviceAddress(simulator.ProjectA, metal.TypeEphemeral, tag)
				c.release()
				if carries == "another cluster's id" || carries == "none" {
					assert.Nil(t, env.tagsOfAddress(address))
				} else {
					assert.Equal(t, []string{tag}, env.tagsOfAddress(address))
				}
				assert.Equal(t, left.AllocationUUID(), env.machineState(left.ID).AllocationUUID)
			})
		}
	}
}

// An address that is adopted for the control plane is kept, also if it is ephemeral and has
// only tags by which one of a Service would be freed.
func TestReleaseCluster_KeepsControlPlaneAddressThatLooksLikeOneOfAService(t *testing.T) {
	t.Parallel()
	for name, provider := range map[string]infrastructure.EndpointProvider{"adopted": "", "of a hosted control plane": infrastructure.EndpointOfControlPlane} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			const id = "rose"
			own, service := metal.Tag(metal.TagCluster, id), serviceTag(id, "web")
			address := env.serviceAddress(simulator.ProjectA, metal.TypeEphemeral, own, service)
			env.allocatedCluster("cluster", func(c *infrastructure.MetalStackCluster) {
				c.Spec.ClusterID, c.Spec.ControlPlaneEndpoint.Host, c.Spec.ControlPlaneEndpointProvider = id, address, provider
			})
			env.releaseClusterUntilDone()
			assert.Equal(t, []string{own}, env.tagsOfAddress(address))
		})
	}
}

// sharedNetworks is a metal-api all of whose networks are shared.
type sharedNetworks struct{ Metal }

func (m sharedNetworks) FindNetworks(ctx context.Context, q metal.NetworkQuery) ([]*metal.Network, error) {
	found, err := m.Metal.FindNetworks(ctx, q)
	for _, n := range found {
		n.Shared = true
	}
	return found, err
}

// In a network that clusters share, machines with its id may be of another one.
func TestReleaseCluster_FreesServiceAddressesInSharedNetwork(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.p = env.newProtocolWith(sharedNetworks{env.client})
	c := env.crdProviderCluster()
	c.adopt(formerID)
	address := env.serviceAddress(simulator.ProjectA, metal.TypeEphemeral, serviceTag(formerID, "web"))
	c.release()
	assert.Nil(t, env.tagsOfAddress(address))
	assert.Equal(t, c.another.AllocationUUID(), env.machineState(c.another.ID).AllocationUUID)
}

// The address of a control plane is not freed as one of a Service, whichever cluster's it is.
func TestServiceAddresses_OfControlPlanesAreNotFreed(t *testing.T) {
	t.Parallel()
	for _, whose := range []string{"its own", "another cluster's"} {
		t.Run(whose, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			const id = "rose"
			own, service := metal.Tag(metal.TagCluster, id), serviceTag(id, "web")
			address := env.serviceAddress(simulator.ProjectA, metal.TypeEphemeral, own, service)
			names := func(c *infrastructure.MetalStackCluster) { c.Spec.ControlPlaneEndpoint.Host = address }
			c := env.allocatedCluster("cluster", func(c *infrastructure.MetalStackCluster) {
				if c.Spec.ClusterID = id; whose == "its own" {
					names(c)
				}
			})
			if whose != "its own" {
				env.allocatedCluster("lily", names)
			}
			_, err := env.p.FreeServiceAddress(env.context(), nameOf(c), address)
			require.Equal(t, metal.Refused, metal.KindOf(err), "%v", err)
			require.ErrorContains(t, err, "is in use by a control plane")
			env.releaseClusterUntilDone()
			assert.Equal(t, []string{own}, env.tagsOfAddress(address))
		})
	}
}

// The control plane of a hosted cluster may be a Service of another cluster.
func TestFreeServiceAddress_OfHostedControlPlane(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	c := env.allocatedCluster("cluster")
	ip, err := env.p.AllocateServiceAddress(env.context(), nameOf(c), requestFor(c, "lily"))
	require.NoError(t, err)
	env.allocatedCluster("lily", func(c *infrastructure.MetalStackCluster) {
		c.Spec.ControlPlaneEndpoint.Host, c.Spec.ControlPlaneEndpointProvider = ip.Address, infrastructure.EndpointOfControlPlane
	})
	_, err = env.p.FreeServiceAddress(env.context(), nameOf(c), ip.Address)
	require.NoError(t, err)
	assert.Nil(t, env.tagsOfAddress(ip.Address))
}
