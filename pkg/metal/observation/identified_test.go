// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metaltest"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestIdentified_ReturnsWhatCarriesTheManagementCluster(t *testing.T) {
	runTest(t, envConfig{costs: true, options: Options{ManagementCluster: "here"}}, func(t *testing.T, e *env) {
		labels := func(cluster string) map[string]string {
			return map[string]string{metal.TagUID: "uid-1", metal.TagManagementCluster: cluster}
		}
		tags := func(cluster string) []string {
			return []string{metal.Tag(metal.TagUID, "uid-1"), metal.Tag(metal.TagManagementCluster, cluster)}
		}
		own, err := e.sim.AllocateNetworkFor(simulator.ProjectA, simulator.DefaultPartition, "own", labels("here"))
		require.NoError(t, err)
		_, err = e.sim.AllocateNetworkFor(simulator.ProjectA, simulator.DefaultPartition, "another's", labels("elsewhere"))
		require.NoError(t, err)
		_, err = e.sim.AllocateNetworkFor(simulator.ProjectA, simulator.DefaultPartition, "by hand", map[string]string{metal.TagManagementCluster: "here"})
		require.NoError(t, err)
		address, err := e.sim.AllocateIPFor(simulator.ProjectB, simulator.InternetNetwork, "own", tags("here"))
		require.NoError(t, err)
		_, err = e.sim.AllocateIPFor(simulator.ProjectB, simulator.InternetNetwork, "another's", tags("elsewhere"))
		require.NoError(t, err)
		request := metaltest.MachineRequest(own)
		request.Tags = tags("here")
		m, err := e.client.AllocateMachine(t.Context(), request)
		require.NoError(t, err)
		e.allocate(simulator.ProjectA, 1)

		e.sweep()
		machines, networks, ips := e.observer.Identified()
		require.Len(t, machines, 1)
		require.Equal(t, m.ID, machines[0].ID)
		require.Len(t, networks, 1)
		require.Equal(t, own, networks[0].ID)
		require.Len(t, ips, 1)
		require.Equal(t, address, ips[0].Address)

		// It is a part of the sweep, and of what that costs.
		finds := e.sim.CallsOf("network-find") + e.sim.CallsOf("ip-find")
		require.NotZero(t, finds)
		e.sweep()
		require.Equal(t, finds, e.sim.CallsOf("network-find")+e.sim.CallsOf("ip-find"), "once a minute at most")
		time.Sleep(identifiedInterval)
		a := &costTally{}
		e.observer.observeIdentified(t.Context(), a)
		require.Equal(t, finds+2, e.sim.CallsOf("network-find")+e.sim.CallsOf("ip-find"))
		require.NotZero(t, a.total)

		// What was freed is gone at once.
		_, err = e.client.FreeIP(t.Context(), address)
		require.NoError(t, err)
		_, _, freed := e.observer.Identified()
		require.Empty(t, freed)
		address, err = e.sim.AllocateIPFor(simulator.ProjectB, simulator.InternetNetwork, "own", tags("here"))
		require.NoError(t, err)
		time.Sleep(identifiedInterval)
		e.observer.observeIdentified(t.Context(), a)

		// What an observation cannot find out stays as it was.
		e.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultRefused})
		time.Sleep(identifiedInterval)
		e.observer.observeIdentified(t.Context(), a)
		_, networks, ips = e.observer.Identified()
		require.Len(t, networks, 1)
		require.Len(t, ips, 1)
		require.Equal(t, address, ips[0].Address)
	})
}

func TestIdentified_MakesNoCallWithoutManagementCluster(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		e.sweep()
		require.Zero(t, e.sim.CallsOf("network-find")+e.sim.CallsOf("ip-find"))
		machines, networks, ips := e.observer.Identified()
		require.Empty(t, machines)
		require.Empty(t, networks)
		require.Empty(t, ips)
	})
}
