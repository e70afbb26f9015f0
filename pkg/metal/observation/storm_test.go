package observation

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/client"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// installed lets somebody else allocate machines that have phoned home.
func (b *bed) installed(project string, n int) (ids []string) {
	b.t.Helper()
	ids = b.allocated(project, n)
	for _, id := range ids {
		require.NoError(b.t, b.sim.PhoneHome(id))
	}
	return ids
}

// silenced makes machines newly silent, and known to be so.
func (b *bed) silenced(ids []string) {
	b.t.Helper()
	for _, id := range ids {
		require.NoError(b.t, b.sim.Silence(id))
	}
	time.Sleep(silentAfter + time.Minute)
	b.swept()
	time.Sleep(DefaultSweepInterval)
}

// confirm reads, and returns for how long.
func (b *bed) confirm(want metal.Want) (time.Duration, error) {
	began := time.Now()
	err := b.obs.Confirm(b.t.Context(), want)
	return time.Since(began), err
}

func TestFocus_RoundIsBoundedWhateverAnswersTake(t *testing.T) {
	inBed(t, bedConfig{machines: 400, costs: true}, func(t *testing.T, b *bed) {
		ids := b.installed(simulator.ProjectA, 150)
		b.swept()
		b.silenced(ids)
		moving, _, _ := b.obs.due()
		require.Len(t, moving, 150)

		b.sim.SetSlowdown(100)
		b.sim.ResetCalls()
		b.obs.focus(t.Context())
		t.Logf("%v", b.sim.Calls())
		require.Positive(t, b.sim.CallsOf("machine-get"))
		require.Less(t, b.sim.BusyTime(), roundCost+time.Second)
		for range 30 {
			time.Sleep(time.Second)
			b.obs.focus(t.Context())
		}
		require.Less(t, b.sim.BusyTime(), 15*time.Second, "what focus has saved, and earns")
		require.GreaterOrEqual(t, b.obs.budget.spare(forFocus), b.obs.budget.saved[forFocus].floor)
		require.Equal(t, b.obs.budget.most(forReads), b.obs.budget.spare(forReads))

		// It is fast again: the list is the cheapest.
		b.sim.SetSlowdown(1)
		time.Sleep(time.Minute)
		b.sim.ResetCalls()
		b.obs.focus(t.Context())
		require.Equal(t, 1, b.sim.CallsOf("machine-list")+b.sim.CallsOf("machine-find"))
		require.LessOrEqual(t, b.sim.CallsOf("machine-get"), 1)
	})
}

func TestFocus_BatchesFollowAnswerTimes(t *testing.T) {
	inBed(t, bedConfig{machines: 1000, costs: true}, func(t *testing.T, b *bed) {
		b.allocated(simulator.ProjectA, 63)
		b.swept()
		time.Sleep(time.Minute)
		began := time.Now()
		b.obs.focus(t.Context())
		require.Equal(t, 63, b.sim.CallsOf("machine-get"))
		require.Equal(t, 6*3500*time.Microsecond, time.Since(began), "1, 2, 4, 8, 16 and 32 side by side")

		time.Sleep(time.Minute)
		b.sim.SetSlowdown(20)
		b.sim.ResetCalls()
		most, under := 0, 0
		var mu sync.Mutex
		b.wire.Around(func(*http.Request) { mu.Lock(); under++; most = max(most, under); mu.Unlock() },
			func(*http.Request) { mu.Lock(); under--; mu.Unlock() })
		b.obs.focus(t.Context())
		require.LessOrEqual(t, most, 2)
	})
}

func TestFocus_AllocatingComesBeforeNewlySilent(t *testing.T) {
	inBed(t, bedConfig{machines: 1000, costs: true}, func(t *testing.T, b *bed) {
		silent := b.installed(simulator.ProjectA, 20)
		attended := b.installed(simulator.ProjectA, 1)[0]
		b.swept()
		b.silenced(silent)
		installing := b.allocated(simulator.ProjectA, 2)
		b.swept()
		time.Sleep(silentAfter)
		b.obs.Attend(time.Minute, attended)
		moving, _, _ := b.obs.due()
		require.Len(t, moving, 23)
		require.ElementsMatch(t, append(installing, attended), moving[:3])
		// Of the silent ones those first that were not looked at for longest.
		b.obs.tries(silent[0])
		time.Sleep(time.Minute)
		moving, _, _ = b.obs.due()
		require.Equal(t, silent[0], moving[len(moving)-1])
	})
}

func TestStorm_ReadsAreConfirmedThroughoutAndAfterIt(t *testing.T) {
	inBed(t, bedConfig{machines: 400, costs: true}, func(t *testing.T, b *bed) {
		ids := b.installed(simulator.ProjectA, 180)
		b.run()
		time.Sleep(time.Minute)
		for _, id := range ids {
			require.NoError(t, b.sim.Silence(id))
		}
		time.Sleep(silentAfter - 10*time.Second)
		b.sim.SetSlowdown(100)
		storm := time.Now()
		_, _, busy := b.obs.budget.balances()
		for time.Since(storm) < 5*time.Minute {
			time.Sleep(10 * time.Second)
			took, err := b.confirm(metal.Want{Machines: ids[:1]})
			require.LessOrEqual(t, took, DefaultReadLimit)
			if time.Since(storm) > time.Minute {
				require.NoError(t, err, "a get takes 0.35 s: %s", time.Since(storm))
			}
		}
		_, _, after := b.obs.budget.balances()
		t.Logf("the metal-api was busy for us for %s of 5 min", after-busy)
		require.Less(t, (after - busy).Seconds(), 65.0, "two sweeps of 20 s, what focus had saved, and 5 %")

		b.sim.SetSlowdown(1)
		time.Sleep(10 * time.Second)
		for _, want := range []metal.Want{{Machines: ids[:1]}, {Machines: ids[:50]}, {Project: simulator.ProjectA}} {
			_, err := b.confirm(want)
			require.NoError(t, err)
		}
	})
}

func TestObserver_SavingsForReadsAreThereAtRest(t *testing.T) {
	inBed(t, bedConfig{machines: 1000, costs: true}, func(t *testing.T, b *bed) {
		ids := b.allocated(simulator.ProjectA, 20) // and none of them phones home
		b.run()
		time.Sleep(5 * time.Minute)
		require.Equal(t, b.obs.budget.most(forReads), b.obs.budget.spare(forReads), "focus and sweeps spend nothing of it")
		for _, want := range []metal.Want{{Machines: ids[:1]}, {Project: simulator.ProjectA}, {Fleet: true}} {
			_, err := b.confirm(want)
			require.NoError(t, err)
		}
	})
}

func TestObserver_CallThatIsGivenUpIsBookedAndNotRepeatedAtOnce(t *testing.T) {
	inBed(t, bedConfig{machines: 1000, costs: true}, func(t *testing.T, b *bed) {
		b.installed(simulator.ProjectA, 300)
		b.swept()
		want := metal.Want{Project: simulator.ProjectA}
		_, err := b.confirm(want)
		require.NoError(t, err)
		require.Equal(t, 1, b.sim.CallsOf("machine-find"), "the soonest that is not dear")

		b.sim.Inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultLatency, Latency: time.Minute})
		_, _, busy := b.obs.budget.balances()
		_, err = b.confirm(want)
		require.ErrorIs(t, err, metal.ErrTooSlow)
		time.Sleep(client.DefaultTimeouts.Find)
		_, _, after := b.obs.budget.balances()
		require.GreaterOrEqual(t, after-busy, client.DefaultTimeouts.Find, "the metal-api works on")
		// Whether it is away is not known before something else was asked.
		b.obs.probe(t.Context())
		require.False(t, b.obs.away.gone())

		for range 3 {
			time.Sleep(time.Second)
			took, err := b.confirm(want)
			require.NoError(t, err, "by gets")
			require.Less(t, took, DefaultReadLimit)
		}
		time.Sleep(time.Minute)
		require.Equal(t, 2, b.sim.CallsOf("machine-find"), "gets are cheaper now")
	})
}

func TestObserver_ListThatIsGivenUpWhileOthersAreAnsweredIsNotRepeatedAtOnce(t *testing.T) {
	inBed(t, bedConfig{machines: 100, costs: true}, func(t *testing.T, b *bed) {
		b.installed(simulator.ProjectA, 10)
		b.run()
		time.Sleep(30 * time.Second)
		b.sim.Inject(simulator.Fault{Endpoint: "machine-list", Kind: simulator.FaultLatency, Latency: 5 * time.Minute})
		time.Sleep(20 * time.Second)
		require.False(t, b.obs.away.gone(), "a get is answered meanwhile")
		b.sim.ResetCalls()
		time.Sleep(8 * time.Minute)
		require.LessOrEqual(t, b.sim.CallsOf("machine-list"), 1)
		_, err := b.confirm(metal.Want{Project: simulator.ProjectA})
		require.NoError(t, err)
	})
}

func TestConfirm_ForeseenLatenessIsAnsweredAtOnce(t *testing.T) {
	inBed(t, bedConfig{machines: 1000, costs: true}, func(t *testing.T, b *bed) {
		ids := b.installed(simulator.ProjectA, 300)
		b.swept()
		b.sim.SetSlowdown(500) // a get takes 1.75 s
		for _, want := range []metal.Want{{Machines: ids[:1]}, {Project: simulator.ProjectA}, {Fleet: true}} {
			took, err := b.confirm(want)
			require.ErrorIs(t, err, metal.ErrTooSlow)
			require.LessOrEqual(t, took, DefaultReadLimit, "who comes first finds out")
		}
		for i := range 20 {
			for _, want := range []metal.Want{{Machines: ids[i : i+1]}, {Project: simulator.ProjectA}, {Fleet: true}} {
				took, err := b.confirm(want)
				require.ErrorIs(t, err, metal.ErrTooSlow)
				require.Zero(t, took)
			}
			time.Sleep(100 * time.Millisecond)
		}
		require.Equal(t, 1, b.sim.CallsOf("machine-get"), "a call that ended")
	})
}

func TestConfirm_OneMachineThatHangsDelaysNoOther(t *testing.T) {
	inBed(t, bedConfig{machines: 1000, costs: true}, func(t *testing.T, b *bed) {
		ids := b.installed(simulator.ProjectA, 50)
		b.swept()
		hang := metal.Want{Machines: ids[:1]}
		b.sim.Inject(simulator.Fault{Endpoint: "machine-get", Kind: simulator.FaultHang, Match: func(r *http.Request) bool {
			return r.URL.Path == "/v1/machine/"+ids[0]
		}})
		b.sim.ResetCalls()
		waited := 0
		for range 60 {
			if took, err := b.confirm(hang); took > 0 {
				require.ErrorIs(t, err, metal.ErrTooSlow)
				waited++
			}
			took, err := b.confirm(metal.Want{Machines: ids[1:2]})
			require.NoError(t, err)
			require.Equal(t, 3500*time.Microsecond, took)
			time.Sleep(500 * time.Millisecond)
		}
		require.LessOrEqual(t, waited, 4, "each time it is tried again, later and later")
	})
}

func TestConfirm_GetsInTheSameMomentShareTheCheapestLook(t *testing.T) {
	for name, c := range map[string]struct {
		machines       int
		atMost         time.Duration
		within         time.Duration
		getsAtMost     int
		togetherAtMost int
	}{
		"gets where finds are dear": {1000, 50 * 3500 * time.Microsecond, 15 * time.Millisecond, 50, 0},
		"a list of a small fleet":   {120, 80 * time.Millisecond, 80 * time.Millisecond, soloLooks, 1},
	} {
		t.Run(name, func(t *testing.T) {
			inBed(t, bedConfig{machines: c.machines, costs: true}, func(t *testing.T, b *bed) {
				ids := b.installed(simulator.ProjectA, 50)
				b.swept()
				time.Sleep(time.Minute)
				b.sim.ResetCalls()
				var wg sync.WaitGroup
				for _, id := range ids {
					wg.Go(func() {
						took, err := b.confirm(metal.Want{Machines: []string{id}})
						if err != nil || took > c.within {
							t.Errorf("%s, %v", took, err)
						}
					})
				}
				wg.Wait()
				t.Logf("%v", b.sim.Calls())
				require.LessOrEqual(t, b.sim.BusyTime(), c.atMost)
				require.LessOrEqual(t, b.sim.CallsOf("machine-get"), c.getsAtMost)
				require.LessOrEqual(t, b.sim.CallsOf("machine-list")+b.sim.CallsOf("machine-find"), c.togetherAtMost)

				took, err := b.confirm(metal.Want{Machines: ids[:1]})
				require.NoError(t, err)
				require.Equal(t, 3500*time.Microsecond, took, "one get takes what it costs")
			})
		})
	}
}

func TestConfirm_WithoutBudgetReadsAreAnsweredAtOnce(t *testing.T) {
	inBed(t, bedConfig{machines: 1000, costs: true}, func(t *testing.T, b *bed) {
		ids := b.installed(simulator.ProjectA, 50)
		b.swept()
		ok, _ := b.obs.budget.reserve(forReads, b.obs.budget.spare(forReads))
		require.True(t, ok)
		var wg sync.WaitGroup
		var mu sync.Mutex
		confirmed, waits := 0, 0
		for _, id := range ids {
			wg.Go(func() {
				took, err := b.confirm(metal.Want{Machines: []string{id}})
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					confirmed++
				case took > 20*time.Millisecond:
					waits++
				}
			})
		}
		wg.Wait()
		require.Positive(t, confirmed, "a second earns some gets")
		require.LessOrEqual(t, waits, 15, "only looks that others, which need less, went ahead of")
		took, err := b.confirm(metal.Want{Project: simulator.ProjectA})
		require.ErrorIs(t, err, metal.ErrOverBudget)
		require.Zero(t, took)
	})
}
