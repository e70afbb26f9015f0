// SPDX-License-Identifier: Apache-2.0

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

// install has another client allocate machines that have phoned home.
func (e *env) install(project string, n int) (ids []string) {
	e.t.Helper()
	ids = e.allocate(project, n)
	for _, id := range ids {
		require.NoError(e.t, e.sim.PhoneHome(id))
	}
	return ids
}

// silence makes machines newly silent, and known to be so.
func (e *env) silence(ids []string) {
	e.t.Helper()
	for _, id := range ids {
		require.NoError(e.t, e.sim.Silence(id))
	}
	time.Sleep(silentAfter + time.Minute)
	e.sweep()
	time.Sleep(DefaultSweepInterval)
}

// refresh reads, and returns for how long.
func (e *env) refresh(want metal.Scope) (time.Duration, error) {
	began := time.Now()
	err := e.observer.Refresh(e.t.Context(), want)
	return time.Since(began), err
}

func TestFocus_RoundIsBoundedWhateverAnswersTake(t *testing.T) {
	runTest(t, envConfig{machines: 400, costs: true}, func(t *testing.T, e *env) {
		ids := e.install(simulator.ProjectA, 150)
		e.sweep()
		e.silence(ids)
		moving, _, _ := e.observer.dueMachines()
		require.Len(t, moving, 150)

		e.sim.SetSlowdown(100)
		e.sim.ResetCalls()
		e.observer.focus(t.Context())
		t.Logf("%v", e.sim.Calls())
		require.Positive(t, e.sim.CallsOf("machine-get"))
		require.Less(t, e.sim.BusyTime(), maxRoundCost+time.Second)
		for range 30 {
			time.Sleep(time.Second)
			e.observer.focus(t.Context())
		}
		require.Less(t, e.sim.BusyTime(), 15*time.Second, "what focus has saved, and earns")
		require.GreaterOrEqual(t, e.observer.budget.balance(focusAccount), e.observer.budget.accounts[focusAccount].floor)
		require.Equal(t, e.observer.budget.accounts[readAccount].burst, e.observer.budget.balance(readAccount))

		// It is fast again: the list is the cheapest.
		e.sim.SetSlowdown(1)
		time.Sleep(time.Minute)
		e.sim.ResetCalls()
		e.observer.focus(t.Context())
		require.Equal(t, 1, e.sim.CallsOf("machine-list")+e.sim.CallsOf("machine-find"))
		require.LessOrEqual(t, e.sim.CallsOf("machine-get"), 1)
	})
}

func TestFocus_BatchesFollowAnswerTimes(t *testing.T) {
	runTest(t, envConfig{machines: 1000, costs: true}, func(t *testing.T, e *env) {
		e.allocate(simulator.ProjectA, 63)
		e.sweep()
		time.Sleep(time.Minute)
		began := time.Now()
		e.observer.focus(t.Context())
		require.Equal(t, 63, e.sim.CallsOf("machine-get"))
		require.Equal(t, 6*3500*time.Microsecond, time.Since(began), "1, 2, 4, 8, 16 and 32 side by side")

		time.Sleep(time.Minute)
		e.sim.SetSlowdown(20)
		e.sim.ResetCalls()
		most, under := 0, 0
		var mu sync.Mutex
		e.transport.Around(func(*http.Request) { mu.Lock(); under++; most = max(most, under); mu.Unlock() },
			func(*http.Request) { mu.Lock(); under--; mu.Unlock() })
		e.observer.focus(t.Context())
		require.LessOrEqual(t, most, 2)
	})
}

func TestFocus_AllocatingComesBeforeNewlySilent(t *testing.T) {
	runTest(t, envConfig{machines: 1000, costs: true}, func(t *testing.T, e *env) {
		silent := e.install(simulator.ProjectA, 20)
		e.sweep()
		e.silence(silent)
		installing := e.allocate(simulator.ProjectA, 2)
		e.sweep()
		time.Sleep(silentAfter)
		moving, _, _ := e.observer.dueMachines()
		require.Len(t, moving, 22)
		require.ElementsMatch(t, installing, moving[:2])
		// Of the silent ones those first that were not observed for longest.
		e.observer.recordAttempts(silent[0])
		time.Sleep(time.Minute)
		moving, _, _ = e.observer.dueMachines()
		require.Equal(t, silent[0], moving[len(moving)-1])
	})
}

func TestStorm_ReadsAreRefreshedThroughout(t *testing.T) {
	runTest(t, envConfig{machines: 200, costs: true}, func(t *testing.T, e *env) {
		ids := e.install(simulator.ProjectA, 90)
		e.run()
		time.Sleep(time.Minute)
		for _, id := range ids {
			require.NoError(t, e.sim.Silence(id))
		}
		time.Sleep(silentAfter - 10*time.Second)
		e.sim.SetSlowdown(100)
		storm := time.Now()
		_, _, busy := e.observer.budget.balances()
		for time.Since(storm) < 5*time.Minute {
			time.Sleep(10 * time.Second)
			took, err := e.refresh(metal.Scope{Machines: ids[:1]})
			require.LessOrEqual(t, took, DefaultRefreshTimeout)
			if time.Since(storm) > time.Minute {
				require.NoError(t, err, "a get takes 0.35 s: %s", time.Since(storm))
			}
		}
		_, _, after := e.observer.budget.balances()
		t.Logf("the metal-api was busy for us for %s of 5 min", after-busy)
		require.Less(t, (after - busy).Seconds(), 65.0, "two sweeps of 20 s, what focus had saved, and 5 %")

		e.sim.SetSlowdown(1)
		time.Sleep(10 * time.Second)
		for _, want := range []metal.Scope{{Machines: ids[:1]}, {Machines: ids[:50]}, {Project: simulator.ProjectA}} {
			_, err := e.refresh(want)
			require.NoError(t, err)
		}
	})
}

func TestObserver_SavesForReadsAtRest(t *testing.T) {
	runTest(t, envConfig{machines: 30, costs: true}, func(t *testing.T, e *env) {
		ids := e.allocate(simulator.ProjectA, 5) // and none of them phones home
		e.run()
		time.Sleep(5 * time.Minute)
		require.Equal(t, e.observer.budget.accounts[readAccount].burst, e.observer.budget.balance(readAccount), "focus and sweeps spend nothing of it")
		for _, want := range []metal.Scope{{Machines: ids[:1]}, {Project: simulator.ProjectA}, {Fleet: true}} {
			_, err := e.refresh(want)
			require.NoError(t, err)
		}
	})
}

func TestObserver_AbandonedCallIsChargedAndNotRepeatedAtOnce(t *testing.T) {
	runTest(t, envConfig{machines: 400, costs: true}, func(t *testing.T, e *env) {
		e.install(simulator.ProjectA, 120)
		e.sweep()
		want := metal.Scope{Project: simulator.ProjectA}
		_, err := e.refresh(want)
		require.NoError(t, err)
		require.Equal(t, 1, e.sim.CallsOf("machine-find"), "the fastest that is not expensive")

		e.sim.Inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultLatency, Latency: time.Minute})
		_, _, busy := e.observer.budget.balances()
		_, err = e.refresh(want)
		require.ErrorIs(t, err, metal.ErrTimeout)
		time.Sleep(client.DefaultTimeouts.Find)
		_, _, after := e.observer.budget.balances()
		require.GreaterOrEqual(t, after-busy, client.DefaultTimeouts.Find, "the metal-api works on")
		// Whether it does not answer is not known before something else was asked.
		e.observer.probe(t.Context())
		require.False(t, e.observer.breaker.isOpen())

		for range 3 {
			time.Sleep(time.Second)
			took, err := e.refresh(want)
			require.NoError(t, err, "by gets")
			require.Less(t, took, DefaultRefreshTimeout)
		}
		time.Sleep(time.Minute)
		require.Equal(t, 2, e.sim.CallsOf("machine-find"), "gets are cheaper now")
	})
}

func TestObserver_AbandonedListIsNotRepeatedAtOnce(t *testing.T) {
	runTest(t, envConfig{machines: 100, costs: true}, func(t *testing.T, e *env) {
		e.install(simulator.ProjectA, 10)
		e.run()
		time.Sleep(30 * time.Second)
		e.sim.Inject(simulator.Fault{Endpoint: "machine-list", Kind: simulator.FaultLatency, Latency: 5 * time.Minute})
		time.Sleep(20 * time.Second)
		require.False(t, e.observer.breaker.isOpen(), "a get is answered meanwhile")
		e.sim.ResetCalls()
		time.Sleep(8 * time.Minute)
		require.LessOrEqual(t, e.sim.CallsOf("machine-list"), 1)
		_, err := e.refresh(metal.Scope{Project: simulator.ProjectA})
		require.NoError(t, err)
	})
}

func TestRefresh_ForeseenTimeoutIsAnsweredAtOnce(t *testing.T) {
	runTest(t, envConfig{machines: 400, costs: true}, func(t *testing.T, e *env) {
		ids := e.install(simulator.ProjectA, 120)
		e.sweep()
		e.sim.SetSlowdown(500) // a get takes 1.75 s
		for _, want := range []metal.Scope{{Machines: ids[:1]}, {Project: simulator.ProjectA}, {Fleet: true}} {
			took, err := e.refresh(want)
			require.ErrorIs(t, err, metal.ErrTimeout)
			require.LessOrEqual(t, took, DefaultRefreshTimeout, "who comes first finds out")
		}
		for i := range 20 {
			for _, want := range []metal.Scope{{Machines: ids[i : i+1]}, {Project: simulator.ProjectA}, {Fleet: true}} {
				took, err := e.refresh(want)
				require.ErrorIs(t, err, metal.ErrTimeout)
				require.Zero(t, took)
			}
			time.Sleep(100 * time.Millisecond)
		}
		require.Equal(t, 1, e.sim.CallsOf("machine-get"), "a call that ended")
	})
}

func TestRefresh_HangingMachineDelaysNoOther(t *testing.T) {
	runTest(t, envConfig{machines: 1000, costs: true}, func(t *testing.T, e *env) {
		ids := e.install(simulator.ProjectA, 50)
		e.sweep()
		hang := metal.Scope{Machines: ids[:1]}
		e.sim.Inject(simulator.Fault{Endpoint: "machine-get", Kind: simulator.FaultHang, Match: func(r *http.Request) bool {
			return r.URL.Path == "/v1/machine/"+ids[0]
		}})
		e.sim.ResetCalls()
		waited := 0
		for range 60 {
			if took, err := e.refresh(hang); took > 0 {
				require.ErrorIs(t, err, metal.ErrTimeout)
				waited++
			}
			took, err := e.refresh(metal.Scope{Machines: ids[1:2]})
			require.NoError(t, err)
			require.Equal(t, 3500*time.Microsecond, took)
			time.Sleep(500 * time.Millisecond)
		}
		require.LessOrEqual(t, waited, 4, "each time it is tried again, later and later")
	})
}

func TestRefresh_SimultaneousGetsShareCheapestCall(t *testing.T) {
	for name, c := range map[string]struct {
		machines       int
		atMost         time.Duration
		within         time.Duration
		getsAtMost     int
		togetherAtMost int
	}{
		"gets where finds are expensive": {1000, 50 * 3500 * time.Microsecond, 15 * time.Millisecond, 50, 0},
		"a list of a small fleet":        {120, 80 * time.Millisecond, 80 * time.Millisecond, maxUnbatched, 1},
	} {
		t.Run(name, func(t *testing.T) {
			runTest(t, envConfig{machines: c.machines, costs: true}, func(t *testing.T, e *env) {
				ids := e.install(simulator.ProjectA, 50)
				e.sweep()
				time.Sleep(time.Minute)
				e.sim.ResetCalls()
				var wg sync.WaitGroup
				for _, id := range ids {
					wg.Go(func() {
						took, err := e.refresh(metal.Scope{Machines: []string{id}})
						if err != nil || took > c.within {
							t.Errorf("%s, %v", took, err)
						}
					})
				}
				wg.Wait()
				t.Logf("%v", e.sim.Calls())
				require.LessOrEqual(t, e.sim.BusyTime(), c.atMost)
				require.LessOrEqual(t, e.sim.CallsOf("machine-get"), c.getsAtMost)
				require.LessOrEqual(t, e.sim.CallsOf("machine-list")+e.sim.CallsOf("machine-find"), c.togetherAtMost)

				took, err := e.refresh(metal.Scope{Machines: ids[:1]})
				require.NoError(t, err)
				require.Equal(t, 3500*time.Microsecond, took, "one get takes what it costs")
			})
		})
	}
}
