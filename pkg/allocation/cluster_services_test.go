// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// serviceTag is what metal-ccm puts on the address of a Service.
func serviceTag(clusterID, service string) string {
	return metal.Tag(metal.TagService, clusterID+"/default/"+service)
}

// serviceAddress allocates an address as metal-ccm does.
func (env *environment) serviceAddress(project, kind string, tags ...string) string {
	env.t.Helper()
	ip, err := env.client.AllocateIP(env.context(), metal.IPRequest{Project: project, Network: simulator.InternetNetwork, Type: kind, Name: "metallb", Tags: tags})
	require.NoError(env.t, err)
	return ip.Address
}

// tagsOfAddress are nil if the address is not allocated.
func (env *environment) tagsOfAddress(address string) []string {
	env.t.Helper()
	found, err := env.client.FindIPs(env.context(), metal.IPQuery{Address: address})
	require.NoError(env.t, err)
	if len(found) == 0 {
		return nil
	}
	return append([]string{}, found[0].Tags...)
}

// releaseClusterUntilDone sends requests until the cluster is released, as the controller
// manager does.
func (env *environment) releaseClusterUntilDone() {
	env.t.Helper()
	for range 10 {
		c, err := env.releaseCluster(env.p, "cluster")
		if err == nil {
			require.Equal(env.t, infrastructure.AllocationReleased, c.Status.Allocation.Phase)
			return
		}
		env.advance(env.p.timing.MaxBackoff)
	}
	env.t.Fatal("the cluster was not released")
}

// TestReleaseCluster_LeavesNoTagsOfItsServices covers what a cluster may leave: only
// ephemeral addresses that no one else has are freed.
func TestReleaseCluster_LeavesNoTagsOfItsServices(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	c := env.allocatedCluster("cluster")
	id := infrastructure.ClusterID(c)
	own, second, longer := serviceTag(id, "web"), serviceTag(id, "mail"), serviceTag(id+"0", "web")
	for _, test := range []struct {
		name, project, kind string
		tags                []string
		want                []string // nil: freed
	}{
		{"ephemeral of one Service", simulator.ProjectA, metal.TypeEphemeral, []string{own}, nil},
		{"ephemeral of two Services", simulator.ProjectA, metal.TypeEphemeral, []string{own, second}, nil},
		{"ephemeral that another cluster has, too", simulator.ProjectA, metal.TypeEphemeral, []string{own, longer}, []string{longer}},
		{"ephemeral of a cluster whose id begins with ours", simulator.ProjectA, metal.TypeEphemeral, []string{longer}, []string{longer}},
		{"ephemeral with a tag of a user", simulator.ProjectA, metal.TypeEphemeral, []string{own, "mine"}, []string{"mine"}},
		{"ephemeral that no Service has any more", simulator.ProjectA, metal.TypeEphemeral, []string{metal.Tag(metal.TagCluster, id)}, nil},
		{"ephemeral without tags", simulator.ProjectA, metal.TypeEphemeral, nil, []string{}},
		{"static", simulator.ProjectA, metal.TypeStatic, []string{own, "mine=1"}, []string{"mine=1"}},
		{"static with nothing else", simulator.ProjectA, metal.TypeStatic, []string{own}, []string{}},
		{"another project's", simulator.ProjectB, metal.TypeEphemeral, []string{own}, []string{own}},
	} {
		address := env.serviceAddress(test.project, test.kind, test.tags...)
		defer func() { assert.Equal(t, test.want, env.tagsOfAddress(address), test.name) }()
	}
	_, err := env.releaseCluster(env.p, "cluster")
	require.NoError(t, err)
}

func TestReleaseCluster_KeepsServiceAddressesWhileMachinesCarryItsID(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	id := infrastructure.ClusterID(env.allocatedCluster("cluster"))
	node := env.machine("node")
	_, err := env.allocate(env.p, "node", "cluster")
	require.NoError(t, err)
	env.machines.remove(node)
	address := env.serviceAddress(simulator.ProjectA, metal.TypeEphemeral, serviceTag(id, "web"))
	_, err = env.releaseCluster(env.p, "cluster")
	require.ErrorContains(t, err, "in use by 1 machine")
	assert.Equal(t, []string{serviceTag(id, "web")}, env.tagsOfAddress(address))
}

func TestReleaseCluster_ServiceAddressesSurviveFaults(t *testing.T) {
	t.Parallel()
	leftovers := func(t *testing.T, env *environment) (check func()) {
		id := infrastructure.ClusterID(env.allocatedCluster("cluster"))
		for _, service := range []string{"web", "mail"} {
			env.serviceAddress(simulator.ProjectA, metal.TypeEphemeral, serviceTag(id, service))
		}
		static := env.serviceAddress(simulator.ProjectA, metal.TypeStatic, serviceTag(id, "fixed"))
		return func() {
			assert.Equal(t, []string{}, env.tagsOfAddress(static))
			_, err := env.client.FreeIP(env.context(), static)
			require.NoError(t, err)
			env.requireNothingAllocated()
		}
	}
	for _, endpoint := range []string{"ip-free", "ip-update"} {
		for _, kind := range []simulator.FaultKind{simulator.FaultCommitThenLose, simulator.FaultBackendDown} {
			t.Run(endpoint+"/"+string(kind), func(t *testing.T) {
				t.Parallel()
				env := newEnvironment(t)
				check := leftovers(t, env)
				env.sim.Inject(simulator.Fault{Endpoint: endpoint, Kind: kind, Times: 1})
				env.releaseClusterUntilDone()
				check()
			})
		}
	}
	for _, step := range []string{"service-address/free-begun", "service-address/free-observed", "service-address/freed", "service-address/released", "service-address/tags-removed"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			check := leftovers(t, env)
			reached := env.crashAt(env.p, step, 1)
			_, err := env.releaseCluster(env.p, "cluster")
			require.Error(t, err)
			require.True(t, reached())
			env.p = env.newProtocol()
			env.releaseClusterUntilDone()
			check()
		})
	}
}

// An address that another client freed, and allocated anew, after the release listed it is
// not freed again.
func TestReleaseCluster_LeavesServiceAddressThatWasAllocatedAnew(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	tag := serviceTag(infrastructure.ClusterID(env.allocatedCluster("cluster")), "web")
	address := env.serviceAddress(simulator.ProjectA, metal.TypeEphemeral, tag)
	crash := env.p.onCrashPoint
	env.p.onCrashPoint = func(step string) {
		if step == "service-address/free-begun" {
			_, err := env.client.FreeIP(env.context(), address)
			require.NoError(t, err)
			_, err = env.client.AllocateIP(env.context(), metal.IPRequest{
				Address: address, Project: simulator.ProjectA, Network: simulator.InternetNetwork, Type: metal.TypeEphemeral, Tags: []string{tag},
			})
			require.NoError(t, err)
		}
		if crash != nil {
			crash(step)
		}
	}
	_, err := env.releaseCluster(env.p, "cluster")
	require.NoError(t, err)
	assert.Equal(t, []string{tag}, env.tagsOfAddress(address))
}

// afterAddresses calls a function once, after the addresses of a release were listed.
type afterAddresses struct {
	Metal
	then func()
}

func (m *afterAddresses) FindMachines(ctx context.Context, q metal.MachineQuery) ([]*metal.Machine, error) {
	if then := m.then; then != nil {
		m.then = nil
		then()
	}
	return m.Metal.FindMachines(ctx, q)
}

// Of an ephemeral address the last tag is not removed: without one it would not be freed.
func TestReleaseCluster_FreesServiceAddressThatOthersLeaveMeanwhile(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	id := infrastructure.ClusterID(env.allocatedCluster("cluster"))
	own, others := serviceTag(id, "web"), serviceTag("another", "web")
	address := env.serviceAddress(simulator.ProjectA, metal.TypeEphemeral, own, others)
	p := env.newProtocolWith(&afterAddresses{env.client, func() {
		_, err := env.client.SetIPTags(env.context(), address, []string{own})
		require.NoError(t, err)
	}})
	_, err := env.releaseCluster(p, "cluster")
	require.NoError(t, err)
	assert.Nil(t, env.tagsOfAddress(address))
}

func TestReleaseCluster_RemovesTagsFromServiceAddressThatOthersTakeMeanwhile(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	own := serviceTag(infrastructure.ClusterID(env.allocatedCluster("cluster")), "web")
	address := env.serviceAddress(simulator.ProjectA, metal.TypeEphemeral, own)
	env.p.onCrashPoint = func(step string) {
		if step == "service-address/free-begun" {
			_, err := env.client.SetIPTags(env.context(), address, []string{own, "mine"})
			require.NoError(t, err)
		}
	}
	_, err := env.releaseCluster(env.p, "cluster")
	require.NoError(t, err)
	assert.Equal(t, []string{"mine"}, env.tagsOfAddress(address))
}

// A call that a crash left is waited for, although the release is refused before it gets to
// the address that the call is about.
func TestReleaseCluster_RefusalKeepsServiceAddressCallInFlight(t *testing.T) {
	t.Parallel()
	for _, failing := range []string{"ip-find", "machine-find"} {
		t.Run(failing, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			env.serviceAddress(simulator.ProjectA, metal.TypeEphemeral, serviceTag(infrastructure.ClusterID(env.allocatedCluster("cluster")), "web"))
			reached := env.crashAt(env.p, "service-address/free-observed", 1)
			_, err := env.releaseCluster(env.p, "cluster")
			require.Error(t, err)
			require.True(t, reached())
			env.p = env.newProtocol()
			inFlightUntil := env.getCluster("cluster").Status.Allocation.StartTime.Add(env.p.timing.freeInFlight())

			env.sim.Inject(simulator.Fault{Endpoint: failing, Kind: simulator.FaultStatus, Status: 503, Message: "unavailable", Times: 1})
			_, err = env.releaseCluster(env.p, "cluster")
			require.ErrorContains(t, err, "unavailable")
			env.advance(env.p.timing.Backoff)
			begun := 0
			env.p.onCrashPoint = func(step string) {
				if step == "service-address/free-begun" {
					begun++
					assert.False(t, env.clock.Now().Before(inFlightUntil))
				}
			}
			_, err = env.releaseCluster(env.p, "cluster")
			require.NoError(t, err)
			assert.Equal(t, 1, begun)
		})
	}
}

// That an address is gone says nothing of a call that a crash left, if there are others.
func TestReleaseCluster_GoneServiceAddressKeepsCallInFlight(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	id := infrastructure.ClusterID(env.allocatedCluster("cluster"))
	for _, service := range []string{"web", "mail"} {
		env.serviceAddress(simulator.ProjectA, metal.TypeEphemeral, serviceTag(id, service))
	}
	env.crashAt(env.p, "service-address/free-observed", 1)
	_, err := env.releaseCluster(env.p, "cluster")
	require.Error(t, err)
	start := env.getCluster("cluster").Status.Allocation.StartTime

	p := env.newProtocolWith(&afterAddresses{env.client, func() {
		addresses, err := env.client.FindIPs(env.context(), metal.IPQuery{Type: metal.TypeEphemeral})
		require.NoError(t, err)
		for _, ip := range addresses {
			_, err = env.client.FreeIP(env.context(), ip.Address)
			require.NoError(t, err)
		}
	}})
	released := 0
	p.onCrashPoint = func(step string) {
		if step == "service-address/released" {
			released++
			assert.Equal(t, start, env.getCluster("cluster").Status.Allocation.StartTime)
		}
	}
	_, err = env.releaseCluster(p, "cluster")
	require.NoError(t, err)
	assert.Equal(t, 2, released)
}
