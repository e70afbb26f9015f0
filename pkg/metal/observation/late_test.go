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

func TestSweep_NetworkThatHangsDelaysNoOther(t *testing.T) {
	inBed(t, bedConfig{machines: 100, costs: true}, func(t *testing.T, b *bed) {
		var ids []string
		for range 20 {
			ids = append(ids, b.network(simulator.ProjectA))
			b.name(metal.Ref{Kind: metal.KindNetwork, ID: ids[len(ids)-1]})
		}
		slices.Sort(ids)
		answer := b.sim.Inject(simulator.Fault{Endpoint: "network-get", Kind: simulator.FaultHang, Match: func(r *http.Request) bool {
			return r.URL.Path == "/v1/network/"+ids[0]
		}})
		b.run()
		time.Sleep(3 * time.Minute)
		for range 10 {
			time.Sleep(time.Minute)
			b.obs.facts.mu.RLock()
			for _, id := range ids[1:] {
				require.Less(t, time.Since(lookedAt(&b.obs.facts.networks, id)), 3*time.Minute)
			}
			b.obs.facts.mu.RUnlock()
		}
		b.sim.ResetCalls()
		time.Sleep(15 * time.Minute)
		sweeps := b.sim.CallsOf("machine-list")
		t.Logf("%d sweeps in 15 min", sweeps)
		require.Greater(t, sweeps, 50, "it is looked at again, but seldom")

		answer()
		time.Sleep(20 * time.Minute)
		b.obs.facts.mu.RLock()
		defer b.obs.facts.mu.RUnlock()
		require.Less(t, time.Since(lookedAt(&b.obs.facts.networks, ids[0])), time.Minute)
	})
}

func TestSweep_LateNetworksAreLookedAtSoonAfterOneIsAnswered(t *testing.T) {
	inBed(t, bedConfig{machines: 100, costs: true}, func(t *testing.T, b *bed) {
		for range 30 {
			b.name(metal.Ref{Kind: metal.KindNetwork, ID: b.network(simulator.ProjectA)})
		}
		b.obs.refreshNamed()
		now := time.Now()
		refs, due := b.obs.extrasDue()
		require.Len(t, refs, 30)
		require.Len(t, due, 30)
		for i, key := range due {
			b.obs.extraTried(key, now.Add(time.Duration(i)), 5*time.Second)
		}
		_, none := b.obs.extrasDue()
		require.Empty(t, none)
		time.Sleep(10 * time.Minute)
		_, one := b.obs.extrasDue()
		require.Equal(t, due[:1], one)
		b.obs.extraTried(one[0], time.Now(), 5*time.Millisecond)
		_, all := b.obs.extrasDue()
		require.Equal(t, append(due[1:], due[0]), all)
	})
}

func TestConfirm_ProjectWhoseFindAloneHangsIsAnsweredAtOnce(t *testing.T) {
	inBed(t, bedConfig{machines: 100, costs: true}, func(t *testing.T, b *bed) {
		b.installed(simulator.ProjectA, 5)
		b.installed(simulator.ProjectB, 5)
		b.swept()
		delay := func() (remove func()) {
			return b.sim.Inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultLatency, Latency: 10 * time.Second, Times: 1})
		}
		delay()
		took, err := b.confirm(metal.Want{Project: simulator.ProjectA})
		require.ErrorIs(t, err, metal.ErrTooSlow)
		require.Equal(t, DefaultReadLimit, took)
		_, err = b.confirm(metal.Want{Project: simulator.ProjectB})
		require.NoError(t, err, "its find is answered first, so that the other says nothing of what finds cost")
		time.Sleep(client.DefaultTimeouts.Find - 5*time.Second)

		remove := delay()
		took, err = b.confirm(metal.Want{Project: simulator.ProjectA})
		require.ErrorIs(t, err, metal.ErrTooSlow)
		require.Zero(t, took)
		remove()
		time.Sleep(leastLate)
		_, err = b.confirm(metal.Want{Project: simulator.ProjectA})
		require.NoError(t, err)
	})
}

func TestFocus_WaitForOtherCallsIsNotLate(t *testing.T) {
	inBed(t, bedConfig{machines: 100, costs: true}, func(t *testing.T, b *bed) {
		id := b.installed(simulator.ProjectA, 1)[0]
		b.swept()
		b.obs.narrow.bound = 1
		require.NoError(t, b.obs.narrow.acquire(t.Context()))
		done := make(chan error)
		go func() { done <- b.obs.focusOn(b.obs.lookAtMachine)(t.Context(), &account{}, id) }()
		time.Sleep(2 * DefaultReadLimit)
		synctest.Wait()
		b.obs.narrow.release(time.Now(), time.Now(), false)
		require.NoError(t, <-done)
		require.False(t, b.obs.late.blocked(lateFocus+id))

		b.sim.Inject(simulator.Fault{Endpoint: "machine-get", Kind: simulator.FaultLatency, Latency: 2 * DefaultReadLimit})
		require.NoError(t, b.obs.focusOn(b.obs.lookAtMachine)(t.Context(), &account{}, id))
		require.True(t, b.obs.late.blocked(lateFocus+id))
	})
}

func TestLimiter_FindsSideBySideFollowAnswerTimes(t *testing.T) {
	inBed(t, bedConfig{machines: 1000, costs: true}, func(t *testing.T, b *bed) {
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
		b.wire.Around(counted(1), counted(-1))
		finds := func(n int) (confirmed int) {
			b.sim.ResetCalls()
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() {
					if _, err := b.confirm(metal.Want{Project: fmt.Sprintf("project-%d", i)}); err == nil {
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
		require.LessOrEqual(t, most, mostWide)
		require.Equal(t, mostWide, b.obs.wide.limit())

		b.obs.wide.bound = firstWide
		b.sim.SetSlowdown(100) // a find takes 9.3 s
		time.Sleep(time.Minute)
		most = 0
		require.Zero(t, finds(80))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.LessOrEqual(t, most, firstWide)
		require.LessOrEqual(t, b.sim.CallsOf("machine-find"), firstWide, "what nothing waits for any more does not begin")
		require.Equal(t, leastParallel, b.obs.wide.limit())
	})
}

func TestAccount_BooksAFewCallsSideBySideByTheirMedian(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &account{}
		a.addTogether(callGet, 3500*time.Microsecond, false)
		for range 8 {
			a.addTogether(callGet, 900*time.Millisecond, false)
		}
		require.InDelta(t, 7.2, a.close(newCosts(clock.RealClock{})).Seconds(), .01)
		require.True(t, a.wasSlow())
	})
}

// sizes pays for all batches, and records how many looks each was.
type sizes struct {
	o     *Observer
	calls []call
	of    []int
}

func (s *sizes) reserve(cost time.Duration) bool {
	s.of = append(s.of, int(cost/s.o.price(s.calls)))
	return true
}

func (s *sizes) settle(time.Duration, time.Duration) {}

func TestBatches_OfCallsThatGetNoAnswerAreHalved(t *testing.T) {
	for endpoint, k := range map[string]call{"machine-get": callGet, "machine-find": callFind} {
		t.Run(endpoint, func(t *testing.T) {
			inBed(t, bedConfig{machines: 100, costs: true}, func(t *testing.T, b *bed) {
				ids := b.installed(simulator.ProjectA, 32)
				b.swept()
				b.sim.Inject(simulator.Fault{Endpoint: endpoint, Kind: simulator.FaultHang, Skip: 7})
				// Networks are answered meanwhile: the metal-api is not away.
				network := b.network(simulator.ProjectA)
				for i := range 200 {
					time.AfterFunc(time.Duration(i)*time.Second, func() { _ = b.obs.lookAtNetwork(context.Background(), &account{}, network) })
				}
				look := b.obs.getMachine
				if k == callFind {
					look = b.obs.findMachine
				}
				payer := &sizes{o: b.obs, calls: []call{k}}
				_ = b.obs.inBatches(t.Context(), payer, ids, payer.calls, look)
				require.Equal(t, []int{1, 2, 4, 8, 4, 2, 1}, payer.of[:7])
			})
		})
	}
}

func TestPlan_HasNothingLeftAfterNetworksTookAll(t *testing.T) {
	inBed(t, bedConfig{machines: 20, costs: true}, func(t *testing.T, b *bed) {
		b.installed(simulator.ProjectA, 1)
		b.swept()
		want := metal.Want{Fleet: true, Networks: []string{"network"}}
		_, p := b.obs.priceOf(want, limitedTo(time.Second, time.Second))
		require.True(t, p.list)
		_, p = b.obs.priceOf(want, limitedTo(b.obs.costs.takes(callNetworkGet, 1), b.obs.costs.of(callNetworkGet, 1)))
		require.False(t, p.list)
		require.Len(t, p.gets, 1, "the cheapest")
	})
}

// A read of a fleet in which no machine is known must not be taken for confirmed
// without a call, be the list ever so dear.
func TestPlan_OfFleetWithoutMachinesAsksTheMetalAPI(t *testing.T) {
	inBed(t, bedConfig{machines: 20, costs: true}, func(t *testing.T, b *bed) {
		b.swept()
		for _, want := range []metal.Want{{Fleet: true}, {Project: simulator.ProjectA}} {
			_, p := b.obs.priceOf(want, limitedTo(0, 0))
			require.True(t, p.list || len(p.finds) > 0, "%+v", want)
		}
	})
}

func TestFocus_MachineInDoubtIsNotHeldUpByThoseThatMove(t *testing.T) {
	inBed(t, bedConfig{machines: 1000, costs: true}, func(t *testing.T, b *bed) {
		silent := b.installed(simulator.ProjectA, 60)
		gone := b.installed(simulator.ProjectA, 1)[0]
		b.swept()
		b.silenced(silent)
		require.NoError(t, b.sim.ForceFree(gone))
		remove := b.sim.Inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultStatus, Status: 500, Message: "x"})
		installing := b.allocated(simulator.ProjectA, 1)[0]
		b.swept()
		remove()
		time.Sleep(DefaultSweepInterval)
		moving, doubtful, _ := b.obs.due()
		require.Len(t, moving, 61)
		require.Equal(t, []string{gone}, doubtful)

		b.obs.budget.settle(forFocus, 0, b.obs.budget.spare(forFocus))
		b.obs.Attend(time.Minute, installing)
		began := time.Now()
		for b.machine(gone).Allocation != nil {
			time.Sleep(DefaultFocusInterval)
			b.obs.focus(t.Context())
			require.Less(t, time.Since(began), 30*time.Second)
			require.Less(t, time.Since(lookedAt(&b.obs.facts.machines, installing)), 2*DefaultFocusInterval, "what is being allocated comes first")
		}
		time.Sleep(time.Minute)
		b.obs.focus(t.Context())
		moved := 0
		for _, id := range silent {
			if lookedAt(&b.obs.facts.machines, id).After(began) {
				moved++
			}
		}
		require.Positive(t, moved, "and the others have their turn again")
	})
}

func TestConfirm_OfAReadThatHasEndedMakesNoLook(t *testing.T) {
	inBed(t, bedConfig{machines: 100, costs: true}, func(t *testing.T, b *bed) {
		ids := b.installed(simulator.ProjectA, 2)
		b.swept()
		b.sim.ResetCalls()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, b.obs.Confirm(ctx, metal.Want{Machines: ids[:1]}), context.Canceled)
		time.Sleep(time.Minute)
		require.Zero(t, b.sim.CallsOf("machine-get"))
	})
}
