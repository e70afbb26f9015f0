// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/client"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestSweep_HangingNetworkDelaysNoOther(t *testing.T) {
	runTest(t, envConfig{costs: true}, func(t *testing.T, e *env) {
		var ids []string
		for range 5 {
			ids = append(ids, e.network(simulator.ProjectA))
			e.reference(metal.Ref{Kind: metal.KindNetwork, ID: ids[len(ids)-1]})
		}
		slices.Sort(ids)
		answer := e.sim.Inject(simulator.Fault{Endpoint: "network-get", Kind: simulator.FaultHang, Match: func(r *http.Request) bool {
			return r.URL.Path == "/v1/network/"+ids[0]
		}})
		e.run()
		time.Sleep(3 * time.Minute)
		for range 5 {
			time.Sleep(time.Minute)
			e.observer.facts.mu.RLock()
			for _, id := range ids[1:] {
				require.Less(t, time.Since(observedAt(&e.observer.facts.networks, id)), 3*time.Minute)
			}
			e.observer.facts.mu.RUnlock()
		}
		e.sim.ResetCalls()
		time.Sleep(10 * time.Minute)
		sweeps := e.sim.CallsOf("machine-list")
		t.Logf("%d sweeps in 10 min", sweeps)
		require.Greater(t, sweeps, 33, "it is observed again, but seldom")

		answer()
		time.Sleep(20 * time.Minute)
		e.observer.facts.mu.RLock()
		defer e.observer.facts.mu.RUnlock()
		require.Less(t, time.Since(observedAt(&e.observer.facts.networks, ids[0])), time.Minute)
	})
}

func TestSweep_SlowNetworksAreObservedSoonAfterOneAnswers(t *testing.T) {
	runTest(t, envConfig{machines: 100, costs: true}, func(t *testing.T, e *env) {
		for range 30 {
			e.reference(metal.Ref{Kind: metal.KindNetwork, ID: e.network(simulator.ProjectA)})
		}
		e.observer.updateReferenced()
		now := time.Now()
		refs, due := e.observer.dueReferences()
		require.Len(t, refs, 30)
		require.Len(t, due, 30)
		for i, key := range due {
			e.observer.recordReferenceAttempt(key, now.Add(time.Duration(i)), 5*time.Second)
		}
		_, none := e.observer.dueReferences()
		require.Empty(t, none)
		time.Sleep(10 * time.Minute)
		_, one := e.observer.dueReferences()
		require.Equal(t, due[:1], one)
		e.observer.recordReferenceAttempt(one[0], time.Now(), 5*time.Millisecond)
		_, all := e.observer.dueReferences()
		require.Equal(t, append(due[1:], due[0]), all)
	})
}

func TestRefresh_ProjectWhoseFindHangsIsAnsweredAtOnce(t *testing.T) {
	runTest(t, envConfig{machines: 100, costs: true}, func(t *testing.T, e *env) {
		e.install(simulator.ProjectA, 5)
		e.install(simulator.ProjectB, 5)
		e.sweep()
		delay := func() (remove func()) {
			return e.sim.Inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultLatency, Latency: 10 * time.Second, Times: 1})
		}
		delay()
		took, err := e.refresh(metal.Scope{Project: simulator.ProjectA})
		require.ErrorIs(t, err, metal.ErrTimeout)
		require.Equal(t, DefaultRefreshTimeout, took)
		_, err = e.refresh(metal.Scope{Project: simulator.ProjectB})
		require.NoError(t, err, "its find is answered first, so that the other says nothing of what finds cost")
		time.Sleep(client.DefaultTimeouts.Find - 5*time.Second)

		remove := delay()
		took, err = e.refresh(metal.Scope{Project: simulator.ProjectA})
		require.ErrorIs(t, err, metal.ErrTimeout)
		require.Zero(t, took)
		remove()
		time.Sleep(minSlowBackoff)
		_, err = e.refresh(metal.Scope{Project: simulator.ProjectA})
		require.NoError(t, err)
	})
}

func TestFocus_WaitForOtherCallsIsNotSlow(t *testing.T) {
	runTest(t, envConfig{machines: 100, costs: true}, func(t *testing.T, e *env) {
		id := e.install(simulator.ProjectA, 1)[0]
		e.sweep()
		e.observer.getLimiter.current = 1
		require.NoError(t, e.observer.getLimiter.acquire(t.Context()))
		done := make(chan error)
		go func() { done <- e.observer.withFocusBackoff(e.observer.observeMachine)(t.Context(), &costTally{}, id) }()
		time.Sleep(2 * DefaultRefreshTimeout)
		synctest.Wait()
		e.observer.getLimiter.release(time.Now(), time.Now(), false)
		require.NoError(t, <-done)
		require.False(t, e.observer.slowBackoff.blocked(focusKeyPrefix+id))

		e.sim.Inject(simulator.Fault{Endpoint: "machine-get", Kind: simulator.FaultLatency, Latency: 2 * DefaultRefreshTimeout})
		require.NoError(t, e.observer.withFocusBackoff(e.observer.observeMachine)(t.Context(), &costTally{}, id))
		require.True(t, e.observer.slowBackoff.blocked(focusKeyPrefix+id))
	})
}

func TestLimiter_FindsSideBySideFollowAnswerTimes(t *testing.T) {
	runTest(t, envConfig{machines: 1000, costs: true}, func(t *testing.T, e *env) {
		most, under := 0, 0
		var mu sync.Mutex
		counted := func(n int) func(*http.Request) {
			return func(r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				if r.URL.Path == "/v1/machine/find" {
					under += n
					most = max(most, under)
				}
			}
		}
		e.transport.Around(counted(1), counted(-1))
		finds := func(n int) (confirmed int) {
			e.sim.ResetCalls()
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() {
					if _, err := e.refresh(metal.Scope{Project: fmt.Sprintf("project-%d", i)}); err == nil {
						mu.Lock()
						defer mu.Unlock()
						confirmed++
					}
				})
			}
			wg.Wait()
			synctest.Wait()
			return confirmed
		}
		require.Equal(t, 80, finds(80), "a fast metal-api answers all within the limit of a read")
		require.LessOrEqual(t, most, maxBulkConcurrent)
		require.Equal(t, maxBulkConcurrent, e.observer.bulkLimiter.limit())

		e.observer.bulkLimiter.current = initialBulkConcurrent
		e.sim.SetSlowdown(100) // a find takes 9.3 s
		time.Sleep(time.Minute)
		most = 0
		require.Zero(t, finds(80))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.LessOrEqual(t, most, initialBulkConcurrent)
		require.LessOrEqual(t, e.sim.CallsOf("machine-find"), initialBulkConcurrent, "what nothing waits for any more does not begin")
		require.Equal(t, minConcurrent, e.observer.bulkLimiter.limit())
	})
}

func TestCostTally_ChargesFewConcurrentCallsByMedian(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &costTally{}
		a.addConcurrent(callGet, 3500*time.Microsecond, false)
		for range 8 {
			a.addConcurrent(callGet, 900*time.Millisecond, false)
		}
		require.InDelta(t, 7.2, a.finish(newCostModel(clock.RealClock{})).Seconds(), .01)
		require.True(t, a.isSlow())
	})
}

// sizes pays for all batches, and records how many observations each was.
type sizes struct {
	o     *Observer
	calls []callKind
	of    []int
}

func (s *sizes) reserve(cost time.Duration) bool {
	s.of = append(s.of, int(cost/s.o.costOf(s.calls)))
	return true
}

func (s *sizes) commit(time.Duration, time.Duration) {}

func TestObserveInBatches_HalvesUnansweredBatches(t *testing.T) {
	for endpoint, k := range map[string]callKind{"machine-get": callGet, "machine-find": callFind} {
		t.Run(endpoint, func(t *testing.T) {
			runTest(t, envConfig{machines: 100, costs: true}, func(t *testing.T, e *env) {
				ids := e.install(simulator.ProjectA, 32)
				e.sweep()
				e.sim.Inject(simulator.Fault{Endpoint: endpoint, Kind: simulator.FaultHang, Skip: 7})
				// Networks are answered meanwhile: the metal-api is not away.
				network := e.network(simulator.ProjectA)
				for i := range 200 {
					time.AfterFunc(time.Duration(i)*time.Second, func() { _ = e.observer.observeNetwork(context.Background(), &costTally{}, network) })
				}
				observe := e.observer.getMachine
				if k == callFind {
					observe = e.observer.findMachine
				}
				funder := &sizes{o: e.observer, calls: []callKind{k}}
				_ = e.observer.observeInBatches(t.Context(), funder, ids, funder.calls, observe)
				require.Equal(t, []int{1, 2, 4, 8, 4, 2, 1}, funder.of[:7])
			})
		})
	}
}

func TestPlanScope_NothingIsLeftAfterNetworks(t *testing.T) {
	runTest(t, envConfig{machines: 20, costs: true}, func(t *testing.T, e *env) {
		e.install(simulator.ProjectA, 1)
		e.sweep()
		want := metal.Scope{Fleet: true, Networks: []string{"network"}}
		_, p := e.observer.planScope(want, newLimits(time.Second, time.Second))
		require.True(t, p.list)
		_, p = e.observer.planScope(want, newLimits(e.observer.costs.latency(callNetworkGet, 1), e.observer.costs.cost(callNetworkGet, 1)))
		require.False(t, p.list)
		require.Len(t, p.gets, 1, "the cheapest")
	})
}

// A read of a fleet in which no machine is known must not be taken for confirmed
// without a call, be the list ever so expensive.
func TestPlanMachines_EmptyFleetNeedsACall(t *testing.T) {
	runTest(t, envConfig{machines: 20, costs: true}, func(t *testing.T, e *env) {
		e.sweep()
		for _, want := range []metal.Scope{{Fleet: true}, {Project: simulator.ProjectA}} {
			_, p := e.observer.planScope(want, newLimits(0, 0))
			require.True(t, p.list || len(p.finds) > 0, "%+v", want)
		}
	})
}

func TestFocus_PendingVerificationIsNotDelayedByTransitions(t *testing.T) {
	runTest(t, envConfig{machines: 1000, costs: true}, func(t *testing.T, e *env) {
		silent := e.install(simulator.ProjectA, 60)
		gone := e.install(simulator.ProjectA, 1)[0]
		e.sweep()
		e.silence(silent)
		require.NoError(t, e.sim.ForceFree(gone))
		remove := e.sim.Inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultStatus, Status: 500, Message: "x"})
		installing := e.allocate(simulator.ProjectA, 1)[0]
		e.sweep()
		remove()
		time.Sleep(DefaultSweepInterval)
		moving, doubtful, _ := e.observer.dueMachines()
		require.Len(t, moving, 61)
		require.Equal(t, []string{gone}, doubtful)

		e.observer.budget.commit(focusAccount, 0, e.observer.budget.balance(focusAccount))
		began := time.Now()
		for e.machine(gone).Allocation != nil {
			time.Sleep(DefaultFocusInterval)
			e.observer.focus(t.Context())
			require.Less(t, time.Since(began), 30*time.Second)
			require.Less(t, time.Since(observedAt(&e.observer.facts.machines, installing)), 2*DefaultFocusInterval, "what is being allocated comes first")
		}
		time.Sleep(time.Minute)
		e.observer.focus(t.Context())
		moved := 0
		for _, id := range silent {
			if observedAt(&e.observer.facts.machines, id).After(began) {
				moved++
			}
		}
		require.Positive(t, moved, "and the others have their turn again")
	})
}

func TestRefresh_OfEndedReadMakesNoCall(t *testing.T) {
	runTest(t, envConfig{machines: 100, costs: true}, func(t *testing.T, e *env) {
		ids := e.install(simulator.ProjectA, 2)
		e.sweep()
		e.sim.ResetCalls()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, e.observer.Refresh(ctx, metal.Scope{Machines: ids[:1]}), context.Canceled)
		time.Sleep(time.Minute)
		require.Zero(t, e.sim.CallsOf("machine-get"))
	})
}

func TestRefresh_OfReadThatLeftWhileItWaitedForBudgetMakesNoCall(t *testing.T) {
	var balances []time.Duration
	for _, read := range []bool{false, true} {
		runTest(t, envConfig{machines: 100, costs: true}, func(t *testing.T, e *env) {
			ids := e.install(simulator.ProjectA, 2)
			e.sweep()
			e.sim.ResetCalls()
			// A get would wait for 2 ms: as much as it costs is left to others.
			e.spend(2*getCost - 60*time.Microsecond)
			if read {
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Millisecond, cancel)
				require.ErrorIs(t, e.observer.Refresh(ctx, metal.Scope{Machines: ids[:1]}), context.Canceled)
			} else {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(time.Minute)
			require.Zero(t, e.sim.CallsOf("machine-get"))
			balances = append(balances, e.observer.budget.balance(readAccount))
		})
	}
	require.InDelta(t, balances[0], balances[1], float64(time.Microsecond), "nothing is spent")
}
