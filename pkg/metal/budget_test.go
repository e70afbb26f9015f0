package metal

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

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// measure returns how many sweeps there were in a time, and in which part of
// it the metal-api was busy for us.
func (b *bed) measure(d time.Duration) (sweeps int, share float64) {
	b.sim.ResetCalls()
	_, _, before := b.obs.budget.balances()
	time.Sleep(d)
	_, _, after := b.obs.budget.balances()
	return b.sim.CallsOf("machine-list"), (after - before).Seconds() / d.Seconds()
}

func TestAtRestTheIntervalOfSweepsGrowsWithTheFleetAndTheLoadDoesNot(t *testing.T) {
	for _, machines := range []int{100, 1000} {
		t.Run(strconv.Itoa(machines), func(t *testing.T) {
			inBed(t, bedConfig{machines: machines, costs: true}, func(t *testing.T, b *bed) {
				b.run()
				time.Sleep(time.Minute)
				sweeps, share := b.measure(3 * time.Minute)
				t.Logf("%d sweeps in 3 min, busy %.2f %% of the time", sweeps, 100*share)
				require.InDelta(t, 17, sweeps, 1.1, "one each ten seconds")
				require.LessOrEqual(t, share, DefaultBudget)
			})
		})
	}
}

func TestTheBudgetHoldsAtTenThousandMachines(t *testing.T) {
	inBed(t, bedConfig{machines: 10_000, costs: true}, func(t *testing.T, b *bed) {
		ids := b.allocated(simulator.ProjectA, 100)
		for _, id := range ids[:90] {
			require.NoError(t, b.sim.PhoneHome(id))
		}
		b.run()
		time.Sleep(90 * time.Second)
		sweeps, share := b.measure(5 * time.Minute)
		t.Logf("at rest, but for 10 machines that install: %d sweeps in 5 min, busy %.2f %%", sweeps, 100*share)
		require.GreaterOrEqual(t, sweeps, 2)
		require.LessOrEqual(t, share, DefaultBudget+5.5/300, "one sweep more or less")

		// Thirty readers that never rest.
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var mu sync.Mutex
		confirmed, unconfirmed := map[string]int{}, map[string]int{}
		for name, want := range map[string]Want{
			"object":    {Machines: ids[:1]},
			"namespace": {Project: simulator.ProjectA, Machines: ids},
			"fleet":     {Fleet: true},
		} {
			for range 10 {
				wg.Go(func() {
					for ctx.Err() == nil {
						began := time.Now()
						err := b.obs.Confirm(ctx, want)
						if time.Since(began) > DefaultReadLimit {
							t.Error("a read waited for longer than its limit")
						}
						mu.Lock()
						if err == nil {
							confirmed[name]++
						} else {
							unconfirmed[name]++
						}
						mu.Unlock()
						time.Sleep(500 * time.Millisecond)
					}
				})
			}
		}
		time.Sleep(2 * time.Minute) // in which they spend what was saved
		sweeps, share = b.measure(5 * time.Minute)
		cancel()
		wg.Wait()
		t.Logf("with 30 readers: %d sweeps in 5 min, busy %.2f %%; confirmed %v, unconfirmed %v", sweeps, 100*share, confirmed, unconfirmed)
		require.LessOrEqual(t, share, DefaultBudget+5.5/300, "one sweep more or less")
		require.GreaterOrEqual(t, sweeps, 1, "reads do not starve sweeps")
		require.Greater(t, confirmed["object"], 100*unconfirmed["object"], "nor dear reads cheap ones")
	})
}

func TestAFleetWideReadThatCannotBeFinishedIsAnsweredAtOnce(t *testing.T) {
	inBed(t, bedConfig{machines: 1000, costs: true, options: ObserverOptions{Budget: 0.0003}}, func(t *testing.T, b *bed) {
		b.allocated(simulator.ProjectA, 200)
		b.allocated(simulator.ProjectB, 200)
		for range 5 {
			b.swept()
		}
		swept := b.obs.lastSweep()
		began := time.Now()
		var u *Unconfirmed
		require.ErrorAs(t, b.obs.Confirm(t.Context(), Want{Fleet: true}), &u)
		require.ErrorIs(t, u, ErrOverBudget)
		require.Equal(t, swept, u.Since)
		require.Zero(t, time.Since(began))
	})
}

func TestBudgetSavesAndSpends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(clock.RealClock{}, 0.05)
		require.Equal(t, 30*time.Second, b.burst)
		b.burst, b.live = 2*time.Second, 2*time.Second
		ok, _ := b.reserve(1500*time.Millisecond, 0)
		require.True(t, ok)
		ok, wait := b.reserve(time.Second, 0)
		require.False(t, ok)
		require.Equal(t, 10*time.Second, wait, "half a second at 5 %")
		time.Sleep(wait)
		ok, _ = b.reserve(time.Second, 0)
		require.True(t, ok)

		// It took longer than it was expected to: a debt.
		b.settle(time.Second, 2*time.Second)
		live, _, busy := b.balances()
		require.InDelta(t, -1, live.Seconds(), 1e-3)
		require.Equal(t, 2*time.Second, busy)

		// A sweep gets half of the income while reads are poor, all when they are not.
		b.swept(time.Second)
		require.InDelta(t, 20, b.untilSweep().Seconds(), .1)
		time.Sleep(20 * time.Second)
		_, sweep, _ := b.balances()
		require.InDelta(t, -.5, sweep.Seconds(), 1e-3)
		time.Sleep(20 * time.Second)
		require.Zero(t, b.untilSweep())
		live, _, _ = b.balances()
		require.InDelta(t, 0, live.Seconds(), 1e-3)
		time.Sleep(time.Hour)
		live, sweep, _ = b.balances()
		require.Equal(t, b.burst, live)
		require.Zero(t, sweep)
		b.swept(time.Second)
		time.Sleep(20 * time.Second)
		require.Zero(t, b.untilSweep())
	})
}

func TestABudgetThatIsSpentIsAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(clock.RealClock{}, 0.05)
		b.burst, b.live = 2*time.Second, 2*time.Second
		require.NoError(t, b.await(t.Context(), 2*time.Second))
		began := time.Now()
		require.NoError(t, b.await(t.Context(), 50*time.Millisecond))
		require.InDelta(t, 1, time.Since(began).Seconds(), .01)

		// What a look did not need is there at once for who waits.
		done := make(chan error)
		go func() { done <- b.await(t.Context(), time.Second) }()
		synctest.Wait()
		b.settle(2*time.Second, 0)
		require.NoError(t, <-done)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.NoError(t, b.await(t.Context(), 900*time.Millisecond))
		require.ErrorIs(t, b.await(ctx, time.Second), ErrOverBudget)
	})
}

func TestCostsAreLearned(t *testing.T) {
	c := newCosts()
	c.measured(callList, 10_000, 5*time.Second)
	require.InDelta(t, 3.5e-3, c.of(callGet, 1).Seconds(), 1e-4)
	require.InDelta(t, .9, c.of(callFind, 0).Seconds(), .01)
	require.InDelta(t, 5, c.of(callList, 0).Seconds(), .1)
	for range 1500 {
		c.measured(callGet, 1, 35*time.Millisecond)
	}
	require.InDelta(t, 35e-3, c.of(callGet, 1).Seconds(), 1e-3, "this metal-api is ten times as slow")
	for i := range 300 {
		c.measured(callGet, 1, time.Duration(4+i*17%50)*time.Millisecond)
	}
	require.Less(t, c.of(callGet, 1), 15*time.Millisecond, "of calls side by side those that waited least tell the cost")
	c.measured(callGet, 1, time.Hour)
	require.Less(t, c.of(callGet, 1), time.Second, "one call that hangs does not spoil the estimate")
}

func TestAwayBacksOffWithJitterAndForgetsItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &away{clock: clock.RealClock{}}
		require.NoError(t, a.pass())
		gone := errors.New("gone")
		a.missed(gone)
		require.ErrorIs(t, a.pass(), gone)
		passes := 0
		waits := map[time.Duration]bool{}
		for began := time.Now(); time.Since(began) < 10*time.Minute; time.Sleep(100 * time.Millisecond) {
			if a.pass() == nil {
				passes++
				a.missed(gone)
				w := a.wait()
				require.LessOrEqual(t, w, scale(mostBackoff, 1+jitter))
				waits[w] = true
			}
		}
		require.InDelta(t, 200, passes, 20)
		require.Greater(t, len(waits), passes-3)
		require.True(t, a.reached())
		require.False(t, a.reached())
		require.NoError(t, a.pass())
	})
}
