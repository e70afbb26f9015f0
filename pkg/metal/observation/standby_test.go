package observation

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestTheBudgetCanBeChangedWhileItLooks(t *testing.T) {
	inBed(t, bedConfig{machines: 1000, costs: true, options: Options{Budget: 0.01}}, func(t *testing.T, b *bed) {
		b.run()
		time.Sleep(time.Minute)
		sweeps, share := b.measure(5 * time.Minute)
		t.Logf("%d sweeps in 5 min, busy %.2f %% of the time", sweeps, 100*share)
		require.LessOrEqual(t, share, 0.01+0.5/300, "one sweep more or less")
		require.LessOrEqual(t, sweeps, 8, "one each fifty seconds at most")

		b.obs.SetBudget(0.04)
		require.GreaterOrEqual(t, b.obs.budget.spare(forReads), scale(burstTime, 0.03), "what its predecessor saved is there at once")
		time.Sleep(time.Minute)
		sweeps, share = b.measure(5 * time.Minute)
		t.Logf("%d sweeps in 5 min, busy %.2f %% of the time", sweeps, 100*share)
		require.LessOrEqual(t, share, 0.04+0.5/300)
		require.GreaterOrEqual(t, sweeps, 18)
	})
}

func TestCatchingUpLooksAtAllMachinesAndAtWhatWasNeverLookedAt(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		b.swept()
		network := b.network(simulator.ProjectA)
		ip, err := b.client.AllocateIP(t.Context(), metal.IPRequest{Project: simulator.ProjectA, Network: simulator.InternetNetwork})
		require.NoError(t, err)
		successor := New(b.client, Options{Named: func() []metal.Ref {
			return []metal.Ref{{Kind: metal.KindNetwork, ID: network}, {Kind: metal.KindIP, ID: ip.Address}, {Kind: metal.KindNetwork, ID: "nope"}}
		}})
		id := b.allocated(simulator.ProjectA, 1)[0]
		require.NoError(t, successor.CatchUp(t.Context()))
		m, _ := successor.Machine(id)
		require.NotNil(t, m)
		_, presence := successor.Network(network)
		require.Equal(t, metal.Present, presence)
		_, presence = successor.IP(ip.Address)
		require.Equal(t, metal.Present, presence)
		_, presence = successor.Network("nope")
		require.Equal(t, metal.Gone, presence)

		b.sim.ResetCalls()
		require.NoError(t, successor.CatchUp(t.Context()))
		require.Zero(t, b.sim.CallsOf("network-get"), "what is known is left to sweeps")
	})
}

func TestCatchUp_WhenTheFleetIsTooDearHasASweepBeginAndLooksAtTheRest(t *testing.T) {
	inBed(t, bedConfig{machines: 100, costs: true}, func(t *testing.T, b *bed) {
		b.allocated(simulator.ProjectA, 40)
		network := b.network(simulator.ProjectA)
		b.swept()
		successor := New(b.client, Options{Named: func() []metal.Ref { return []metal.Ref{{Kind: metal.KindNetwork, ID: network}} }})
		require.NoError(t, successor.sweep(t.Context()))
		successor.facts.networks.held = map[string]*held[metal.Network]{}
		successor.costs.counted(10_000)
		ok, _ := successor.budget.reserve(forReads, successor.budget.spare(forReads)-20*time.Millisecond)
		require.True(t, ok)
		began := time.Now()
		require.ErrorIs(t, successor.CatchUp(t.Context()), metal.ErrOverBudget)
		require.Less(t, time.Since(began), 10*time.Millisecond)
		_, presence := successor.Network(network)
		require.Equal(t, metal.Present, presence)
		require.Len(t, successor.kick, 1)
	})
}
