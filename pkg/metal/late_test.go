package metal

import (
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestSweep_NetworkThatHangsDelaysNoOther(t *testing.T) {
	inBed(t, bedConfig{machines: 100, costs: true}, func(t *testing.T, b *bed) {
		var ids []string
		for range 20 {
			ids = append(ids, b.network(simulator.ProjectA))
			b.name(Ref{KindNetwork, ids[len(ids)-1]})
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
			b.name(Ref{KindNetwork, b.network(simulator.ProjectA)})
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
		took, err := b.confirm(Want{Project: simulator.ProjectA})
		require.ErrorIs(t, err, ErrTooSlow)
		require.Equal(t, DefaultReadLimit, took)
		_, err = b.confirm(Want{Project: simulator.ProjectB})
		require.NoError(t, err, "its find is answered first, so that the other says nothing of what finds cost")
		time.Sleep(DefaultTimeouts.Find - 5*time.Second)

		remove := delay()
		took, err = b.confirm(Want{Project: simulator.ProjectA})
		require.ErrorIs(t, err, ErrTooSlow)
		require.Zero(t, took)
		remove()
		time.Sleep(leastLate)
		_, err = b.confirm(Want{Project: simulator.ProjectA})
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
