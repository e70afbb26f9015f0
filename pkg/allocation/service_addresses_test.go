// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func nameOf(c *infrastructure.MetalStackCluster) types.NamespacedName {
	return types.NamespacedName{Namespace: c.Namespace, Name: c.Name}
}

func requestFor(c *infrastructure.MetalStackCluster, service string) metal.IPRequest {
	return metal.IPRequest{
		Network: simulator.InternetNetwork, Name: "metallb", Type: metal.TypeEphemeral,
		Tags: []string{serviceTag(infrastructure.ClusterID(c), service)},
	}
}

// addressesOf are the addresses that carry the tag of a Service.
func (env *environment) addressesOf(c *infrastructure.MetalStackCluster, service string) []*metal.IP {
	env.t.Helper()
	found, err := env.client.FindIPs(env.context(), metal.IPQuery{Tags: []string{serviceTag(infrastructure.ClusterID(c), service)}})
	require.NoError(env.t, err)
	return found
}

func TestAllocateServiceAddress_LostAnswerLeaksNothing(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	c := env.allocatedCluster("cluster")
	env.sim.Inject(simulator.Fault{Endpoint: "ip-allocate", Kind: simulator.FaultCommitThenLose, Times: 1})
	ip, err := env.p.AllocateServiceAddress(env.context(), nameOf(c), requestFor(c, "web"))
	require.NoError(t, err, "it is found by its tag")
	again, err := env.p.AllocateServiceAddress(env.context(), nameOf(c), requestFor(c, "web"))
	require.NoError(t, err)
	assert.Equal(t, ip.Address, again.Address)
	assert.Len(t, env.addressesOf(c, "web"), 1)
	assert.Contains(t, ip.Tags, metal.Tag(metal.TagCluster, infrastructure.ClusterID(c)))
}

func TestAllocateServiceAddress_IsNotCalledAgainWhileACallMayBeInFlight(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	c := env.allocatedCluster("cluster")
	env.sim.Inject(simulator.Fault{Endpoint: "ip-allocate", Kind: simulator.FaultStatus, Status: 502, Message: "bad gateway", Times: 1})
	_, err := env.p.AllocateServiceAddress(env.context(), nameOf(c), requestFor(c, "web"))
	require.Equal(t, metal.Uncertain, metal.KindOf(err), "%v", err)
	_, err = env.p.AllocateServiceAddress(env.context(), nameOf(c), requestFor(c, "web"))
	require.Equal(t, metal.Busy, metal.KindOf(err), "%v", err)
	_, err = env.p.AllocateServiceAddress(env.context(), nameOf(c), requestFor(c, "mail"))
	require.NoError(t, err, "another Service does not wait")
	env.advance(env.p.timing.UncertainDuration)
	_, err = env.p.AllocateServiceAddress(env.context(), nameOf(c), requestFor(c, "web"))
	require.NoError(t, err)
	assert.Len(t, env.addressesOf(c, "web"), 1)
}

// A read that fails says nothing of a call whose answer was lost.
func TestAllocateServiceAddress_FailedReadKeepsCallInFlight(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	c := env.allocatedCluster("cluster")
	env.sim.Inject(simulator.Fault{Endpoint: "ip-allocate", Kind: simulator.FaultStatus, Status: 502, Message: "bad gateway", Times: 1})
	_, err := env.p.AllocateServiceAddress(env.context(), nameOf(c), requestFor(c, "web"))
	require.Equal(t, metal.Uncertain, metal.KindOf(err), "%v", err)
	env.sim.Inject(simulator.Fault{Endpoint: "ip-find", Kind: simulator.FaultStatus, Status: 503, Message: "unavailable", Times: 1})
	_, err = env.p.AllocateServiceAddress(env.context(), nameOf(c), requestFor(c, "web"))
	require.ErrorContains(t, err, "unavailable")
	_, err = env.p.AllocateServiceAddress(env.context(), nameOf(c), requestFor(c, "web"))
	require.Equal(t, metal.Busy, metal.KindOf(err), "%v", err)
	_, err = env.releaseCluster(env.p, "cluster")
	require.ErrorContains(t, err, "it may still be in progress: retrying")
}

// loseAnswer makes the metal-api answer the next call like a proxy that gave up waiting.
func (env *environment) loseAnswer(endpoint string) {
	env.sim.Inject(simulator.Fault{Endpoint: endpoint, Kind: simulator.FaultStatus, Status: 502, Message: "bad gateway", Times: 1})
}

// While a call may still free an address, or replace its tags, no other one is made, and the
// cluster is not released.
func TestServiceAddresses_AreNotChangedWhileACallMayBeInFlight(t *testing.T) {
	t.Parallel()
	for _, endpoint := range []string{"ip-free", "ip-update"} {
		t.Run(endpoint, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			c, lily := env.allocatedCluster("cluster"), env.allocatedCluster("lily")
			ip, err := env.p.AllocateServiceAddress(env.context(), nameOf(c), requestFor(c, "web"))
			require.NoError(t, err)
			free := func() error {
				_, err := env.p.FreeServiceAddress(env.context(), nameOf(c), ip.Address)
				return err
			}
			set := func(c *infrastructure.MetalStackCluster, tags ...string) error {
				_, err := env.p.SetServicesOfAddress(env.context(), nameOf(c), ip.Address, tags)
				return err
			}
			env.loseAnswer(endpoint)
			if endpoint == "ip-free" {
				err = free()
			} else {
				err = set(c)
			}
			require.Equal(t, metal.Uncertain, metal.KindOf(err), "%v", err)
			_, allocateErr := env.p.AllocateServiceAddress(env.context(), nameOf(c), requestFor(c, "web"))
			for what, err := range map[string]error{"free": free(), "update": set(c), "update by another cluster": set(lily, serviceTag(infrastructure.ClusterID(lily), "web")), "allocate": allocateErr} {
				require.Equal(t, metal.Busy, metal.KindOf(err), "%s: %v", what, err)
			}
			_, err = env.p.AllocateServiceAddress(env.context(), nameOf(c), requestFor(c, "mail"))
			require.NoError(t, err, "another Service does not wait")
			_, err = env.releaseCluster(env.p, "cluster")
			require.ErrorContains(t, err, "it may still be in progress: retrying")
			env.advance(env.p.timing.UncertainDuration)
			env.releaseClusterUntilDone()
			assert.Nil(t, env.tagsOfAddress(ip.Address))
		})
	}
}

func TestServiceAddresses_EffectOfALostCallIsFound(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	c := env.allocatedCluster("cluster")
	ip, err := env.p.AllocateServiceAddress(env.context(), nameOf(c), requestFor(c, "web"))
	require.NoError(t, err)
	env.sim.Inject(simulator.Fault{Endpoint: "ip-update", Kind: simulator.FaultCommitThenLose, Times: 1})
	ip, err = env.p.SetServicesOfAddress(env.context(), nameOf(c), ip.Address, nil)
	require.NoError(t, err)
	assert.Equal(t, []string{metal.Tag(metal.TagCluster, infrastructure.ClusterID(c))}, ip.Tags)
	env.sim.Inject(simulator.Fault{Endpoint: "ip-free", Kind: simulator.FaultCommitThenLose, Times: 1})
	_, err = env.p.FreeServiceAddress(env.context(), nameOf(c), ip.Address)
	require.NoError(t, err)
	assert.Nil(t, env.tagsOfAddress(ip.Address))
}

// An update by another cluster names the tags that the address had then.
func TestReleaseCluster_WaitsForUpdateByAnotherClusterThatMayBeInFlight(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	c, lily := env.allocatedCluster("cluster"), env.allocatedCluster("lily")
	own, others := serviceTag(infrastructure.ClusterID(c), "web"), serviceTag(infrastructure.ClusterID(lily), "web")
	address := env.serviceAddress(simulator.ProjectA, metal.TypeStatic, own, others)
	env.loseAnswer("ip-update")
	_, err := env.p.SetServicesOfAddress(env.context(), nameOf(lily), address, nil)
	require.Equal(t, metal.Uncertain, metal.KindOf(err), "%v", err)
	_, err = env.releaseCluster(env.p, "cluster")
	require.ErrorContains(t, err, "it may still be in progress: retrying")
	env.advance(env.p.timing.UncertainDuration)
	env.releaseClusterUntilDone()
	assert.Equal(t, []string{others}, env.tagsOfAddress(address))
}

func TestAllocateServiceAddress_ConcurrentRequestsGetOne(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	c := env.allocatedCluster("cluster")
	addresses := make([]string, 8)
	var wg sync.WaitGroup
	for i := range addresses {
		wg.Go(func() {
			ip, err := env.p.AllocateServiceAddress(env.context(), nameOf(c), requestFor(c, "web"))
			if assert.NoError(t, err) {
				addresses[i] = ip.Address
			}
		})
	}
	wg.Wait()
	assert.Len(t, env.addressesOf(c, "web"), 1)
	for _, address := range addresses {
		assert.Equal(t, addresses[0], address)
	}
}

// An allocation that is in progress when a release begins ends before the release looks
// for addresses.
func TestReleaseCluster_WaitsForAddressesInProgress(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	c := env.allocatedCluster("cluster")
	begun, proceed := make(chan struct{}), make(chan struct{})
	crash := env.p.onCrashPoint
	env.p.onCrashPoint = func(step string) {
		if step == "service-address/begun" {
			close(begun)
			<-proceed
		}
		if step == "cluster/releasing" {
			close(proceed)
		}
		if crash != nil {
			crash(step)
		}
	}
	allocated := make(chan error)
	go func() {
		_, err := env.p.AllocateServiceAddress(env.context(), nameOf(c), requestFor(c, "web"))
		allocated <- err
	}()
	<-begun
	_, err := env.releaseCluster(env.p, "cluster")
	require.NoError(t, err)
	require.NoError(t, <-allocated)
	assert.Empty(t, env.addressesOf(c, "web"))
	_, err = env.p.AllocateServiceAddress(env.context(), nameOf(c), requestFor(c, "late"))
	require.Equal(t, metal.Refused, metal.KindOf(err), "%v", err)
}

// An allocation whose answer was lost may take effect after it.
func TestReleaseCluster_WaitsForAddressesWhoseAnswerWasLost(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	c := env.allocatedCluster("cluster")
	env.sim.Inject(simulator.Fault{Endpoint: "ip-allocate", Kind: simulator.FaultStatus, Status: 502, Message: "bad gateway", Times: 1})
	_, err := env.p.AllocateServiceAddress(env.context(), nameOf(c), requestFor(c, "web"))
	require.Equal(t, metal.Uncertain, metal.KindOf(err), "%v", err)
	_, err = env.releaseCluster(env.p, "cluster")
	require.ErrorContains(t, err, "it may still be in progress: retrying")
	released := env.getCluster("cluster")
	assert.Equal(t, infrastructure.AllocationReleasing, released.Status.Allocation.Phase)
	assert.Equal(t, infrastructure.ReasonReleaseUncertain, meta.FindStatusCondition(released.Status.Conditions, infrastructure.ConditionAllocated).Reason)
	id := infrastructure.ClusterID(c)
	env.serviceAddress(simulator.ProjectA, metal.TypeEphemeral, serviceTag(id, "web"), metal.Tag(metal.TagCluster, id))
	env.advance(env.p.timing.UncertainDuration)
	env.releaseClusterUntilDone()
	assert.Empty(t, env.addressesOf(c, "web"))
}

func TestServiceAddresses_RequestThatGivesUpDoesNotEndTheCall(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	c := env.allocatedCluster("cluster")
	ctx, cancel := context.WithCancel(env.context())
	env.p.onCrashPoint = func(step string) {
		if step == "service-address/begun" {
			cancel()
		}
	}
	_, err := env.p.AllocateServiceAddress(ctx, nameOf(c), requestFor(c, "web"))
	if err != nil { // The call may be faster.
		require.Equal(t, metal.Uncertain, metal.KindOf(err), "%v", err)
	}
	_, err = env.p.AllocateServiceAddress(env.context(), nameOf(c), requestFor(c, "web"))
	require.NoError(t, err)
	assert.Len(t, env.addressesOf(c, "web"), 1)
}

// Others read the tags of addresses: metal-ccm, which makes Services of them, and people.
func TestServiceAddresses_TagsNameOneService(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	c := env.allocatedCluster("cluster")
	ip, err := env.p.AllocateServiceAddress(env.context(), nameOf(c), requestFor(c, "web"))
	require.NoError(t, err)
	request := requestFor(c, "web")
	prefix := request.Tags[0][:len(request.Tags[0])-len("default/web")]
	for _, service := range []string{"", "/", "default/", "/web", "default/web/x", "default/web\n", "default/web=x", "Default/web", "../web"} {
		request.Tags = []string{prefix + service}
		_, err := env.p.AllocateServiceAddress(env.context(), nameOf(c), request)
		require.ErrorContains(t, err, "names no Service", "%q", service)
		_, err = env.p.SetServicesOfAddress(env.context(), nameOf(c), ip.Address, request.Tags)
		require.ErrorContains(t, err, "names no Service", "%q", service)
	}
	_, err = env.p.SetServicesOfAddress(env.context(), nameOf(c), ip.Address, []string{})
	require.NoError(t, err)
}
