package observation

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestMachinesInTransitionAreLookedAtEverySecond(t *testing.T) {
	inBed(t, bedConfig{machines: 1000, costs: true}, func(t *testing.T, b *bed) {
		network := b.network(simulator.ProjectA)
		b.run()
		time.Sleep(30 * time.Second)
		m, err := b.client.AllocateMachine(t.Context(), b.request(network))
		require.NoError(t, err)
		for _, event := range []string{"Installing", "Booting New Kernel", metal.EventPhonedHome} {
			time.Sleep(20 * time.Second)
			b.told()
			require.NoError(t, b.sim.SendEvent(m.ID, event, ""))
			time.Sleep(1100 * time.Millisecond)
			require.Equal(t, event, b.machine(m.ID).Events[0].Event)
			require.Contains(t, b.told(), metal.Ref{Kind: metal.KindMachine, ID: m.ID})
		}
		b.sim.ResetCalls()
		time.Sleep(30 * time.Second)
		require.Zero(t, b.sim.CallsOf("machine-get"), "once it has phoned home it needs no focus")
	})
}

func TestAMachineThatARecordNewlyNamesIsLookedAt(t *testing.T) {
	inBed(t, bedConfig{machines: 1000, costs: true}, func(t *testing.T, b *bed) {
		b.run()
		time.Sleep(15 * time.Second)
		id := b.sim.Books().Machines[7].ID
		b.name(metal.Ref{Kind: metal.KindMachine, ID: id})
		time.Sleep(2100 * time.Millisecond)
		require.True(t, b.machine(id).Allocatable())
	})
}

func TestNewlySilentMachinesAreWatchedUntilTheMetalApiNotices(t *testing.T) {
	inBed(t, bedConfig{machines: 200, costs: true, options: Options{SweepInterval: 30 * time.Second}}, func(t *testing.T, b *bed) {
		id := b.allocated(simulator.ProjectA, 1)[0]
		require.NoError(t, b.sim.PhoneHome(id))
		b.run()
		time.Sleep(2 * time.Minute)
		b.sim.ResetCalls()
		require.NoError(t, b.sim.Silence(id))
		silent := time.Now()
		for b.machine(id).Liveliness == metal.LivelinessAlive {
			time.Sleep(time.Second)
			require.Less(t, time.Since(silent), 8*time.Minute)
		}
		account, _ := b.sim.Books().Machine(id)
		require.Equal(t, "Unknown", account.Liveliness)
		require.Greater(t, b.sim.CallsOf("machine-get"), 20)
		b.sim.ResetCalls()
		time.Sleep(time.Minute)
		require.Zero(t, b.sim.CallsOf("machine-get"), "what is known needs no focus")
	})
}

func TestAttendedMachinesAreLookedAtEverySecond(t *testing.T) {
	inBed(t, bedConfig{machines: 1000, costs: true}, func(t *testing.T, b *bed) {
		id := b.allocated(simulator.ProjectA, 1)[0]
		require.NoError(t, b.sim.PhoneHome(id))
		b.run()
		time.Sleep(time.Minute)
		b.obs.Attend(20*time.Second, id)
		b.sim.ResetCalls()
		time.Sleep(time.Minute)
		require.InDelta(t, 20, b.sim.CallsOf("machine-get"), 2)
	})
}

func TestWhatDoesNotMoveIsLookedAtLessAndLess(t *testing.T) {
	inBed(t, bedConfig{machines: 50, costs: true}, func(t *testing.T, b *bed) {
		b.allocated(simulator.ProjectA, 1)
		b.run()
		time.Sleep(time.Minute)
		b.sim.ResetCalls()
		time.Sleep(time.Minute)
		first := b.sim.CallsOf("machine-get")
		time.Sleep(20 * time.Minute)
		b.sim.ResetCalls()
		time.Sleep(time.Minute)
		require.InDelta(t, 40, first, 20)
		require.LessOrEqual(t, b.sim.CallsOf("machine-get"), 7)
	})
}

func TestBeyondTheBudgetFocusIsSlowerInFairRotation(t *testing.T) {
	inBed(t, bedConfig{machines: 2000, costs: true}, func(t *testing.T, b *bed) {
		ids := b.allocated(simulator.ProjectA, 80)
		b.run()
		time.Sleep(time.Minute)
		for p := range purses {
			b.obs.budget.reserve(p, b.obs.budget.spare(p))
		}
		_, _, busy := b.obs.budget.balances()
		began := time.Now()
		time.Sleep(time.Minute)
		_, _, after := b.obs.budget.balances()
		require.LessOrEqual(t, (after - busy).Seconds(), 60*DefaultBudget+2)
		var ages []time.Duration
		b.obs.facts.mu.RLock()
		for _, id := range ids {
			ages = append(ages, time.Since(b.obs.facts.machines.held[id].looked))
		}
		b.obs.facts.mu.RUnlock()
		slices.Sort(ages)
		t.Logf("80 machines installing in a fleet of 2,000: looked at %s to %s ago, %s of calls in %s", ages[0], ages[len(ages)-1], after-busy, time.Since(began))
		require.Less(t, ages[len(ages)-1], 20*time.Second, "none is forgotten")
	})
}

func TestManyInTransitionInASmallFleetAreOneList(t *testing.T) {
	inBed(t, bedConfig{machines: 100, costs: true}, func(t *testing.T, b *bed) {
		b.allocated(simulator.ProjectA, 60)
		b.run()
		time.Sleep(20 * time.Second)
		b.sim.ResetCalls()
		time.Sleep(10 * time.Second)
		require.Zero(t, b.sim.CallsOf("machine-get"))
		require.GreaterOrEqual(t, b.sim.CallsOf("machine-list")+b.sim.CallsOf("machine-find"), 6)
	})
}

func TestOtherProjectsMachinesAreNotFocusedOnNorTold(t *testing.T) {
	relevant := func(project string) bool { return project == simulator.ProjectA }
	inBed(t, bedConfig{machines: 1000, costs: true, options: Options{Relevant: relevant}}, func(t *testing.T, b *bed) {
		id := b.allocated(simulator.ProjectB, 1)[0]
		b.run()
		time.Sleep(time.Minute)
		require.Zero(t, b.sim.CallsOf("machine-get"))
		require.NotContains(t, b.told(), metal.Ref{Kind: metal.KindMachine, ID: id})
		require.Len(t, b.obs.AllocatedIn(simulator.ProjectB), 1, "it is known all the same")
		require.NoError(t, b.sim.ForceFree(id))
		time.Sleep(time.Minute)
		require.Empty(t, b.obs.AllocatedIn(simulator.ProjectB))
		require.Zero(t, b.sim.CallsOf("machine-find"), "whose end nobody is shown needs no second look")
	})
}
