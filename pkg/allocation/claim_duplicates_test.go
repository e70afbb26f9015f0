// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// duplicates make a second network and address with the identity of claims.
func (env *environment) duplicates(n *infrastructure.MetalStackNetwork, i *infrastructure.MetalStackIP) (network, address string) {
	env.t.Helper()
	labels := env.p.identityLabels(identity{uid: n.UID, namespace: n.Namespace, name: n.Name, kind: networkKind})
	network, err := env.sim.AllocateNetworkFor(simulator.ProjectA, simulator.DefaultPartition, "late", labels)
	require.NoError(env.t, err)
	tags := env.p.identityTags(identity{uid: i.UID, namespace: i.Namespace, name: i.Name, kind: ipKind})
	address, err = env.sim.AllocateIPFor(simulator.ProjectA, simulator.InternetNetwork, "late", tags)
	require.NoError(env.t, err)
	return network, address
}

// What a lost call allocated late is freed with the claim, unless something uses it.
func TestReleaseClaim_DuplicateInUseIsKept(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	n, i := env.allocatedNetwork("claim"), env.allocatedIP("claim")
	network, address := env.duplicates(n, i)
	c := env.cluster("naming", func(c *infrastructure.MetalStackCluster) {
		c.Spec.PrivateNetworkID, c.Spec.ControlPlaneEndpoint.Host = network, address
	})
	_, err := env.releaseNetwork(env.p, "claim")
	requireInUse(t, err, "MetalStackCluster naming")
	_, err = env.releaseIP(env.p, "claim")
	requireInUse(t, err, "MetalStackCluster naming")
	assert.Equal(t, simulator.ProjectA, env.projectOfNetwork(network))
	assert.NotNil(t, env.tagsOfAddress(address))
	assert.Nil(t, env.tagsOfAddress(i.Spec.Address))
	_, err = env.allocateCluster("naming")
	require.ErrorContains(t, err, "released")
	env.clusters.remove(c)
	env.advance(time.Minute)
	env.releaseClaims(env.p)
	env.requireNothingAllocated()
}

func TestReleaseClaim_DuplicateIsFreedOnceAfterCrash(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"recorded", "free-begun", "free-observed", "freed"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			n, i := env.allocatedNetwork("claim"), env.allocatedIP("claim")
			env.duplicates(n, i)
			for what, release := range map[string]func(p *Protocol) error{
				"network": func(p *Protocol) error { _, err := env.releaseNetwork(p, "claim"); return err },
				"address": func(p *Protocol) error { _, err := env.releaseIP(p, "claim"); return err },
			} {
				p, point, nth := env.newProtocol(), what+"/"+step, 2
				if step == "recorded" {
					point, nth = map[string]string{"network": "network-claim/", "address": "ip-claim/"}[what]+step, 1
				}
				reached := env.crashAt(p, point, nth)
				require.Error(t, release(p))
				require.True(t, reached(), point)
				require.NoError(t, release(env.newProtocol()))
			}
			assert.Equal(t, 2, env.sim.Inventory().Frees(uidTag(n.UID)))
			assert.Equal(t, 2, env.sim.Inventory().Frees(uidTag(i.UID)))
			env.requireNothingAllocated()
		})
	}
}

// movedClaim is a claim that names what it had, as a new object. A cluster has it.
func movedClaim(t *testing.T, env *environment) {
	n, i := env.allocatedNetwork("claim"), env.allocatedIP("claim")
	env.allocatedCluster("user", func(c *infrastructure.MetalStackCluster) {
		c.Spec.PrivateNetworkID, c.Spec.ControlPlaneEndpoint.Host = n.Spec.NetworkID, i.Spec.Address
	})
	env.networks.remove(n)
	env.ips.remove(i)
	env.network("claim", namesNetwork(n.Spec.NetworkID))
	env.ip("claim", namesAddress(i.Spec.Address))
}

// What a claim that was moved has again is not freed while a cluster has it, wherever its
// adoption stopped.
func TestReleaseClaim_AfterAdoptionCrashed(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"network", "address"} {
		for _, step := range []string{"begun", "allocated"} {
			t.Run(kind+" "+step, func(t *testing.T) {
				t.Parallel()
				env := newEnvironment(t)
				movedClaim(t, env)
				allocate := func(p *Protocol) error { _, err := env.allocateNetwork(p, "claim"); return err }
				release := func(p *Protocol) error { _, err := env.releaseNetwork(p, "claim"); return err }
				point := map[string]string{"begun": "network/begun", "allocated": "network-claim/allocated"}[step]
				if kind == "address" {
					allocate = func(p *Protocol) error { _, err := env.allocateIP(p, "claim"); return err }
					release = func(p *Protocol) error { _, err := env.releaseIP(p, "claim"); return err }
					point = map[string]string{"begun": "address/begun", "allocated": "ip-claim/allocated"}[step]
				}
				reached := env.crashAt(env.p, point, 1)
				require.Error(t, allocate(env.p))
				require.True(t, reached())
				next := env.newProtocol()
				requireInUse(t, release(next), "MetalStackCluster user")
				env.advance(time.Minute)
				_, err := env.releaseCluster(next, "user")
				require.NoError(t, err)
				require.NoError(t, release(next))
				inventory := env.sim.Inventory()
				for _, n := range inventory.Networks {
					require.True(t, n.Project == "" || kind != "network", "network %s is left", n.ID)
				}
				for _, ip := range inventory.IPs {
					require.True(t, ip.Project == "" || kind != "address", "address %s is left", ip.Address)
				}
			})
		}
	}
}
