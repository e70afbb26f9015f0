// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// spend spends the savings of reads, but for what is left.
func (e *env) spend(left time.Duration) {
	e.t.Helper()
	b := e.observer.budget
	ok, _ := b.reserve(readAccount, b.balance(readAccount)-left)
	require.True(e.t, ok)
}

// getCost is what a get takes and costs.
const getCost = 3500 * time.Microsecond

func TestRefresh_WithoutSavingsIsAnsweredAtOnce(t *testing.T) {
	runTest(t, envConfig{machines: 500, costs: true}, func(t *testing.T, e *env) {
		ids := e.install(simulator.ProjectA, 250)
		e.sweep()
		_, err := e.refresh(metal.Scope{Machines: ids[:1]})
		require.NoError(t, err)
		e.spend(0)
		swept := e.observer.lastSweepStart()
		for name, want := range map[string]metal.Scope{"object": {Machines: ids[1:2]}, "namespace": {Project: simulator.ProjectA}, "fleet": {Fleet: true}} {
			took, err := e.refresh(want)
			require.Zero(t, took, name)
			var stale *metal.StaleError
			require.ErrorAs(t, err, &stale)
			require.ErrorIs(t, stale, metal.ErrBudgetExceeded)
			require.Equal(t, swept, stale.Since, name)
		}

		// Readers that never rest get what is earned, and wait no longer for it than for a get.
		confirmed, began := 0, time.Now()
		for i := 0; time.Since(began) < 10*time.Second; i++ {
			took, err := e.refresh(metal.Scope{Machines: ids[i%len(ids):][:1]})
			require.LessOrEqual(t, took, 2*getCost)
			if err == nil {
				confirmed++
			}
			time.Sleep(time.Millisecond)
		}
		require.InDelta(t, 86, confirmed, 5, "300 ms are earned")

		// So do those that are there at a time.
		e.spend(0)
		var wg sync.WaitGroup
		for _, id := range ids[:50] {
			wg.Go(func() {
				if took, _ := e.refresh(metal.Scope{Machines: []string{id}}); took > 2*getCost {
					t.Errorf("a read took %s", took)
				}
			})
		}
		wg.Wait()
	})
}

// An observation is in flight, and the funds of the next one are not there when it is over.
func TestRefresh_DoesNotWaitForObservationThatIsFollowedByNone(t *testing.T) {
	runTest(t, envConfig{machines: 1000, costs: true}, func(t *testing.T, e *env) {
		e.install(simulator.ProjectA, 500)
		e.sweep()
		want := metal.Scope{Project: simulator.ProjectA}
		e.spend(700 * time.Millisecond)
		var wg sync.WaitGroup
		wg.Go(func() {
			if took, err := e.refresh(want); err != nil || took < 300*time.Millisecond {
				t.Errorf("the first read: %s, %v", took, err)
			}
		})
		synctest.Wait()
		time.Sleep(time.Millisecond)
		for range 10 {
			took, err := e.refresh(want)
			require.ErrorIs(t, err, metal.ErrBudgetExceeded)
			require.Zero(t, took)
		}
		wg.Wait()
		require.Equal(t, 1, e.sim.CallsOf("machine-find"))
	})
}

func TestRefresh_ProjectOfFiveHundredIsObservedByCost(t *testing.T) {
	runTest(t, envConfig{machines: 700, costs: true}, func(t *testing.T, e *env) {
		e.install(simulator.ProjectA, 500)
		for name, c := range map[string]struct {
			machines       int
			saved          float64
			finds, gets    int
			cause          error
			spentAtMost    time.Duration
			answeredAtOnce bool
		}{
			"a find where it costs less": {machines: 1000, saved: 1, finds: 1, spentAtMost: 330 * time.Millisecond},
			// A find takes 1.1 s, and costs that; gets 1.75 s.
			"gets if a find takes too long": {machines: 10_000, saved: 1, gets: 500, spentAtMost: 1750 * time.Millisecond},
			"nothing where gets cost more than is saved for": {
				machines: 10_000, saved: 0.2, cause: metal.ErrTimeout, answeredAtOnce: true,
			},
		} {
			e.observer = New(e.client, Options{})
			e.sweep()
			e.observer.costs.setFleetSize(c.machines)
			b := e.observer.budget
			e.spend(scale(b.accounts[readAccount].burst, c.saved))
			before := b.balance(readAccount)
			e.sim.ResetCalls()
			took, err := e.refresh(metal.Scope{Project: simulator.ProjectA})
			require.ErrorIs(t, err, c.cause, name)
			if c.answeredAtOnce {
				require.Zero(t, took, name)
			}
			require.Equal(t, c.finds, e.sim.CallsOf("machine-find"), name)
			require.Equal(t, c.gets, e.sim.CallsOf("machine-get"), name)
			require.LessOrEqual(t, before-b.balance(readAccount), c.spentAtMost, name)
		}
	})
}

func TestRefresh_FleetIsNotObservedByGets(t *testing.T) {
	runTest(t, envConfig{machines: 1000, costs: true}, func(t *testing.T, e *env) {
		e.install(simulator.ProjectA, 700)
		e.sweep()
		e.observer.costs.setFleetSize(8000)
		e.spend(15 * time.Second)
		e.sim.ResetCalls()
		took, err := e.refresh(metal.Scope{Fleet: true})
		require.ErrorIs(t, err, metal.ErrTimeout, "a find of all takes just over 1 s")
		require.Zero(t, took, "which is known after the first sweep")
		require.Zero(t, allCalls(e.sim), "gets cost 2.45 s")

		// A successor may spend its savings, so that nothing older follows what was shown.
		require.NoError(t, e.observer.RefreshAll(t.Context()))
		require.Equal(t, 700, e.sim.CallsOf("machine-get"))
	})
}

// A list would be cheap enough to be preferred, if it could be paid.
func TestRefresh_FleetIsObservedByWhatCanBePaid(t *testing.T) {
	runTest(t, envConfig{machines: 24, costs: true}, func(t *testing.T, e *env) {
		e.install(simulator.ProjectA, 1)
		e.sweep()
		require.LessOrEqual(t, e.observer.costs.cost(callList, 0), cheapFindCost)
		for _, want := range []string{"machine-list", "machine-get"} {
			if want == "machine-get" {
				e.spend(2*getCost + 2*time.Millisecond)
			}
			e.sim.ResetCalls()
			_, err := e.refresh(metal.Scope{Fleet: true})
			require.NoError(t, err)
			require.Equal(t, 1, e.sim.CallsOf(want), "%v", e.sim.Calls())
			require.EqualValues(t, 1, allCalls(e.sim))
		}
	})
}

func TestPlanMachines_OfFleetKeepsLimits(t *testing.T) {
	for _, machines := range []int{24, 400} {
		t.Run(strconv.Itoa(machines), func(t *testing.T) {
			runTest(t, envConfig{machines: machines, costs: true}, func(t *testing.T, e *env) {
				ids := e.install(simulator.ProjectA, 1+machines/20)
				scope := metal.Scope{Fleet: true, Machines: ids}
				var list, rest plan
				for _, synced := range []bool{false, true} {
					if synced {
						e.sweep()
					}
					list = plan{cost: e.observer.costs.cost(callList, 0), duration: e.observer.costs.latency(callList, 0)}
					require.Less(t, time.Duration(len(ids))*e.observer.costs.cost(callGet, 1), list.cost)
					for name, m := range map[string]limits{
						"funds": newLimits(time.Hour, list.cost-1), "time": newLimits(list.duration-1, time.Hour),
					} {
						rest = e.observer.planMachines(scope, m)
						require.False(t, rest.list, "%s, synced %v: %+v", name, synced, rest)
						require.True(t, m.allow(rest), "%s, synced %v: %+v", name, synced, rest)
					}
				}
				require.Equal(t, list.cost <= cheapFindCost, e.observer.planMachines(scope, newLimits(time.Hour, time.Hour)).list)
			})
		})
	}
}

func TestRefresh_FleetIsAnsweredAtOnceFromStartOn(t *testing.T) {
	runTest(t, envConfig{machines: 100, costs: true}, func(t *testing.T, e *env) {
		e.sim.Inject(simulator.Fault{Endpoint: "machine-list", Kind: simulator.FaultLatency, Latency: 1450 * time.Millisecond})
		e.run()
		time.Sleep(1100 * time.Millisecond)
		require.False(t, e.observer.HasSynced())
		took, err := e.refresh(metal.Scope{Fleet: true})
		require.ErrorIs(t, err, metal.ErrTimeout, "the first list takes 1.5 s")
		require.Zero(t, took, "it is in flight for more than 1 s")
		time.Sleep(time.Second)
		require.True(t, e.observer.HasSynced())
		took, err = e.refresh(metal.Scope{Fleet: true})
		require.ErrorIs(t, err, metal.ErrTimeout)
		require.Zero(t, took)
		require.Equal(t, 1, e.sim.CallsOf("machine-list"))
	})
}

// Its answers are there in time, but this process has no processor to take them.
func TestBudget_DelayInThisProcessIsNotCharged(t *testing.T) {
	runTest(t, envConfig{machines: 1000, costs: true}, func(t *testing.T, e *env) {
		ids := e.install(simulator.ProjectA, 100)
		e.sweep()
		e.transport.Around(nil, func(r *http.Request) {
			time.Sleep(300 * time.Millisecond)
			metal.AnswerTimeOf(r.Context()).AddDelay(300 * time.Millisecond)
		})
		b := e.observer.budget
		before := b.balance(readAccount)
		took, err := e.refresh(metal.Scope{Machines: ids})
		require.NoError(t, err)
		require.Equal(t, 600*time.Millisecond+2*getCost, took, "some calls first")
		require.InDelta(t, 100*getCost, before-b.balance(readAccount), float64(50*time.Millisecond))
		require.InDelta(t, getCost, e.observer.costs.cost(callGet, 1), float64(100*time.Microsecond))
		require.Equal(t, DefaultMaxConcurrent, e.observer.getLimiter.limit())

		// The delay is an estimate: a call costs no less than without load.
		e.transport.Around(nil, func(r *http.Request) { metal.AnswerTimeOf(r.Context()).AddDelay(time.Second) })
		before = b.balance(readAccount)
		_, err = e.refresh(metal.Scope{Machines: ids[:1]})
		require.NoError(t, err)
		require.InDelta(t, getCost, before-b.balance(readAccount), float64(500*time.Microsecond))
	})
}

func TestBudget_SavingsAreThereAtRest(t *testing.T) {
	// A sweep takes as much of these budgets' income as those of 2,000 and of 10,000
	// machines do of DefaultBudget, but without encoding so many.
	for _, budget := range []float64{DefaultBudget / 20, DefaultBudget / 100} {
		t.Run(strconv.FormatFloat(budget, 'g', -1, 64), func(t *testing.T) {
			runTest(t, envConfig{machines: 100, costs: true, options: Options{Budget: budget}}, func(t *testing.T, e *env) {
				e.install(simulator.ProjectA, 2)
				e.run()
				time.Sleep(5 * time.Minute)
				b := e.observer.budget
				require.Equal(t, b.accounts[readAccount].burst, b.balance(readAccount))
			})
		})
	}
}
