package metal

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestBehindAShutFenceNoWriteBegins(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		id := b.allocated(simulator.ProjectA, 1)[0]
		cause := errors.New("another server is the active one")
		shut := false
		fenced, err := NewClient(Options{URL: "http://metal-api.test", HMAC: simulator.DefaultHMAC.Edit, Transport: b.wire, Fence: func() error {
			if shut {
				return cause
			}
			return nil
		}})
		require.NoError(t, err)
		ctx := t.Context()
		network, err := fenced.AllocateNetwork(ctx, NetworkRequest{Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Name: "n"})
		require.NoError(t, err, "while it is open")

		shut = true
		b.sim.ResetCalls()
		writes := map[string]error{}
		_, writes["machine allocate"] = fenced.AllocateMachine(ctx, b.request(network.ID))
		_, writes["firewall allocate"] = fenced.AllocateFirewall(ctx, FirewallRequest{MachineRequest: b.request(network.ID)})
		_, writes["network allocate"] = fenced.AllocateNetwork(ctx, NetworkRequest{Project: simulator.ProjectA, Partition: simulator.DefaultPartition})
		_, writes["ip allocate"] = fenced.AllocateIP(ctx, IPRequest{Project: simulator.ProjectA, Network: simulator.InternetNetwork})
		_, writes["machine free"] = fenced.FreeMachine(ctx, id)
		_, writes["network free"] = fenced.FreeNetwork(ctx, network.ID)
		_, writes["ip free"] = fenced.FreeIP(ctx, "203.0.113.1")
		for op, err := range writes {
			require.ErrorIs(t, err, cause, op)
			require.True(t, IsUnavailable(err), "%s: it is certain that nothing was done: %v", op, err)
		}
		require.Empty(t, b.sim.Calls())
		_, err = fenced.Machine(ctx, id)
		require.NoError(t, err, "whoever may not write may look")
	})
}

func TestTheBudgetCanBeChangedWhileItLooks(t *testing.T) {
	inBed(t, bedConfig{machines: 1000, costs: true, options: ObserverOptions{Budget: 0.01}}, func(t *testing.T, b *bed) {
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
		ip, err := b.client.AllocateIP(t.Context(), IPRequest{Project: simulator.ProjectA, Network: simulator.InternetNetwork})
		require.NoError(t, err)
		successor := NewObserver(b.client, ObserverOptions{Named: func() []Ref {
			return []Ref{{KindNetwork, network}, {KindIP, ip.Address}, {KindNetwork, "nope"}}
		}})
		id := b.allocated(simulator.ProjectA, 1)[0]
		require.NoError(t, successor.CatchUp(t.Context()))
		m, _ := successor.Machine(id)
		require.NotNil(t, m)
		_, presence := successor.Network(network)
		require.Equal(t, Present, presence)
		_, presence = successor.IP(ip.Address)
		require.Equal(t, Present, presence)
		_, presence = successor.Network("nope")
		require.Equal(t, Gone, presence)

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
		successor := NewObserver(b.client, ObserverOptions{Named: func() []Ref { return []Ref{{KindNetwork, network}} }})
		require.NoError(t, successor.sweep(t.Context()))
		successor.facts.networks.held = map[string]*held[Network]{}
		successor.costs.counted(10_000)
		ok, _ := successor.budget.reserve(forReads, successor.budget.spare(forReads)-20*time.Millisecond)
		require.True(t, ok)
		began := time.Now()
		require.ErrorIs(t, successor.CatchUp(t.Context()), ErrOverBudget)
		require.Less(t, time.Since(began), 10*time.Millisecond)
		_, presence := successor.Network(network)
		require.Equal(t, Present, presence)
		require.Len(t, successor.kick, 1)
	})
}
