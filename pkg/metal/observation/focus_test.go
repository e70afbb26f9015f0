// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metaltest"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestFocus_ObservesMachinesInTransitionEverySecond(t *testing.T) {
	runTest(t, envConfig{machines: 200, costs: true}, func(t *testing.T, e *env) {
		network := e.network(simulator.ProjectA)
		e.run()
		time.Sleep(30 * time.Second)
		m, err := e.client.AllocateMachine(t.Context(), metaltest.MachineRequest(network))
		require.NoError(t, err)
		for _, event := range []string{"Installing", "Booting New Kernel", metal.EventPhonedHome} {
			time.Sleep(20 * time.Second)
			e.changed()
			require.NoError(t, e.sim.SendEvent(m.ID, event, ""))
			time.Sleep(1100 * time.Millisecond)
			require.Equal(t, event, e.machine(m.ID).Events[0].Event)
			require.Contains(t, e.changed(), metal.Ref{Kind: metal.KindMachine, ID: m.ID})
		}
		e.sim.ResetCalls()
		time.Sleep(30 * time.Second)
		require.Zero(t, e.sim.CallsOf("machine-get"), "once it has phoned home it needs no focus")
	})
}

func TestFocus_ObservesNewlyReferencedMachine(t *testing.T) {
	runTest(t, envConfig{machines: 1000, costs: true}, func(t *testing.T, e *env) {
		e.run()
		time.Sleep(15 * time.Second)
		id := e.sim.Inventory().Machines[7].ID
		e.reference(metal.Ref{Kind: metal.KindMachine, ID: id})
		time.Sleep(2100 * time.Millisecond)
		require.True(t, e.machine(id).Allocatable())
	})
}

func TestFocus_ObservesNewlySilentMachines(t *testing.T) {
	runTest(t, envConfig{machines: 200, costs: true, options: Options{SweepInterval: 30 * time.Second}}, func(t *testing.T, e *env) {
		id := e.allocate(simulator.ProjectA, 1)[0]
		require.NoError(t, e.sim.PhoneHome(id))
		e.run()
		time.Sleep(2 * time.Minute)
		e.sim.ResetCalls()
		require.NoError(t, e.sim.Silence(id))
		silent := time.Now()
		for e.machine(id).Liveliness == metal.LivelinessAlive {
			time.Sleep(time.Second)
			require.Less(t, time.Since(silent), 8*time.Minute)
		}
		account, _ := e.sim.Inventory().Machine(id)
		require.Equal(t, "Unknown", account.Liveliness)
		require.Greater(t, e.sim.CallsOf("machine-get"), 20)
		e.sim.ResetCalls()
		time.Sleep(time.Minute)
		require.Zero(t, e.sim.CallsOf("machine-get"), "what is known needs no focus")
	})
}

func TestFocus_ObservesUnchangedMachineLessOften(t *testing.T) {
	runTest(t, envConfig{costs: true}, func(t *testing.T, e *env) {
		e.allocate(simulator.ProjectA, 1)
		e.run()
		time.Sleep(time.Minute)
		e.sim.ResetCalls()
		time.Sleep(time.Minute)
		first := e.sim.CallsOf("machine-get")
		time.Sleep(20 * time.Minute)
		e.sim.ResetCalls()
		time.Sleep(time.Minute)
		require.InDelta(t, 40, first, 20)
		require.LessOrEqual(t, e.sim.CallsOf("machine-get"), 7)
	})
}

// Its 20 of 500 machines want as much of this budget as 80 of 2,000 do of
// DefaultBudget, but without encoding so many.
func TestFocus_RotatesFairlyBeyondBudget(t *testing.T) {
	const budget = DefaultBudget / 4
	runTest(t, envConfig{machines: 500, costs: true, options: Options{Budget: budget}}, func(t *testing.T, e *env) {
		ids := e.allocate(simulator.ProjectA, 20)
		e.run()
		time.Sleep(time.Minute)
		for p := range numAccounts {
			e.observer.budget.reserve(p, e.observer.budget.balance(p))
		}
		_, _, busy := e.observer.budget.balances()
		began := time.Now()
		time.Sleep(time.Minute)
		_, _, after := e.observer.budget.balances()
		require.LessOrEqual(t, (after - busy).Seconds(), 60*budget+0.5)
		var ages []time.Duration
		e.observer.facts.mu.RLock()
		for _, id := range ids {
			ages = append(ages, time.Since(e.observer.facts.machines.entries[id].observedAt))
		}
		e.observer.facts.mu.RUnlock()
		slices.Sort(ages)
		t.Logf("20 machines installing in a fleet of 500: observed %s to %s ago, %s of calls in %s", ages[0], ages[len(ages)-1], after-busy, time.Since(began))
		require.Less(t, ages[len(ages)-1], 20*time.Second, "none is forgotten")
	})
}

func TestFocus_ListsSmallFleetWithManyInTransition(t *testing.T) {
	runTest(t, envConfig{machines: 100, costs: true}, func(t *testing.T, e *env) {
		e.allocate(simulator.ProjectA, 60)
		e.run()
		time.Sleep(20 * time.Second)
		e.sim.ResetCalls()
		time.Sleep(10 * time.Second)
		require.Zero(t, e.sim.CallsOf("machine-get"))
		require.GreaterOrEqual(t, e.sim.CallsOf("machine-list")+e.sim.CallsOf("machine-find"), 6)
	})
}

func TestFocus_IgnoresIrrelevantProjects(t *testing.T) {
	relevant := func(project string) bool { return project == simulator.ProjectA }
	runTest(t, envConfig{machines: 200, costs: true, options: Options{Relevant: relevant}}, func(t *testing.T, e *env) {
		id := e.allocate(simulator.ProjectB, 1)[0]
		e.run()
		time.Sleep(time.Minute)
		require.Zero(t, e.sim.CallsOf("machine-get"))
		require.NotContains(t, e.changed(), metal.Ref{Kind: metal.KindMachine, ID: id})
		require.Len(t, e.observer.AllocatedIn(simulator.ProjectB), 1, "it is known all the same")
		require.NoError(t, e.sim.ForceFree(id))
		time.Sleep(time.Minute)
		require.Empty(t, e.observer.AllocatedIn(simulator.ProjectB))
		require.Zero(t, e.sim.CallsOf("machine-find"), "an irrelevant machine needs no verification")
	})
}
