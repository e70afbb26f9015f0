// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// hosted is a cluster whose control plane's provider brings the endpoint, and has not yet.
func hosted(c *infrastructure.MetalStackCluster) {
	c.Spec.ControlPlaneEndpointProvider = infrastructure.EndpointOfControlPlane
	c.Spec.ControlPlaneEndpoint = infrastructure.APIEndpoint{}
	c.Spec.PublicNetworkID = ""
}

// stepsOfHostedClusterAllocation are those without an address.
var stepsOfHostedClusterAllocation = []string{"network/begun", "network/observed", "network/called", "network/recorded", "cluster/allocated"}

func TestAllocateCluster_HostedControlPlaneGetsNoAddress(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	_, err := env.p.AllocateCluster(WithDryRun(env.context()), teamA, env.cluster("cluster", hosted).Name, body(""))
	require.NoError(t, err)
	c, err := env.allocateCluster("cluster")
	require.NoError(t, err)
	assert.Equal(t, infrastructure.AllocationAllocated, c.Status.Allocation.Phase)
	assert.Empty(t, c.Status.Allocation.IPAddress)
	assert.Zero(t, c.Spec.ControlPlaneEndpoint)
	assert.True(t, c.Status.Ready, "Cluster API's core, and the control plane, wait for it")
	assert.Nil(t, c.Status.ControlPlaneIP)
	env.machine("node")
	_, err = env.allocate(env.p, "node", "cluster")
	require.NoError(t, err)
	env.requireReleasesAll(env.p)
	assert.Zero(t, env.sim.CallsOf("ip-allocate"))
	assert.Zero(t, env.sim.CallsOf("ip-free"))
}

// The endpoint of a hosted control plane is no metal of the cluster, whichever it is.
func TestAllocateCluster_EndpointOfHostedControlPlaneIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, project := range map[string]string{"of the project": simulator.ProjectA, "of another project": simulator.ProjectB} {
		for _, when := range []string{"before the allocation", "after it"} {
			t.Run(name+", "+when, func(t *testing.T) {
				t.Parallel()
				env := newEnvironment(t)
				ip, err := env.client.AllocateIP(env.context(), metal.IPRequest{Project: project, Network: simulator.InternetNetwork, Name: "load-balancer", Type: metal.TypeStatic})
				require.NoError(t, err)
				bring := func(c *infrastructure.MetalStackCluster) {
					c.Spec.ControlPlaneEndpoint = infrastructure.APIEndpoint{Host: ip.Address, Port: 6443}
				}
				for _, cluster := range []string{"first", "second"} {
					c := env.cluster(cluster, hosted)
					if when == "before the allocation" {
						bring(c)
						env.clusters.put(t, c)
					}
					_, err = env.allocateCluster(cluster)
					require.NoError(t, err, "two control planes can share a load balancer")
					c = env.getCluster(cluster)
					bring(c)
					env.clusters.put(t, c)
					assert.Empty(t, c.Status.Allocation.IPAddress)
				}
				// It can still be adopted by a cluster whose own it is to be.
				if project == simulator.ProjectA {
					c := env.allocatedCluster("third", bring)
					assert.True(t, c.Status.Allocation.IPAdopted)
				}
				for _, cluster := range []string{"first", "second"} {
					_, err = env.releaseCluster(env.p, cluster)
					require.NoError(t, err)
				}
				assert.Zero(t, env.sim.CallsOf("ip-free"))
				found, err := env.client.FindIPs(env.context(), metal.IPQuery{Address: ip.Address})
				require.NoError(t, err)
				require.Len(t, found, 1)
				assert.Equal(t, ip.AllocationUUID, found[0].AllocationUUID)
			})
		}
	}
}

func TestAllocateCluster_HostedControlPlaneResumesAfterCrash(t *testing.T) {
	t.Parallel()
	for _, step := range stepsOfHostedClusterAllocation {
		for _, then := range []string{"allocate", "recover", "release"} {
			t.Run(step+", "+then, func(t *testing.T) {
				t.Parallel()
				env := newEnvironment(t)
				claim := env.cluster("cluster", hosted)
				reached := env.crashAt(env.p, step, 1)
				_, _ = env.allocateCluster("cluster")
				require.True(t, reached())
				// The endpoint arrives meanwhile.
				c := env.getCluster("cluster")
				c.Spec.ControlPlaneEndpoint = infrastructure.APIEndpoint{Host: "192.0.2.1", Port: 6443}
				env.clusters.put(t, c)
				next := env.newProtocol()
				switch then {
				case "allocate":
					var err error
					env.whileClockAdvances(func() { _, err = next.AllocateCluster(env.context(), teamA, "cluster", body("")) })
					require.NoError(t, err)
				case "recover":
					env.reconcileUntil(NewRecoverer(next), func() bool {
						return env.getCluster("cluster").Status.Allocation.Phase != infrastructure.AllocationAllocating
					})
				}
				if then != "release" {
					assert.Equal(t, infrastructure.AllocationAllocated, env.getCluster("cluster").Status.Allocation.Phase)
					assert.Equal(t, "192.0.2.1", env.getCluster("cluster").Spec.ControlPlaneEndpoint.Host)
				}
				env.requireReleasesAll(next)
				assert.LessOrEqual(t, env.sim.Inventory().Allocations(uidTag(claim.UID)), 1)
				assert.Zero(t, env.sim.CallsOf("ip-allocate"))
			})
		}
	}
}

// What was allocated is released as the record says, whatever the spec says by then: it
// can change between its being read and the first attempt's being recorded.
func TestReleaseCluster_FreesAddressOfClusterThatBecameHosted(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"", "address/called", "address/recorded"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			claim := env.cluster("cluster")
			env.p.onCrashPoint = func(reached string) {
				if reached == "network/begun" {
					c := env.getCluster("cluster")
					c.Spec.ControlPlaneEndpointProvider = infrastructure.EndpointOfControlPlane
					env.clusters.put(t, c)
				}
			}
			if step != "" {
				change, reached := env.p.onCrashPoint, env.crashAt(env.p, step, 1)
				crash := env.p.onCrashPoint
				env.p.onCrashPoint = func(at string) {
					change(at)
					crash(at)
				}
				_, _ = env.allocateCluster("cluster")
				require.True(t, reached())
			} else {
				_, err := env.allocateCluster("cluster")
				require.NoError(t, err)
			}
			require.Equal(t, 1, env.sim.CallsOf("ip-allocate"))
			env.requireReleasesAll(env.newProtocol())
			assert.Equal(t, 2, env.sim.Inventory().Frees(uidTag(claim.UID)))
		})
	}
}
