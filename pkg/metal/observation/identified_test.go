package observation

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestIdentified_ReturnsWhatCarriesTheManagementCluster(t *testing.T) {
	inBed(t, bedConfig{costs: true, options: Options{ManagementCluster: "here"}}, func(t *testing.T, b *bed) {
		labels := func(cluster string) map[string]string {
			return map[string]string{metal.TagUID: "uid-1", metal.TagManagementCluster: cluster}
		}
		tags := func(cluster string) []string {
			return []string{metal.Tag(metal.TagUID, "uid-1"), metal.Tag(metal.TagManagementCluster, cluster)}
		}
		own, err := b.sim.AllocateNetworkFor(simulator.ProjectA, simulator.DefaultPartition, "own", labels("here"))
		require.NoError(t, err)
		_, err = b.sim.AllocateNetworkFor(simulator.ProjectA, simulator.DefaultPartition, "another's", labels("elsewhere"))
		require.NoError(t, err)
		_, err = b.sim.AllocateNetworkFor(simulator.ProjectA, simulator.DefaultPartition, "by hand", map[string]string{metal.TagManagementCluster: "here"})
		require.NoError(t, err)
		address, err := b.sim.AllocateIPFor(simulator.ProjectB, simulator.InternetNetwork, "own", tags("here"))
		require.NoError(t, err)
		_, err = b.sim.AllocateIPFor(simulator.ProjectB, simulator.InternetNetwork, "another's", tags("elsewhere"))
		require.NoError(t, err)
		request := b.request(own)
		request.Tags = tags("here")
		m, err := b.client.AllocateMachine(t.Context(), request)
		require.NoError(t, err)
		b.allocated(simulator.ProjectA, 1)

		b.swept()
		machines, networks, ips := b.obs.Identified()
		require.Len(t, machines, 1)
		require.Equal(t, m.ID, machines[0].ID)
		require.Len(t, networks, 1)
		require.Equal(t, own, networks[0].ID)
		require.Len(t, ips, 1)
		require.Equal(t, address, ips[0].Address)

		// It is a part of the sweep, and of what that costs.
		finds := b.sim.CallsOf("network-find") + b.sim.CallsOf("ip-find")
		require.NotZero(t, finds)
		b.swept()
		require.Equal(t, finds, b.sim.CallsOf("network-find")+b.sim.CallsOf("ip-find"), "once a minute at most")
		time.Sleep(identifiedInterval)
		a := &account{}
		b.obs.lookAtIdentified(t.Context(), a)
		require.Equal(t, finds+2, b.sim.CallsOf("network-find")+b.sim.CallsOf("ip-find"))
		require.NotZero(t, a.took)

		// What was freed is gone at once.
		_, err = b.client.FreeIP(t.Context(), address)
		require.NoError(t, err)
		_, _, freed := b.obs.Identified()
		require.Empty(t, freed)
		address, err = b.sim.AllocateIPFor(simulator.ProjectB, simulator.InternetNetwork, "own", tags("here"))
		require.NoError(t, err)
		time.Sleep(identifiedInterval)
		b.obs.lookAtIdentified(t.Context(), a)

		// What a look cannot find out stays as it was.
		b.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultRefused})
		time.Sleep(identifiedInterval)
		b.obs.lookAtIdentified(t.Context(), a)
		_, networks, ips = b.obs.Identified()
		require.Len(t, networks, 1)
		require.Len(t, ips, 1)
		require.Equal(t, address, ips[0].Address)
	})
}

func TestIdentified_AsksNothingWithoutAManagementCluster(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		b.swept()
		require.Zero(t, b.sim.CallsOf("network-find")+b.sim.CallsOf("ip-find"))
		machines, networks, ips := b.obs.Identified()
		require.Empty(t, machines)
		require.Empty(t, networks)
		require.Empty(t, ips)
	})
}
