// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// hookedMetal calls functions before finds, and instead of allocations of addresses.
type hookedMetal struct {
	Metal
	mu           sync.Mutex
	findNetworks func(found []*metal.Network)
	findIPs      func() error
	allocateIP   func(r metal.IPRequest) (*metal.IP, error)
}

func (m *hookedMetal) FindNetworks(ctx context.Context, q metal.NetworkQuery) ([]*metal.Network, error) {
	found, err := m.Metal.FindNetworks(ctx, q)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.findNetworks != nil {
		m.findNetworks(found)
	}
	return found, err
}

func (m *hookedMetal) FindIPs(ctx context.Context, q metal.IPQuery) ([]*metal.IP, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.findIPs != nil {
		if err := m.findIPs(); err != nil {
			return nil, err
		}
	}
	return m.Metal.FindIPs(ctx, q)
}

func (m *hookedMetal) AllocateIP(ctx context.Context, r metal.IPRequest) (*metal.IP, error) {
	if m.allocateIP != nil {
		return m.allocateIP(r)
	}
	return m.Metal.AllocateIP(ctx, r)
}

// at calls do once, when the server reaches a crash point for the nth time.
func at(p *Protocol, step string, nth int, do func()) {
	p.onCrashPoint = func(s string) {
		if s != step {
			return
		}
		if nth--; nth == 0 {
			do()
		}
	}
}

func ipInNetwork(id string) func(*infrastructure.MetalStackIP) {
	return func(i *infrastructure.MetalStackIP) { i.Spec.NetworkID = id }
}

// A network of a cluster whose release has begun is for nothing new.
func TestReleaseCluster_ExcludesNewUsersOfNetwork(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	network := env.allocatedCluster("cluster").Spec.PrivateNetworkID
	reached := env.crashAt(env.p, "cluster/releasing", 1)
	_, err := env.releaseCluster(env.p, "cluster")
	require.Error(t, err)
	require.True(t, reached())
	next := env.newProtocol()
	env.ip("address", ipInNetwork(network))
	_, err = env.allocateIP(next, "address")
	require.ErrorContains(t, err, "is being released")
	env.machine("node", func(m *infrastructure.MetalStackMachine) { m.Spec.Networks = []string{network} })
	_, err = env.allocate(next, "node", "")
	require.ErrorContains(t, err, "is being released")
	_, err = env.releaseCluster(next, "cluster")
	require.NoError(t, err)
	env.requireNothingAllocated()
}

// A network in which an attempt of before the release may allocate an address is not freed.
func TestReleaseCluster_WaitsForAttemptsInNetwork(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	network := env.allocatedCluster("cluster").Spec.PrivateNetworkID
	env.ip("address", ipInNetwork(network))
	observed, resume := pauseAt(env.p, "address/observed")
	allocated := make(chan error, 1)
	go func() {
		_, err := env.p.AllocateIP(env.context(), teamA, "address", body(""))
		allocated <- err
	}()
	<-observed
	second := env.newProtocol()
	_, err := env.releaseCluster(second, "cluster")
	requireInUse(t, err, "MetalStackIP address")
	assert.Zero(t, env.sim.CallsOf("network-free"))
	close(resume)
	require.NoError(t, <-allocated)
	env.advance(time.Minute)
	_, err = env.releaseCluster(second, "cluster")
	require.ErrorContains(t, err, "has 1 allocated address,")
	env.releaseClaims(second)
	env.advance(time.Minute)
	_, err = env.releaseCluster(second, "cluster")
	require.NoError(t, err)
	env.requireNothingAllocated()
}

// An adoption whose record another server made a claim again is not recorded.
func TestAllocateIP_StaleAdoptionIsNotRecorded(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.ip("claim", namesAddress(env.serviceAddress(simulator.ProjectA, metal.TypeStatic)))
	begun, resume := pauseAt(env.p, "address/begun")
	first := make(chan error, 1)
	go func() {
		_, err := env.p.AllocateIP(env.context(), teamA, "claim", body(""))
		first <- err
	}()
	<-begun
	refuse := func() {
		env.sim.Inject(simulator.Fault{Endpoint: "ip-find", Kind: simulator.FaultStatus, Status: http.StatusServiceUnavailable, Message: "unavailable", Times: 1})
		_, err := env.allocateIP(env.newProtocol(), "claim")
		require.ErrorContains(t, err, "unavailable")
	}
	refuse()
	env.advance(10 * time.Minute)
	refuse()
	assert.Equal(t, infrastructure.AllocationAllocating, env.ipPhase("claim"), "its outcome is not known")
	_, err := env.ips.Update(env.context(), teamA, "claim", func(i *infrastructure.MetalStackIP) error {
		i.Status.Allocation.Phase, i.Status.Allocation.StartTime = "", nil
		return nil
	})
	require.NoError(t, err)
	close(resume)
	require.ErrorContains(t, <-first, "the record was changed by another operation: retry")
	assert.Empty(t, env.ipPhase("claim"))
}

// An attempt is about the spec that was read, and no other.
func TestAllocateClaim_SpecChangedSinceItWasRead(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.ip("address")
	env.network("network")
	byHand, err := env.sim.AllocateNetworkFor(simulator.ProjectA, simulator.DefaultPartition, "by-hand", nil)
	require.NoError(t, err)
	api := &hookedMetal{Metal: env.client}
	p := env.newProtocolWith(api)
	changeIP := func() {
		_, err := env.ips.Update(env.context(), teamA, "address", func(i *infrastructure.MetalStackIP) error {
			i.Spec.Address = "203.0.113.177"
			return nil
		})
		require.NoError(t, err)
	}
	api.findNetworks = func([]*metal.Network) { changeIP() }
	_, err = env.allocateIP(p, "address")
	require.ErrorContains(t, err, "the spec was changed since it was read: retry")
	api.findNetworks = nil
	i, err := env.allocateIP(p, "address")
	require.NoError(t, err)
	assert.Equal(t, "203.0.113.177", i.Status.Allocation.Address)

	// A network is allocated without a read before: the change comes between get and swap.
	env.networks.fail = nil
	operation, err := p.newNetworkOperation(objectRef{networkResource, teamA, "network"}, &networkRecord{env.getNetwork("network")})
	require.NoError(t, err)
	_, err = env.networks.Update(env.context(), teamA, "network", func(n *infrastructure.MetalStackNetwork) error {
		n.Spec.NetworkID = byHand
		return nil
	})
	require.NoError(t, err)
	require.ErrorContains(t, operation.common().beginAttempt(env.context()), "the spec was changed since it was read: retry")
}

func (env *environment) getNetwork(name string) *infrastructure.MetalStackNetwork {
	n, err := env.networks.Get(env.context(), teamA, name)
	require.NoError(env.t, err)
	return n
}

// A firewall that names the address until right before the call keeps it.
func TestReleaseIP_FirewallNamesItAfterReleaseBegan(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	address := env.allocatedIP("address").Spec.Address
	at(env.p, "address/free-begun", 1, func() {
		env.firewalls.put(t, &infrastructure.MetalStackFirewall{ObjectMeta: env.meta(teamA, "fw"), Spec: infrastructure.MetalStackFirewallSpec{
			Controller: &infrastructure.FirewallController{EgressIPs: []infrastructure.FirewallEgressIPs{{NetworkID: simulator.InternetNetwork, IPs: []string{address}}}},
		}})
	})
	_, err := env.releaseIP(env.p, "address")
	requireInUse(t, err, "MetalStackFirewall fw")
	assert.NotNil(t, env.tagsOfAddress(address))
	releasing, err := env.p.IsAddressReleasing(env.context(), simulator.ProjectA, address)
	require.NoError(t, err)
	assert.True(t, releasing)
}

func TestIsAddressReleasing_DeletedClaim(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	i := env.allocatedIP("address")
	for _, deleted := range []bool{false, true} {
		if deleted {
			_, err := env.ips.Update(env.context(), teamA, "address", func(i *infrastructure.MetalStackIP) error {
				now := metav1.NewTime(env.clock.Now())
				i.DeletionTimestamp, i.Finalizers = &now, []string{infrastructure.IPFinalizer}
				return nil
			})
			require.NoError(t, err)
		}
		for project, releasing := range map[string]bool{simulator.ProjectA: deleted, simulator.ProjectB: false} {
			found, err := env.p.IsAddressReleasing(env.context(), project, i.Spec.Address)
			require.NoError(t, err)
			assert.Equal(t, releasing, found)
		}
	}
}

// Which requests of Services a server sent is known to that server only: one that follows it waits.
func TestReleaseClaim_WaitsForRequestsOfPredecessor(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedIP("address")
	env.allocatedNetwork("network")
	env.allocatedIP("unused")
	next := env.newProtocol()
	next.BecomeActive()
	_, err := env.releaseIP(next, "unused")
	require.NoError(t, err, "no cluster has Services")
	env.allocatedCluster("cluster")
	next = env.newProtocol()
	next.BecomeActive()
	release := map[string]func() error{
		"address": func() error { _, err := env.releaseIP(next, "address"); return err },
		"network": func() error { _, err := env.releaseNetwork(next, "network"); return err },
	}
	for what, release := range release {
		err := release()
		require.True(t, apierrors.IsServiceUnavailable(err), "%s: %v", what, err)
		require.ErrorContains(t, err, "from before this server became active")
	}
	env.advance(env.p.timing.UncertainDuration)
	for _, release := range release {
		require.NoError(t, release())
	}
}

// A network that lost its labels is neither freed nor forgotten: the release is refused.
func TestRelease_NetworkThatLostItsLabelsIsRefused(t *testing.T) {
	t.Parallel()
	for kind, object := range map[string]struct {
		allocate func(*environment) (network string)
		release  func(*environment, *Protocol) error
		left     infrastructure.AllocationPhase
		phase    func(*environment) infrastructure.AllocationPhase
	}{
		"claim": {
			func(env *environment) string { return env.allocatedNetwork("object").Status.Allocation.NetworkID },
			func(env *environment, p *Protocol) error { _, err := env.releaseNetwork(p, "object"); return err },
			infrastructure.AllocationAllocated,
			func(env *environment) infrastructure.AllocationPhase { return env.networkPhase("object") },
		},
		"cluster": {
			func(env *environment) string { return env.allocatedCluster("object").Status.Allocation.NetworkID },
			func(env *environment, p *Protocol) error { _, err := env.releaseCluster(p, "object"); return err },
			infrastructure.AllocationReleasing,
			func(env *environment) infrastructure.AllocationPhase {
				return env.getCluster("object").Status.Allocation.Phase
			},
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			network := object.allocate(env)
			lost := true
			p := env.newProtocolWith(&hookedMetal{Metal: env.client, findNetworks: func(found []*metal.Network) {
				for _, n := range found {
					if lost {
						n.Labels = nil
					}
				}
			}})
			err := object.release(env, p)
			require.True(t, apierrors.IsConflict(err), "%v", err)
			require.ErrorContains(t, err, "restore the label")
			assert.Equal(t, object.left, object.phase(env))
			assert.Equal(t, simulator.ProjectA, env.projectOfNetwork(network))

			lost = false
			env.advance(p.timing.MaxBackoff)
			require.NoError(t, object.release(env, p))
			env.requireNothingAllocated()
		})
	}
}

// An object of another project that names an address is no other claim of it.
func TestAllocateIP_IgnoresClaimsOfOtherProjects(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	address := env.serviceAddress(simulator.ProjectA, metal.TypeStatic)
	env.ips.put(t, &infrastructure.MetalStackIP{ObjectMeta: env.meta(teamB, "theirs"), Status: infrastructure.MetalStackIPStatus{
		Allocation: &infrastructure.IPAllocation{AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocated}, Address: address},
	}})
	assert.True(t, env.allocatedIP("ours", namesAddress(address)).Status.Allocation.Adopted)
}

// Several clusters have an adopted network because of its claim, which stays as long as they do.
func TestReleaseNetwork_AdoptedStaysWhileClustersShareIt(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	network, err := env.sim.AllocateNetworkFor(simulator.ProjectA, simulator.DefaultPartition, "by-hand", nil)
	require.NoError(t, err)
	n := env.allocatedNetwork("network", namesNetwork(network))
	assert.True(t, n.Status.Allocation.HasMetal(), "the finalizer stays")
	for _, name := range []string{"first", "second"} {
		env.allocatedCluster(name, func(c *infrastructure.MetalStackCluster) { c.Spec.PrivateNetworkID = network })
	}
	_, err = env.releaseNetwork(env.p, "network")
	requireInUse(t, err, "MetalStackCluster first, MetalStackCluster second")
	assert.Equal(t, infrastructure.AllocationAllocated, env.networkPhase("network"))
	_, err = env.releaseCluster(env.p, "second")
	require.NoError(t, err)
	_, err = env.releaseNetwork(env.p, "network")
	require.NoError(t, err)
	assert.Equal(t, simulator.ProjectA, env.projectOfNetwork(network))
}

// 409 is decided only if it is known whose the address is.
func TestAllocateIP_ConflictIsUndecidedWithoutRead(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	api := &hookedMetal{Metal: env.client}
	unavailable := &metal.Error{Kind: metal.Unavailable, Op: "ip find", Status: http.StatusServiceUnavailable, Message: "unavailable"}
	api.allocateIP = func(r metal.IPRequest) (*metal.IP, error) {
		// An earlier call of the same allocation, whose answer was lost.
		_, err := env.client.AllocateIP(env.context(), r)
		require.NoError(t, err)
		api.findIPs = func() error { api.findIPs = nil; return unavailable }
		return nil, &metal.Error{Kind: metal.Conflict, Op: "ip allocate", Status: http.StatusConflict, Message: "is not free"}
	}
	claim := env.ip("address", namesAddress("203.0.113.177"))
	i, err := env.allocateIP(env.newProtocolWith(api), "address")
	require.NoError(t, err)
	assert.Equal(t, "203.0.113.177", i.Status.Allocation.Address)
	assert.Equal(t, 1, env.sim.Inventory().Allocations(uidTag(claim.UID)))
}

// What another management cluster allocated for a claim of the same name is a claim's own only if
// that was moved from there.
func TestAllocateClaim_OfAnotherManagementCluster(t *testing.T) {
	t.Parallel()
	for _, moved := range []bool{false, true} {
		env := newEnvironment(t)
		there := env.newProtocol()
		there.opts.ManagementCluster = "another"
		env.network("claim")
		env.ip("claim")
		n, err := env.allocateNetwork(there, "claim")
		require.NoError(t, err)
		i, err := env.allocateIP(there, "claim")
		require.NoError(t, err)
		env.networks.remove(n)
		env.ips.remove(i)
		n = env.allocatedNetwork("claim", namesNetwork(n.Spec.NetworkID), func(n *infrastructure.MetalStackNetwork) {
			n.Status.Allocation = &infrastructure.NetworkAllocation{Moved: moved}
		})
		i = env.allocatedIP("claim", namesAddress(i.Spec.Address))
		assert.Equal(t, !moved, n.Status.Allocation.Adopted)
		assert.True(t, i.Status.Allocation.Adopted)
		env.releaseClaims(env.p)
		// A claim that was copied looks like one that was moved: a network in use is not freed,
		// and an address would be.
		assert.NotNil(t, env.tagsOfAddress(i.Spec.Address))
		want := simulator.ProjectA
		if moved {
			want = ""
		}
		assert.Equal(t, want, env.projectOfNetwork(n.Spec.NetworkID))
	}
}

// A check that fails after an attempt's time is over says nothing of what the attempt allocated.
func TestAllocateIP_OutcomeIsSoughtBeforeChecks(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*environment){
		"network is being released": func(env *environment) {
			_, err := env.networks.Update(env.context(), teamA, "net", func(n *infrastructure.MetalStackNetwork) error {
				n.Status.Allocation.Phase = infrastructure.AllocationReleasing
				return nil
			})
			require.NoError(env.t, err)
		},
		"network cannot be read": func(env *environment) {
			env.sim.Inject(simulator.Fault{Endpoint: "network-find", Kind: simulator.FaultRefused})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			n := env.allocatedNetwork("net")
			i := env.ip("claim", func(i *infrastructure.MetalStackIP) { i.Spec.NetworkID = n.Spec.NetworkID })
			reached := env.crashAt(env.p, "address/called", 1)
			_, err := env.allocateIP(env.p, "claim")
			require.Error(t, err)
			require.True(t, reached())
			fail(env)
			env.clock.Step(time.Hour)
			allocated, err := env.allocateIP(env.newProtocol(), "claim")
			require.NoError(t, err)
			assert.Equal(t, infrastructure.AllocationAllocated, allocated.Status.Allocation.Phase)
			assert.Equal(t, 1, env.sim.Inventory().Allocations(uidTag(i.UID)))
		})
	}
}
