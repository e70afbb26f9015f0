// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// askedClock calls asked whenever it is asked for the time, unless asked itself
// does so.
type askedClock struct {
	clock.RealClock
	asked  func()
	within atomic.Bool
}

// Now implements clock.PassiveClock.
func (c *askedClock) Now() time.Time {
	if c.asked != nil && c.within.CompareAndSwap(false, true) {
		c.asked()
		c.within.Store(false)
	}
	return c.RealClock.Now()
}

// free returns machines that nothing names and that the observer does not know.
func (e *env) free() (ids []string) {
	e.t.Helper()
	all, err := e.client.ListMachines(e.t.Context())
	require.NoError(e.t, err)
	for _, m := range all {
		if _, presence := e.observer.Machine(m.ID); m.Allocation == nil && presence == metal.Unobserved {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// batch returns observations of one machine each, which begin together.
func (e *env) batch(ids ...string) (refreshes []*sharedRefresh) {
	for _, id := range ids {
		want := metal.Scope{Machines: []string{id}}
		refreshes = append(refreshes, &sharedRefresh{
			key: scopeKey(want), scope: want, waiters: 1, deadline: time.Now().Add(DefaultRefreshTimeout),
			started: make(chan struct{}), observed: make(chan struct{}), done: make(chan struct{}),
		})
	}
	return refreshes
}

// A read can join an observation of any moment until the observation begins: whatever it wants
// is observed by that observation then.
func TestRefreshes_CoverEveryReadThatJoined(t *testing.T) {
	asked := &askedClock{}
	runTest(t, envConfig{machines: 100, options: Options{Clock: asked}}, func(t *testing.T, e *env) {
		e.sweep()
		free := e.free()
		s, key := e.observer.refreshes, scopeKey(metal.Scope{Project: simulator.ProjectA})
		joined := map[string]*sharedRefresh{}
		asked.asked = func() {
			if len(joined) == len(free) || !s.mu.TryLock() {
				return
			}
			waiting := s.waiting[key] != nil
			s.mu.Unlock()
			if waiting {
				id := free[len(joined)]
				sr, err := s.join(key, metal.Scope{Project: simulator.ProjectA, Machines: []string{id}}, time.Now().Add(DefaultRefreshTimeout), false)
				if err != nil {
					t.Errorf("join: %v", err)
				}
				joined[id] = sr
			}
		}
		// Without a reader that waits, only what observes asks for the time.
		first, err := s.join(key, metal.Scope{Project: simulator.ProjectA}, time.Now().Add(DefaultRefreshTimeout), false)
		require.NoError(t, err)
		<-first.done
		require.NoError(t, first.err)
		asked.asked = nil
		require.Greater(t, len(joined), 2)
		require.Less(t, len(joined), len(free))
		for id, sr := range joined {
			<-sr.done
			require.NoError(t, sr.err)
			_, presence := e.observer.Machine(id)
			require.Equal(t, metal.Present, presence, "the read was answered that the machine was observed")
		}
	})
}

func TestRefreshes_AbandonedIsNotJoined(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		e.sweep()
		s, want := e.observer.refreshes, metal.Scope{Project: simulator.ProjectA}
		s.hasWorker[scopeKey(want)] = true
		sr, err := s.join(scopeKey(want), want, time.Now(), false)
		require.NoError(t, err)
		s.observe([]*sharedRefresh{sr})
		require.ErrorIs(t, sr.err, metal.ErrTimeout)
		later, err := s.join(scopeKey(want), want, time.Now().Add(DefaultRefreshTimeout), false)
		require.NoError(t, err)
		require.NotSame(t, sr, later)
	})
}

func TestRefreshes_FailedFindConcernsOnlyReadsOfItsProject(t *testing.T) {
	runTest(t, envConfig{machines: 300, costs: true}, func(t *testing.T, e *env) {
		ofA, ofB := e.install(simulator.ProjectA, 40), e.install(simulator.ProjectB, 40)
		e.sweep()
		free := e.free()[0]
		refreshes := e.batch(append(append([]string{free}, ofA...), ofB...)...)
		e.sim.Inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultStatus, Status: 500, Message: "x", Times: 1})
		e.sim.ResetCalls()
		e.observer.refreshes.start(refreshes, newLimits(0, 110*time.Millisecond))
		require.Equal(t, 2, e.sim.CallsOf("machine-find"))
		require.Equal(t, 1, e.sim.CallsOf("machine-get"))
		require.NoError(t, refreshes[0].err, "it came by a get")
		failed := func(refreshes []*sharedRefresh) (n int) {
			for _, sr := range refreshes {
				if sr.err != nil {
					n++
				}
			}
			return n
		}
		a, b1 := failed(refreshes[1:41]), failed(refreshes[41:])
		require.Equal(t, 40, a+b1, "one find failed")
		require.True(t, a == 0 || b1 == 0)
	})
}

func TestRefreshes_GetsDoNotWaitForFindsOfOthers(t *testing.T) {
	runTest(t, envConfig{machines: 300, costs: true}, func(t *testing.T, e *env) {
		ofA := e.install(simulator.ProjectA, 40)
		e.sweep()
		refreshes := e.batch(append([]string{e.free()[0]}, ofA...)...)
		e.sim.Inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultLatency, Latency: 5 * time.Second})
		began := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { e.observer.refreshes.start(refreshes, newLimits(0, 80*time.Millisecond)) })
		<-refreshes[0].observed
		require.Less(t, time.Since(began), soon)
		wg.Wait()
		require.GreaterOrEqual(t, time.Since(began), 5*time.Second, "the others came by a find")
		require.False(t, e.observer.slowBackoff.blocked(refreshes[0].key))
		require.True(t, e.observer.slowBackoff.blocked(refreshes[1].key))
	})
}

func TestRefreshes_PendingVerificationConcernsOnlyReadsOfItsMachine(t *testing.T) {
	runTest(t, envConfig{machines: 50, costs: true}, func(t *testing.T, e *env) {
		ids := e.install(simulator.ProjectA, 20)
		e.sweep()
		gone := ids[0]
		require.NoError(t, e.sim.ForceFree(gone))
		e.sim.Inject(simulator.Fault{Endpoint: "machine-*", Kind: simulator.FaultStatus, Status: 500, Message: "x", Match: func(r *http.Request) bool {
			return r.URL.Path != "/v1/machine"
		}})
		free := e.free()[0]
		began := e.observer.facts.nextObservation(time.Now())
		failed := e.observer.executeBulk(t.Context(), &costTally{}, plan{list: true})
		require.Error(t, failed[listKey])
		for want, concerned := range map[*metal.Scope]bool{
			{Project: simulator.ProjectB}:                           false,
			{Project: simulator.ProjectB, Machines: []string{free}}: false,
			{Project: simulator.ProjectB, Machines: ids[1:]}:        false,
			{Project: simulator.ProjectA, Machines: ids}:            true,
			{Machines: ids[1:2]}:                                    false,
			{Machines: ids[:1]}:                                     true,
			{Fleet: true, Machines: ids}:                            true,
		} {
			_, err := e.observer.remainingGets(*want, plan{list: true}, began, failed)
			require.Equal(t, concerned, err != nil, "%+v", want)
		}
	})
}

// A list is no observation of machines that it shows but that are not kept.
func TestRefresh_GetsMachineThatListDidNotUpdate(t *testing.T) {
	runTest(t, envConfig{costs: true}, func(t *testing.T, e *env) {
		e.sweep()
		free := e.free()[0]
		e.sim.ResetCalls()
		require.NoError(t, e.observer.Refresh(t.Context(), metal.Scope{Fleet: true, Machines: []string{free}}))
		require.Equal(t, 1, e.sim.CallsOf("machine-list"))
		_, presence := e.observer.Machine(free)
		require.Equal(t, metal.Present, presence)
	})
}

// A machine that changed its project before a find of that project is answered is
// not observed by that find.
func TestRefresh_GetsMachineThatFindDidNotShow(t *testing.T) {
	runTest(t, envConfig{machines: 300}, func(t *testing.T, e *env) {
		id := e.install(simulator.ProjectA, 1)[0]
		e.sweep()
		began := e.observer.facts.nextObservation(time.Now())
		moved := *e.machine(id)
		allocation := *moved.Allocation
		allocation.Project = simulator.ProjectB
		moved.Allocation = &allocation
		e.observer.LearnMachine(&moved)
		p := plan{finds: []string{simulator.ProjectA}}
		e.sim.Inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultTruncatedList})
		failed := e.observer.executeBulk(t.Context(), &costTally{}, p)
		gets, err := e.observer.remainingGets(metal.Scope{Machines: []string{id}}, p, began, failed)
		require.NoError(t, err)
		require.Equal(t, []string{id}, gets)
	})
}
