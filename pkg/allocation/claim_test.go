// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestAllocateNetwork_AllocatesOnce(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	claim := env.network("shared", func(n *infrastructure.MetalStackNetwork) {
		n.Spec.Addresses = &infrastructure.PrivateNetwork{PrefixLengths: infrastructure.PrefixLengths{IPv4: 26}, AddressFamilies: []string{"IPv4"}}
	})
	n, err := env.allocateNetwork(env.p, "shared")
	require.NoError(t, err)
	again, err := env.allocateNetwork(env.p, "shared")
	require.NoError(t, err)
	assert.Equal(t, n.Status.Allocation, again.Status.Allocation)
	assert.Equal(t, infrastructure.AllocationAllocated, n.Status.Allocation.Phase)
	assert.Equal(t, n.Status.Allocation.NetworkID, n.Spec.NetworkID, "a move carries the spec")
	assert.False(t, n.Status.Allocation.Adopted)
	ipv4, ipv6 := env.lengthsOf(n.Spec.NetworkID)
	assert.Equal(t, []int{26, 0}, []int{ipv4, ipv6})
	found, err := env.client.FindNetworks(env.context(), metal.NetworkQuery{ID: n.Spec.NetworkID})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{
		metal.TagUID: string(claim.UID), metal.TagNamespace: teamA, metal.TagName: "shared",
		metal.TagKind: "MetalStackNetwork", metal.TagManagementCluster: managementCluster,
	}, found[0].Labels, "no cluster id")
	assert.Equal(t, 1, env.sim.Inventory().Allocations(uidTag(claim.UID)))
	_, err = env.releaseNetwork(env.p, "shared")
	require.NoError(t, err)
	env.requireNothingAllocated()
	assert.Equal(t, 1, env.sim.Inventory().Frees(uidTag(claim.UID)))
}

func TestAllocateIP_AllocatesOnce(t *testing.T) {
	t.Parallel()
	for name, spec := range map[string]func(*infrastructure.MetalStackIP){
		"any":      func(*infrastructure.MetalStackIP) {},
		"specific": namesAddress("203.0.113.177"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			claim := env.ip("address", spec)
			i, err := env.allocateIP(env.p, "address")
			require.NoError(t, err)
			again, err := env.allocateIP(env.p, "address")
			require.NoError(t, err)
			assert.Equal(t, i.Status.Allocation, again.Status.Allocation)
			if claim.Spec.Address != "" {
				assert.Equal(t, claim.Spec.Address, i.Status.Allocation.Address)
			}
			assert.Equal(t, i.Status.Allocation.Address, i.Spec.Address)
			found, err := env.client.FindIPs(env.context(), metal.IPQuery{Address: i.Spec.Address})
			require.NoError(t, err)
			require.Len(t, found, 1)
			assert.Equal(t, metal.TypeStatic, found[0].Type)
			assert.Equal(t, i.Status.Allocation.AllocationUUID, found[0].AllocationUUID)
			assert.Equal(t, 1, env.sim.Inventory().Allocations(uidTag(claim.UID)))
			_, err = env.releaseIP(env.p, "address")
			require.NoError(t, err)
			env.requireNothingAllocated()
		})
	}
}

// A refusal names the field that it is about.
func TestAllocateClaim_RefusesField(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	foreign, err := env.sim.AllocateIPFor(simulator.ProjectB, simulator.InternetNetwork, "b", nil)
	require.NoError(t, err)
	foreignNetwork, err := env.sim.AllocateNetworkFor(simulator.ProjectB, simulator.DefaultPartition, "b", nil)
	require.NoError(t, err)
	ephemeral := env.serviceAddress(simulator.ProjectA, metal.TypeEphemeral)
	ipv4Only := env.allocatedNetwork("ipv4", func(n *infrastructure.MetalStackNetwork) {
		n.Spec.Addresses = &infrastructure.PrivateNetwork{AddressFamilies: []string{"IPv4"}}
	})
	for name, c := range map[string]struct {
		spec  func(*infrastructure.MetalStackIP)
		field string
	}{
		"address of another project": {namesAddress(foreign), "spec.address"},
		"address outside":            {namesAddress("192.0.2.7"), "spec.address"},
		"ephemeral address":          {namesAddress(ephemeral), "spec.address"},
		"network of another project": {func(i *infrastructure.MetalStackIP) { i.Spec.NetworkID = foreignNetwork }, "spec.networkID"},
		"address family": {func(i *infrastructure.MetalStackIP) {
			i.Spec.NetworkID, i.Spec.AddressFamily = ipv4Only.Spec.NetworkID, "IPv6"
		}, "spec.addressFamily"},
	} {
		env.ip("address", c.spec)
		_, err := env.allocateIP(env.p, "address")
		require.True(t, apierrors.IsInvalid(err), "%s: %v", name, err)
		assert.Contains(t, err.Error(), c.field, name)
		assert.NotContains(t, err.Error(), simulator.ProjectB, name)
		i, err := env.ips.Get(env.context(), teamA, "address")
		require.NoError(t, err)
		assert.Equal(t, infrastructure.ReasonAllocationRefused, meta.FindStatusCondition(i.Status.Conditions, infrastructure.ConditionAllocated).Reason, name)
	}
	for name, c := range map[string]struct{ id, field string }{
		"network of another project": {foreignNetwork, "spec.networkID"},
		"public network":             {simulator.InternetNetwork, "spec.networkID"},
	} {
		env.network("network", namesNetwork(c.id))
		_, err := env.allocateNetwork(env.p, "network")
		require.True(t, apierrors.IsInvalid(err), "%s: %v", name, err)
		assert.Contains(t, err.Error(), c.field, name)
	}
}

func TestAllocateClaim_LostAnswerAllocatesOnce(t *testing.T) {
	t.Parallel()
	for name, spec := range map[string]func(*infrastructure.MetalStackIP){
		"any": func(*infrastructure.MetalStackIP) {}, "specific": namesAddress("203.0.113.177"),
	} {
		for _, kind := range []simulator.FaultKind{simulator.FaultCommitThenLose, simulator.FaultStatus} {
			t.Run(name+" "+string(kind), func(t *testing.T) {
				t.Parallel()
				env := newEnvironment(t)
				claim := env.ip("address", spec)
				env.sim.Inject(simulator.Fault{Endpoint: "ip-allocate", Kind: kind, Status: http.StatusBadGateway, Message: "bad gateway", Times: 1})
				_, err := env.allocateIP(env.p, "address")
				require.NoError(t, err)
				assert.Equal(t, 1, env.sim.Inventory().Allocations(uidTag(claim.UID)))
				env.releaseClaims(env.p)
				env.requireNothingAllocated()
			})
		}
	}
	t.Run("network", func(t *testing.T) {
		t.Parallel()
		env := newEnvironment(t)
		claim := env.network("network")
		env.sim.Inject(simulator.Fault{Endpoint: "network-allocate", Kind: simulator.FaultCommitThenLose, Times: 1})
		_, err := env.allocateNetwork(env.p, "network")
		require.NoError(t, err)
		assert.Equal(t, 1, env.sim.Inventory().Allocations(uidTag(claim.UID)))
		env.releaseClaims(env.p)
		env.requireNothingAllocated()
	})
}

// What exists already is adopted, and kept.
func TestAllocateClaim_AdoptsAndKeeps(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	network, err := env.sim.AllocateNetworkFor(simulator.ProjectA, simulator.DefaultPartition, "by-hand", nil)
	require.NoError(t, err)
	address := env.serviceAddress(simulator.ProjectA, metal.TypeStatic)
	n := env.allocatedNetwork("network", namesNetwork(network))
	i := env.allocatedIP("address", namesAddress(address))
	assert.True(t, n.Status.Allocation.Adopted)
	assert.True(t, i.Status.Allocation.Adopted)
	for _, name := range []string{"network", "address"} {
		env.network("second-"+name, namesNetwork(network))
		env.ip("second-"+name, namesAddress(address))
	}
	_, err = env.allocateNetwork(env.p, "second-network")
	require.ErrorContains(t, err, "belongs to another MetalStackNetwork")
	_, err = env.allocateIP(env.p, "second-address")
	require.ErrorContains(t, err, "belongs to another MetalStackIP")
	_, err = env.releaseNetwork(env.p, "network")
	require.NoError(t, err)
	_, err = env.releaseIP(env.p, "address")
	require.NoError(t, err)
	assert.Equal(t, simulator.ProjectA, env.projectOfNetwork(network))
	assert.NotNil(t, env.tagsOfAddress(address))
}

// What a cluster allocated is released with it: no claim has it, whatever their names are.
func TestAllocateClaim_RefusesWhatClusterAllocated(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	c := env.allocatedCluster("same")
	env.network("same", namesNetwork(c.Spec.PrivateNetworkID))
	env.ip("same", namesAddress(c.Spec.ControlPlaneEndpoint.Host))
	_, err := env.allocateNetwork(env.p, "same")
	require.ErrorContains(t, err, "was allocated for a MetalStackCluster")
	_, err = env.allocateIP(env.p, "same")
	require.ErrorContains(t, err, "was allocated for a MetalStackCluster")
}

// A claim that was moved, or restored from a backup, names what was its own, and frees it.
func TestAllocateClaim_MovedClaimHasItsOwnAgain(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	n, i := env.allocatedNetwork("claim"), env.allocatedIP("claim")
	env.networks.remove(n)
	env.ips.remove(i)
	moved, address := env.allocatedNetwork("claim", namesNetwork(n.Spec.NetworkID)), env.allocatedIP("claim", namesAddress(i.Spec.Address))
	assert.False(t, moved.Status.Allocation.Adopted)
	assert.False(t, address.Status.Allocation.Adopted)
	assert.Equal(t, n.UID, moved.Status.Allocation.UID)
	env.releaseClaims(env.p)
	env.requireNothingAllocated()
}

// A cluster of the claim's name does not take what the claim has for its own.
func TestAllocateCluster_OfTheClaimsNameFreesNothing(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	n, i := env.allocatedNetwork("same"), env.allocatedIP("same")
	c := env.allocatedCluster("same", func(c *infrastructure.MetalStackCluster) {
		c.Spec.PrivateNetworkID, c.Spec.ControlPlaneEndpoint.Host = n.Spec.NetworkID, i.Spec.Address
	})
	assert.True(t, c.Status.Allocation.NetworkAdopted)
	assert.True(t, c.Status.Allocation.IPAdopted)
	_, err := env.releaseCluster(env.p, "same")
	require.NoError(t, err)
	assert.NotNil(t, env.tagsOfAddress(i.Spec.Address))
	assert.Equal(t, simulator.ProjectA, env.projectOfNetwork(n.Spec.NetworkID))
}

// Several clusters have the network of a claim, each with an id of its own.
func TestAllocateCluster_SeveralHaveNetworkOfClaim(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	adopted, err := env.sim.AllocateNetworkFor(simulator.ProjectA, simulator.DefaultPartition, "by-hand", map[string]string{metal.TagCluster: "old"})
	require.NoError(t, err)
	for name, spec := range map[string]func(*infrastructure.MetalStackNetwork){
		"allocated": func(*infrastructure.MetalStackNetwork) {}, "adopted": namesNetwork(adopted),
	} {
		n := env.allocatedNetwork(name, spec)
		inNetwork := func(c *infrastructure.MetalStackCluster) { c.Spec.PrivateNetworkID = n.Spec.NetworkID }
		first, second := env.allocatedCluster(name+"-1", inNetwork), env.allocatedCluster(name+"-2", inNetwork)
		assert.NotEqual(t, infrastructure.ClusterID(first), infrastructure.ClusterID(second))
		assert.True(t, second.Status.Allocation.NetworkAdopted)
		ip, err := env.p.AllocateServiceAddress(env.context(), nameOf(second), metal.IPRequest{
			Network: n.Spec.NetworkID, Type: metal.TypeEphemeral, Tags: []string{serviceTag(infrastructure.ClusterID(second), "web")},
		})
		require.NoError(t, err)
		require.NotEmpty(t, ip.Address)
		held, err := env.p.HoldsNetwork(env.context(), teamA, n.Spec.NetworkID)
		require.NoError(t, err)
		assert.True(t, held)
		_, err = env.releaseCluster(env.p, name+"-2")
		require.NoError(t, err)
		if name == "allocated" {
			_, err = env.releaseNetwork(env.p, name)
			requireInUse(t, err, "MetalStackCluster allocated-1")
			assert.Equal(t, infrastructure.AllocationAllocated, env.networkPhase(name), "it can still be used")
		}
		_, err = env.releaseCluster(env.p, name+"-1")
		require.NoError(t, err)
		_, err = env.releaseNetwork(env.p, name)
		require.NoError(t, err)
	}
	assert.Equal(t, simulator.ProjectA, env.projectOfNetwork(adopted), "what was adopted is kept")
}

// A network of a claim whose release has begun is for nothing new.
func TestReleaseNetwork_ExcludesNewUsers(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	c := env.allocatedCluster("running")
	n := env.allocatedNetwork("network")
	reached := env.crashAt(env.p, "network-claim/releasing", 1)
	_, err := env.releaseNetwork(env.p, "network")
	require.Error(t, err)
	require.True(t, reached())
	next := env.newProtocol()
	env.cluster("cluster", func(c *infrastructure.MetalStackCluster) { c.Spec.PrivateNetworkID = n.Spec.NetworkID })
	env.whileClockAdvances(func() { _, err = next.AllocateCluster(env.context(), teamA, "cluster", body("")) })
	require.ErrorContains(t, err, "is being released")
	env.machine("node", func(m *infrastructure.MetalStackMachine) { m.Spec.Networks = []string{n.Spec.NetworkID} })
	_, err = env.allocate(next, "node", "")
	require.ErrorContains(t, err, "is being released")
	env.ip("address", func(i *infrastructure.MetalStackIP) { i.Spec.NetworkID = n.Spec.NetworkID })
	_, err = env.allocateIP(next, "address")
	require.ErrorContains(t, err, "is being released")
	_, err = next.AllocateServiceAddress(env.context(), nameOf(c), metal.IPRequest{
		Network: n.Spec.NetworkID, Type: metal.TypeEphemeral, Tags: []string{serviceTag(infrastructure.ClusterID(c), "web")},
	})
	require.ErrorContains(t, err, "is being released")
	env.clusters.remove(env.getCluster("cluster"))
	_, err = env.releaseNetwork(next, "network")
	require.NoError(t, err)
}

func TestReleaseNetwork_WaitsForMachinesAndAddresses(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	n := env.allocatedNetwork("network")
	env.machine("node", func(m *infrastructure.MetalStackMachine) { m.Spec.Networks = []string{n.Spec.NetworkID} })
	_, err := env.allocate(env.p, "node", "")
	require.NoError(t, err)
	_, err = env.releaseNetwork(env.p, "network")
	requireInUse(t, err, "1 machine")
	_, err = env.release(env.p, "node")
	require.NoError(t, err)
	env.allocatedIP("address", func(i *infrastructure.MetalStackIP) { i.Spec.NetworkID = n.Spec.NetworkID })
	env.advance(time.Minute)
	_, err = env.releaseNetwork(env.p, "network")
	require.True(t, apierrors.IsConflict(err), "%v", err)
	require.ErrorContains(t, err, "has 1 allocated address,")
	env.releaseClaims(env.p)
	env.requireNothingAllocated()
}

func TestReleaseIP_WaitsForUsers(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	i := env.allocatedIP("address")
	address := i.Spec.Address
	env.cluster("naming", func(c *infrastructure.MetalStackCluster) { c.Spec.ControlPlaneEndpoint.Host = address })
	_, err := env.releaseIP(env.p, "address")
	requireInUse(t, err, "MetalStackCluster naming")
	env.clusters.remove(env.getCluster("naming"))
	env.firewalls.put(t, &infrastructure.MetalStackFirewall{ObjectMeta: env.meta(teamA, "fw"), Spec: infrastructure.MetalStackFirewallSpec{
		Controller: &infrastructure.FirewallController{EgressIPs: []infrastructure.FirewallEgressIPs{{NetworkID: simulator.InternetNetwork, IPs: []string{address}}}},
	}})
	_, err = env.releaseIP(env.p, "address")
	requireInUse(t, err, "MetalStackFirewall fw")
	fw, err := env.firewalls.Get(env.context(), teamA, "fw")
	require.NoError(t, err)
	env.firewalls.remove(fw)
	tags := env.tagsOfAddress(address)
	for _, user := range []string{metal.Tag(metal.TagMachine, "m1"), serviceTag("c1", "web")} {
		_, err = env.client.SetIPTags(env.context(), address, append(tags[:len(tags):len(tags)], user))
		require.NoError(t, err)
		_, err = env.releaseIP(env.p, "address")
		require.True(t, apierrors.IsConflict(err), "%v", err)
		require.ErrorContains(t, err, "is in use by")
		assert.Equal(t, infrastructure.AllocationAllocated, env.ipPhase("address"))
	}
	_, err = env.client.SetIPTags(env.context(), address, tags)
	require.NoError(t, err)
	_, err = env.releaseIP(env.p, "address")
	require.NoError(t, err)
	env.requireNothingAllocated()
}

// An address that was freed and allocated again is another one.
func TestReleaseIP_KeepsAnotherAllocation(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	i := env.allocatedIP("address")
	tags := env.tagsOfAddress(i.Spec.Address)
	_, err := env.client.FreeIP(env.context(), i.Spec.Address)
	require.NoError(t, err)
	_, err = env.client.AllocateIP(env.context(), metal.IPRequest{Address: i.Spec.Address, Project: simulator.ProjectA, Network: simulator.InternetNetwork, Type: metal.TypeStatic, Tags: tags})
	require.NoError(t, err)
	i, err = env.releaseIP(env.p, "address")
	require.NoError(t, err)
	assert.Equal(t, infrastructure.ReasonOwnershipMismatch, meta.FindStatusCondition(i.Status.Conditions, infrastructure.ConditionAllocated).Reason)
}

// Services may have the address of a claim, and none that a control plane has.
func TestSetServicesOfAddress_AddressOfClaim(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	c := env.allocatedCluster("cluster")
	i, endpoint := env.allocatedIP("service"), env.allocatedIP("endpoint")
	env.allocatedCluster("other", func(c *infrastructure.MetalStackCluster) { c.Spec.ControlPlaneEndpoint.Host = endpoint.Spec.Address })
	web := serviceTag(infrastructure.ClusterID(c), "web")
	ip, err := env.p.SetServicesOfAddress(env.context(), nameOf(c), i.Spec.Address, append(env.tagsOfAddress(i.Spec.Address), web))
	require.NoError(t, err)
	assert.Contains(t, ip.Tags, web)
	assert.Contains(t, ip.Tags, uidTag(i.UID), "the identity is kept")
	_, err = env.p.SetServicesOfAddress(env.context(), nameOf(c), endpoint.Spec.Address, []string{web})
	require.ErrorContains(t, err, "control plane")
	_, err = env.p.SetServicesOfAddress(env.context(), nameOf(c), c.Spec.ControlPlaneEndpoint.Host, []string{web})
	require.ErrorContains(t, err, "control plane")
	_, err = env.releaseIP(env.p, "service")
	requireInUse(t, err, "Service default/web")
	_, err = env.releaseCluster(env.p, "cluster")
	require.NoError(t, err, "it takes the tags of its Services off")
	reached := env.crashAt(env.p, "ip-claim/releasing", 1)
	_, err = env.releaseIP(env.p, "service")
	require.Error(t, err)
	require.True(t, reached())
	next := env.newProtocol()
	env.p = next
	late := env.allocatedCluster("late")
	_, err = next.SetServicesOfAddress(env.context(), nameOf(late), i.Spec.Address, []string{serviceTag(infrastructure.ClusterID(late), "web")})
	require.ErrorContains(t, err, "is being released")
	_, err = env.releaseIP(next, "service")
	require.NoError(t, err)
}

func TestReleaseClaim_LostTagIsRefused(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	i := env.allocatedIP("address")
	_, err := env.client.SetIPTags(env.context(), i.Spec.Address, nil)
	require.NoError(t, err)
	_, err = env.releaseIP(env.p, "address")
	require.ErrorContains(t, err, "restore the tag")
	assert.NotNil(t, env.tagsOfAddress(i.Spec.Address))
}

// A dry run answers as the operation would, and changes nothing.
func TestDryRun_OfClaims(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.network("network")
	env.ip("address")
	env.ip("outside", namesAddress("192.0.2.7"))
	ctx := WithDryRun(env.context())
	_, err := env.p.AllocateNetwork(ctx, teamA, "network", body(""))
	require.NoError(t, err)
	_, err = env.p.AllocateIP(ctx, teamA, "address", body(""))
	require.NoError(t, err)
	_, err = env.p.AllocateIP(ctx, teamA, "outside", body(""))
	require.ErrorContains(t, err, "spec.address")
	env.requireNothingAllocated()
	assert.Empty(t, env.networkPhase("network"))
	n, err := env.allocateNetwork(env.p, "network")
	require.NoError(t, err)
	_, err = env.p.ReleaseNetwork(ctx, teamA, "network", "")
	require.NoError(t, err)
	env.cluster("cluster", func(c *infrastructure.MetalStackCluster) { c.Spec.PrivateNetworkID = n.Spec.NetworkID })
	_, err = env.p.ReleaseNetwork(ctx, teamA, "network", "")
	requireInUse(t, err, "MetalStackCluster cluster")
	assert.Equal(t, infrastructure.AllocationAllocated, env.networkPhase("network"))
}
