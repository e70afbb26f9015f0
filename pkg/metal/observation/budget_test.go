// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// measure returns how many sweeps there were in a time, and in which part of
// it the metal-api was busy for us.
func (e *env) measure(d time.Duration) (sweeps int, share float64) {
	e.sim.ResetCalls()
	_, _, before := e.observer.budget.balances()
	time.Sleep(d)
	_, _, after := e.observer.budget.balances()
	return e.sim.CallsOf("machine-list"), (after - before).Seconds() / d.Seconds()
}

func TestSweep_IntervalGrowsWithFleetNotLoad(t *testing.T) {
	for _, machines := range []int{25, 100} {
		t.Run(strconv.Itoa(machines), func(t *testing.T) {
			runTest(t, envConfig{machines: machines, costs: true}, func(t *testing.T, e *env) {
				e.run()
				time.Sleep(time.Minute)
				sweeps, share := e.measure(3 * time.Minute)
				t.Logf("%d sweeps in 3 min, busy %.2f %% of the time", sweeps, 100*share)
				require.InDelta(t, 17, sweeps, 1.1, "one each ten seconds")
				require.LessOrEqual(t, share, DefaultBudget)
			})
		})
	}
}

// A sweep costs 1 s of a budget of 1 %: as 10,000 machines do of DefaultBudget, but
// without encoding so many; lists and finds take as long as those of 2,000.
func TestBudget_HoldsWhereSweepCostsTwoMinutesIncome(t *testing.T) {
	const budget = DefaultBudget / 5
	runTest(t, envConfig{machines: 200, costs: true, options: Options{Budget: budget}}, func(t *testing.T, e *env) {
		e.sim.Inject(simulator.Fault{Endpoint: "machine-list", Kind: simulator.FaultLatency, Latency: 900 * time.Millisecond})
		e.sim.Inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultLatency, Latency: 162 * time.Millisecond})
		ids := e.allocate(simulator.ProjectA, 20)
		for _, id := range ids[:18] {
			require.NoError(t, e.sim.PhoneHome(id))
		}
		e.run()
		time.Sleep(90 * time.Second)
		sweeps, share := e.measure(5 * time.Minute)
		t.Logf("at rest, but for 2 machines that install: %d sweeps in 5 min, busy %.2f %%", sweeps, 100*share)
		require.GreaterOrEqual(t, sweeps, 2)
		require.LessOrEqual(t, share, budget+1.1/300, "one sweep more or less")

		// Thirty readers that never rest.
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var mu sync.Mutex
		confirmed, unconfirmed := map[string]int{}, map[string]int{}
		for name, want := range map[string]metal.Scope{
			"object":    {Machines: ids[:1]},
			"namespace": {Project: simulator.ProjectA, Machines: ids},
			"fleet":     {Fleet: true},
		} {
			for range 10 {
				wg.Go(func() {
					for ctx.Err() == nil {
						began := time.Now()
						err := e.observer.Refresh(ctx, want)
						if time.Since(began) > DefaultRefreshTimeout {
							t.Error("a read waited for longer than its limit")
						}
						mu.Lock()
						if err == nil {
							confirmed[name]++
						} else {
							unconfirmed[name]++
						}
						mu.Unlock()
						time.Sleep(2500 * time.Millisecond)
					}
				})
			}
		}
		time.Sleep(2 * time.Minute) // in which they spend what was saved
		sweeps, share = e.measure(5 * time.Minute)
		cancel()
		wg.Wait()
		t.Logf("with 30 readers: %d sweeps in 5 min, busy %.2f %%; confirmed %v, unconfirmed %v", sweeps, 100*share, confirmed, unconfirmed)
		require.LessOrEqual(t, share, budget+1.1/300, "one sweep more or less")
		require.GreaterOrEqual(t, sweeps, 1, "reads do not starve sweeps")
		// A cheap read that arrives when an expensive one has just spent the last is not confirmed:
		// one of 15 to 40, as the readers that wake at the same time happen to be scheduled.
		require.Greater(t, confirmed["object"], 10*unconfirmed["object"], "nor expensive reads cheap ones")
		require.Greater(t, confirmed["object"], 5*confirmed["namespace"], "which are confirmed as often as what is left pays")
	})
}

func TestRefresh_FleetThatCannotFinishIsAnsweredAtOnce(t *testing.T) {
	runTest(t, envConfig{machines: 250, costs: true, options: Options{Budget: 0.000075}}, func(t *testing.T, e *env) {
		e.allocate(simulator.ProjectA, 50)
		e.allocate(simulator.ProjectB, 50)
		for range 5 {
			e.sweep()
		}
		swept := e.observer.lastSweepStart()
		began := time.Now()
		var u *metal.StaleError
		require.ErrorAs(t, e.observer.Refresh(t.Context(), metal.Scope{Fleet: true}), &u)
		require.ErrorIs(t, u, metal.ErrBudgetExceeded)
		require.Equal(t, swept, u.Since)
		require.Zero(t, time.Since(began))
	})
}

// emptied is a budget whose accounts hold nothing.
func emptied(rate float64) *budget {
	b := newBudget(clock.RealClock{}, rate)
	for p := range numAccounts {
		b.accounts[p].balance = 0
	}
	return b
}

func TestBudget_SharesIncome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(clock.RealClock{}, 0.05)
		require.Equal(t, 30*time.Second, b.balance(readAccount))
		require.Equal(t, 10*time.Second, b.balance(focusAccount))
		b = emptied(0.05)
		b.chargeSweep(30 * time.Second)
		time.Sleep(100 * time.Second)
		saved, sweep, busy := b.balances()
		require.InDelta(t, 1.5, saved[readAccount].Seconds(), 1e-3)
		require.InDelta(t, 1.5, saved[focusAccount].Seconds(), 1e-3)
		require.InDelta(t, -28, sweep.Seconds(), 1e-3)
		require.Equal(t, 30*time.Second, busy)

		// What one does not need goes to the others.
		b = emptied(0.05)
		time.Sleep(100 * time.Second)
		saved, _, _ = b.balances()
		require.InDelta(t, 3.5, saved[readAccount].Seconds(), 1e-3)
		b.accounts[readAccount].balance = b.accounts[readAccount].burst
		time.Sleep(100 * time.Second)
		require.InDelta(t, 6.5, b.balance(focusAccount).Seconds(), 1e-3)
		b.accounts[focusAccount].balance = b.accounts[focusAccount].burst
		b.chargeSweep(time.Second)
		require.InDelta(t, 20, b.sweepDelay().Seconds(), .1)
		time.Sleep(20 * time.Second)
		require.Zero(t, b.sweepDelay())
		time.Sleep(time.Hour)
		saved, sweep, _ = b.balances()
		require.Equal(t, b.accounts[readAccount].burst, saved[readAccount])
		require.Zero(t, sweep)
	})
}

func TestBudget_AccountsDoNotPayForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(clock.RealClock{}, 0.05)
		for ok := true; ok; ok, _ = b.reserve(focusAccount, 100*time.Millisecond) {
		}
		b.commit(focusAccount, 0, time.Hour)
		b.chargeSweep(time.Hour)
		require.Equal(t, 30*time.Second, b.balance(readAccount))
		ok, _ := b.reserve(readAccount, 30*time.Second)
		require.True(t, ok)
	})
}

func TestBudget_DebtHasAFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(clock.RealClock{}, 0.05)
		for p := range numAccounts {
			ok, _ := b.reserve(p, time.Second)
			require.True(t, ok)
			b.commit(p, time.Second, 670*time.Second)
		}
		b.chargeSweep(670 * time.Second)
		_, _, busy := b.balances()
		require.Equal(t, 3*670*time.Second, busy, "it is booked nevertheless")
		require.Equal(t, -100*time.Millisecond, b.balance(readAccount))
		require.Equal(t, -500*time.Millisecond, b.balance(focusAccount))
		require.Equal(t, 10*time.Minute, b.sweepDelay())
		require.NoError(t, b.reserveWithin(readAccount, 4*time.Millisecond, 10*time.Second), "a get can be paid within seconds")
	})
}

func TestBudget_ReserveWithinWaitsOnlyForFundsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := emptied(0.05)
		elapsed := func() func() float64 {
			began := time.Now()
			return func() float64 { return time.Since(began).Seconds() }
		}
		took := elapsed()
		require.NoError(t, b.reserveWithin(readAccount, 20*time.Millisecond, 2*time.Second))
		require.InDelta(t, 1.143, took(), .01, "40 ms at 70 % of 5 %: as much is left to others")
		took = elapsed()
		require.ErrorIs(t, b.reserveWithin(readAccount, 50*time.Millisecond, time.Second), metal.ErrBudgetExceeded)
		require.Zero(t, took(), "it would be 2.3 s")

		// What an observation did not need is there at once for what waits.
		done := make(chan error)
		go func() { done <- b.reserveWithin(readAccount, 27*time.Millisecond, time.Second) }()
		synctest.Wait()
		took = elapsed()
		b.commit(readAccount, time.Second, 0)
		require.NoError(t, <-done)
		require.Zero(t, took())

		// Of many who wait only those stay whose turn comes in time.
		b = emptied(0.05)
		var wg sync.WaitGroup
		var mu sync.Mutex
		granted, longest := 0, 0.0
		for range 50 {
			wg.Go(func() {
				took := elapsed()
				err := b.reserveWithin(readAccount, 4*time.Millisecond, time.Second)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					granted++
				} else {
					longest = max(longest, took())
				}
			})
		}
		wg.Wait()
		require.InDelta(t, 7, granted, 1, "35 ms are earned in that second, of which 4 are left")
		require.Less(t, longest, .1)
	})
}

func TestBudget_ReadsLeaveFundsToThoseThatCostLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(clock.RealClock{}, 0.05)
		reserve := func(cost time.Duration) error { return b.reserveWithin(readAccount, cost, 0) }
		require.ErrorIs(t, reserve(28*time.Second), metal.ErrBudgetExceeded, "a tenth of the capacity is left")
		most, saved := b.affordable(readAccount, 0)
		require.Equal(t, 27*time.Second, most)
		require.InDelta(t, 1, saved, 0)
		require.NoError(t, reserve(most))
		most, saved = b.affordable(readAccount, 0)
		require.Equal(t, 1500*time.Millisecond, most, "or as much as is spent")
		require.InDelta(t, 0.1, saved, 0)
		require.ErrorIs(t, reserve(most+1), metal.ErrBudgetExceeded)
		require.NoError(t, reserve(most))
		for range 10 {
			most, _ = b.affordable(readAccount, 0)
			require.NoError(t, reserve(most))
		}
		require.Positive(t, b.balance(readAccount))
	})
}

func TestCostModel_FollowsMeasurements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCostModel(clock.RealClock{})
		c.setFleetSize(10_000)
		require.InDelta(t, 3.5e-3, c.cost(callGet, 1).Seconds(), 1e-4)
		require.InDelta(t, .9, c.cost(callFind, 0).Seconds(), .01)
		require.InDelta(t, 5, c.cost(callList, 0).Seconds(), .1)

		time.Sleep(time.Second)
		for range 5 {
			c.recordCost(callGet, 1, 350*time.Millisecond)
		}
		require.InDelta(t, .35, c.cost(callGet, 1).Seconds(), .02, "a few measurements are enough")
		require.InDelta(t, 500, c.cost(callList, 0).Seconds(), 30, "who is busy is so for every call")
		require.True(t, c.isSlow(callGet, 1, 350*time.Millisecond))
		c.recordCost(callGet, 1, 4*time.Millisecond)
		require.Less(t, c.cost(callGet, 1), 5*time.Millisecond, "one that is fast, too")
		require.InDelta(t, 5, c.cost(callList, 0).Seconds(), 1)
	})
}

func TestCostModel_ForgetsGradually(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCostModel(clock.RealClock{})
		c.recordTimeout(callFind, 1, 15*time.Second)
		require.InDelta(t, 15, c.cost(callFind, 1).Seconds(), .1)
		time.Sleep(10 * time.Second)
		require.InDelta(t, 7.5, c.cost(callFind, 1).Seconds(), .2)
		c.recordTimeout(callFind, 1, 15*time.Second)
		time.Sleep(10 * time.Second)
		require.InDelta(t, 10.6, c.cost(callFind, 1).Seconds(), .2, "the second time more slowly")
		time.Sleep(5 * time.Minute)
		require.Less(t, c.cost(callFind, 1), 200*time.Millisecond)
	})
}

func TestCostModel_CountsCallsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCostModel(clock.RealClock{})
		stuck := c.start(callGet)
		time.Sleep(3 * time.Second)
		require.Equal(t, 3*time.Second, c.latency(callGet, 1), "nothing was answered meanwhile")
		require.Equal(t, 3*time.Second, c.longestUnanswered())
		later := c.start(callGet)
		time.Sleep(4 * time.Millisecond)
		require.False(t, c.finish(callGet, later, true))
		require.Less(t, c.latency(callGet, 1), 5*time.Millisecond, "other machines are answered")
		require.Zero(t, c.longestUnanswered())
		require.True(t, c.finish(callGet, stuck, true), "an exception")
	})
}

func TestCostTally_ChargesConcurrentCallsByQuickestAndSlowOnesInFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCostModel(clock.RealClock{})
		a := &costTally{}
		for i := range 100 {
			a.addConcurrent(callGet, time.Duration(4+i%16)*time.Millisecond, false)
		}
		a.addConcurrent(callGet, 3*time.Second, false)
		require.InDelta(t, 3+100*5e-3, a.finish(c).Seconds(), .05)
		require.False(t, a.isSlow())
		a = &costTally{}
		for range 100 {
			a.addConcurrent(callGet, 350*time.Millisecond, false)
		}
		require.Equal(t, 35*time.Second, a.finish(c))
		require.True(t, a.isSlow())
	})
}

func TestLimiter_FollowsAnswerTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(100, 100)
		for range 100 {
			require.NoError(t, l.acquire(t.Context()))
		}
		began := time.Now()
		time.Sleep(time.Second)
		for range 100 {
			l.release(began, time.Now(), true)
		}
		require.Equal(t, 50, l.limit(), "those that ran side by side halve it once")
		for range 10 {
			time.Sleep(time.Second)
			require.NoError(t, l.acquire(t.Context()))
			l.release(time.Now(), time.Now(), true)
		}
		require.Equal(t, minConcurrent, l.limit())
		for range minConcurrent {
			require.NoError(t, l.acquire(t.Context()))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.Error(t, l.acquire(ctx))
		admitted := make(chan error)
		go func() { admitted <- l.acquire(t.Context()) }()
		synctest.Wait()
		l.release(time.Now(), time.Now(), false)
		require.NoError(t, <-admitted)
		for range 400 {
			l.release(time.Now(), time.Now(), false)
			require.NoError(t, l.acquire(t.Context()))
		}
		require.Equal(t, 100, l.limit())
	})
}

func TestCircuitBreaker_BacksOffWithJitterAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &circuitBreaker{clock: clock.RealClock{}}
		require.NoError(t, a.allow())
		gone := errors.New("gone")
		a.recordFailure(gone)
		require.ErrorIs(t, a.allow(), gone)
		passes := 0
		waits := map[time.Duration]bool{}
		for began := time.Now(); time.Since(began) < 10*time.Minute; time.Sleep(100 * time.Millisecond) {
			if a.allow() == nil {
				passes++
				a.recordFailure(gone)
				w := a.retryAfter()
				require.LessOrEqual(t, w, scale(maxBackoff, 1+jitter))
				waits[w] = true
			}
		}
		require.InDelta(t, 200, passes, 20)
		require.Greater(t, len(waits), passes-3)
		require.True(t, a.recordSuccess())
		require.False(t, a.recordSuccess())
		require.NoError(t, a.allow())
	})
}
