// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func withClusterID(id string) func(*infrastructure.MetalStackCluster) {
	return func(c *infrastructure.MetalStackCluster) { c.Spec.ClusterID = id }
}

// tagsOf are the tags of the machine that is allocated for an object in a cluster.
func (env *environment) tagsOf(name, cluster string, spec ...func(*infrastructure.MetalStackMachine)) []string {
	env.t.Helper()
	env.machine(name, spec...)
	m, err := env.allocate(env.p, name, cluster)
	require.NoError(env.t, err)
	return env.machineState(m.Status.Allocation.MachineID).Tags
}

func TestClusterID_IsUIDUnlessSpecified(t *testing.T) {
	t.Parallel()
	for _, specified := range []string{"", "fra.web_1"} {
		t.Run(specified, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			c := env.allocatedCluster("cluster", withClusterID(specified))
			id := string(c.UID)
			if specified != "" {
				id = specified
			}
			assert.Equal(t, id, c.Spec.ClusterID)
			assert.Equal(t, id, infrastructure.ClusterID(c))
			n, err := env.client.Network(env.context(), c.Status.Allocation.NetworkID)
			require.NoError(t, err)
			assert.Equal(t, id, n.Labels[metal.TagCluster])
			assert.Equal(t, string(c.UID), n.Labels[metal.TagUID])
			ip, err := env.client.IP(env.context(), c.Status.Allocation.IPAddress)
			require.NoError(t, err)
			assert.Contains(t, ip.Tags, metal.Tag(metal.TagCluster, id))
			assert.Contains(t, env.tagsOf("node", "cluster"), metal.Tag(metal.TagCluster, id))
		})
	}
}

func TestClusterID_SurvivesMove(t *testing.T) {
	t.Parallel()
	for name, adoptsNetwork := range map[string]bool{"network allocated": false, "network adopted": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			old := env.allocatedCluster("cluster", func(c *infrastructure.MetalStackCluster) {
				if !adoptsNetwork {
					return
				}
				n, err := env.client.AllocateNetwork(env.context(), metal.NetworkRequest{Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Name: "ours"})
				require.NoError(t, err)
				c.Spec.PrivateNetworkID = n.ID
			})
			env.clusters.remove(old)
			moved := env.allocatedCluster("cluster", func(c *infrastructure.MetalStackCluster) { c.Spec = *old.Spec.DeepCopy() })
			assert.NotEqual(t, old.UID, moved.UID)
			assert.Equal(t, string(old.UID), infrastructure.ClusterID(moved))
			assert.Contains(t, env.tagsOf("node", "cluster"), metal.Tag(metal.TagCluster, string(old.UID)))
		})
	}
}

func TestClusterID_IsThatOfAdoptedNetwork(t *testing.T) {
	t.Parallel()
	for label, id := range map[string]string{"team-a.web": "team-a.web", "not a label value": ""} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			network, err := env.sim.AllocateNetworkFor(simulator.ProjectA, simulator.DefaultPartition, "other tool's", map[string]string{metal.TagCluster: label})
			require.NoError(t, err)
			c := env.allocatedCluster("cluster", func(c *infrastructure.MetalStackCluster) { c.Spec.PrivateNetworkID = network })
			if id == "" {
				id = string(c.UID)
			}
			assert.Equal(t, id, infrastructure.ClusterID(c))
			assert.Equal(t, c.UID, c.Status.Allocation.UID, "the identity is still the object's")
			assert.Contains(t, env.tagsOf("node", "cluster"), metal.Tag(metal.TagCluster, id))
		})
	}
}

func TestClusterID_IsRefusedIfAnotherClusterHasIt(t *testing.T) {
	t.Parallel()
	for id, refused := range map[string]bool{"web": true, "web-2": false} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			env.allocatedCluster("first", withClusterID("web"))
			claim := env.cluster("second", withClusterID(id))
			_, err := env.allocateCluster("second")
			if !refused {
				require.NoError(t, err)
				return
			}
			require.True(t, apierrors.IsInvalid(err), "%v", err)
			require.ErrorContains(t, err, "spec.clusterID")
			assert.Zero(t, env.sim.Inventory().Allocations(uidTag(claim.UID)))
		})
	}
	t.Run("label of an adopted network", func(t *testing.T) {
		t.Parallel()
		env := newEnvironment(t)
		env.allocatedCluster("first", withClusterID("web"))
		network, err := env.sim.AllocateNetworkFor(simulator.ProjectA, simulator.DefaultPartition, "other", map[string]string{metal.TagCluster: "web"})
		require.NoError(t, err)
		env.cluster("second", func(c *infrastructure.MetalStackCluster) { c.Spec.PrivateNetworkID = network })
		_, err = env.allocateCluster("second")
		require.True(t, apierrors.IsInvalid(err), "%v", err)
	})
	t.Run("both wait for their allocation", func(t *testing.T) {
		t.Parallel()
		env := newEnvironment(t)
		for _, name := range []string{"first", "second"} {
			env.cluster(name, withClusterID("web"))
		}
		for _, name := range []string{"first", "second"} {
			_, err := env.allocateCluster(name)
			require.True(t, apierrors.IsInvalid(err), "%v", err)
		}
	})
	t.Run("other project", func(t *testing.T) {
		t.Parallel()
		env := newEnvironment(t)
		env.cluster("theirs", withClusterID("web"), func(c *infrastructure.MetalStackCluster) { c.Namespace = teamB })
		env.allocatedCluster("ours", withClusterID("web"))
	})
}

func TestClusterID_OfExternallyManagedClusterIsItsOwn(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	n, err := env.client.AllocateNetwork(env.context(), metal.NetworkRequest{Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Name: "external"})
	require.NoError(t, err)
	env.cluster("external", withClusterID("named-elsewhere"), func(c *infrastructure.MetalStackCluster) {
		c.Annotations = map[string]string{infrastructure.ManagedByAnnotation: "another-controller"}
		c.Spec.PrivateNetworkID = n.ID
	})
	assert.Contains(t, env.tagsOf("node", "external"), metal.Tag(metal.TagCluster, "named-elsewhere"))
}

func TestTags_SpreadEachRoleOfClusterForItself(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	c := env.allocatedCluster("cluster")
	racks := map[string]map[string]bool{}
	spread := func(role string, tags []string, rack string) {
		assert.Contains(t, tags, metal.Tag(metal.TagPlacementGroup, string(c.UID)+"."+role))
		if racks[role] == nil {
			racks[role] = map[string]bool{}
		}
		racks[role][rack] = true
	}
	controlPlane := func(m *infrastructure.MetalStackMachine) {
		m.Labels = map[string]string{infrastructure.ControlPlaneLabel: ""}
	}
	for _, name := range []string{"control-plane-1", "control-plane-2"} {
		env.machine(name, controlPlane)
	}
	for _, name := range []string{"worker-1", "worker-2"} {
		env.machine(name)
	}
	// In turns, so that the racks of all machines together say nothing about a role's.
	for _, suffix := range []string{"-1", "-2"} {
		for _, role := range []string{"control-plane", "worker"} {
			m, err := env.allocate(env.p, role+suffix, "cluster")
			require.NoError(t, err)
			state := env.machineState(m.Status.Allocation.MachineID)
			spread(role, state.Tags, state.Rack)
		}
	}
	for role, racks := range racks {
		assert.Len(t, racks, 2, role)
	}
}

func TestTags_AreThoseThatOthersRead(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.p.opts.Region = "fra"
	env.allocatedCluster("cluster")
	zone, region := metal.Tag(metal.TagZone, simulator.DefaultPartition), metal.Tag(metal.TagRegion, "fra")

	assert.Subset(t, env.tagsOf("node", "cluster"), []string{zone, region})

	specified := metal.Tag(metal.TagZone, "room-7")
	tags := env.tagsOf("specified", "cluster", func(m *infrastructure.MetalStackMachine) { m.Spec.Tags = []string{specified} })
	assert.Contains(t, tags, specified)
	assert.NotContains(t, tags, zone)

	env.firewall("firewall")
	f, err := env.p.AllocateFirewall(env.context(), teamA, "firewall", body("cluster"))
	require.NoError(t, err)
	tags = env.machineState(f.Status.Allocation.MachineID).Tags
	assert.Contains(t, tags, "firewall.metal-stack.io/managed-by=metalstack-controller-manager")
	assert.NotContains(t, tags, zone, "firewalls have no Nodes")
}
