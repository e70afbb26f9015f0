// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestSetBudget_AppliesWhileRunning(t *testing.T) {
	runTest(t, envConfig{machines: 100, costs: true, options: Options{Budget: 0.001}}, func(t *testing.T, e *env) {
		e.run()
		time.Sleep(time.Minute)
		sweeps, share := e.measure(5 * time.Minute)
		t.Logf("%d sweeps in 5 min, busy %.2f %% of the time", sweeps, 100*share)
		require.LessOrEqual(t, share, 0.001+0.06/300, "one sweep more or less")
		require.LessOrEqual(t, sweeps, 8, "one each fifty seconds at most")

		e.observer.SetBudget(0.004)
		require.GreaterOrEqual(t, e.observer.budget.balance(readAccount), scale(readBurstTime, 0.003), "what its predecessor saved is there at once")
		time.Sleep(time.Minute)
		sweeps, share = e.measure(5 * time.Minute)
		t.Logf("%d sweeps in 5 min, busy %.2f %% of the time", sweeps, 100*share)
		require.LessOrEqual(t, share, 0.004+0.06/300)
		require.GreaterOrEqual(t, sweeps, 18)
	})
}

func TestRefreshAll_ObservesMachinesAndWhatIsUnobserved(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		e.sweep()
		network := e.network(simulator.ProjectA)
		ip, err := e.client.AllocateIP(t.Context(), metal.IPRequest{Project: simulator.ProjectA, Network: simulator.InternetNetwork})
		require.NoError(t, err)
		successor := New(e.client, Options{Referenced: referencing(func() []metal.Ref {
			return []metal.Ref{{Kind: metal.KindNetwork, ID: network}, {Kind: metal.KindIP, ID: ip.Address}, {Kind: metal.KindNetwork, ID: "nope"}}
		})})
		id := e.allocate(simulator.ProjectA, 1)[0]
		require.NoError(t, successor.RefreshAll(t.Context()))
		m, _ := successor.Machine(id)
		require.NotNil(t, m)
		_, presence := successor.Network(network)
		require.Equal(t, metal.Present, presence)
		_, presence = successor.IP(ip.Address)
		require.Equal(t, metal.Present, presence)
		_, presence = successor.Network("nope")
		require.Equal(t, metal.Gone, presence)

		e.sim.ResetCalls()
		require.NoError(t, successor.RefreshAll(t.Context()))
		require.Zero(t, e.sim.CallsOf("network-get"), "what is known is left to sweeps")
	})
}

func TestRefreshAll_RequestsSweepWhenFleetIsTooExpensive(t *testing.T) {
	runTest(t, envConfig{machines: 100, costs: true}, func(t *testing.T, e *env) {
		e.allocate(simulator.ProjectA, 40)
		network := e.network(simulator.ProjectA)
		e.sweep()
		successor := New(e.client, Options{Referenced: referencing(func() []metal.Ref { return []metal.Ref{{Kind: metal.KindNetwork, ID: network}} })})
		require.NoError(t, successor.sweep(t.Context()))
		successor.facts.networks.entries = map[string]*entry[metal.Network]{}
		successor.costs.setFleetSize(10_000)
		ok, _ := successor.budget.reserve(readAccount, successor.budget.balance(readAccount)-20*time.Millisecond)
		require.True(t, ok)
		began := time.Now()
		require.ErrorIs(t, successor.RefreshAll(t.Context()), metal.ErrBudgetExceeded)
		require.Less(t, time.Since(began), 10*time.Millisecond)
		_, presence := successor.Network(network)
		require.Equal(t, metal.Present, presence)
		require.Len(t, successor.sweepRequests, 1)
	})
}
