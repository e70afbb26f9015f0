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
func (b *bed) free() (ids []string) {
	b.t.Helper()
	all, err := b.client.ListMachines(b.t.Context())
	require.NoError(b.t, err)
	for _, m := range all {
		if _, presence := b.obs.Machine(m.ID); m.Allocation == nil && presence == metal.Unseen {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// batch returns looks at one machine each, which begin together.
func (b *bed) batch(ids ...string) (looks []*sharedLook) {
	for _, id := range ids {
		want := metal.Want{Machines: []string{id}}
		looks = append(looks, &sharedLook{
			key: scopeKey(want), want: want, waiters: 1, until: time.Now().Add(DefaultReadLimit),
			begun: make(chan struct{}), looked: make(chan struct{}), done: make(chan struct{}),
		})
	}
	return looks
}

// A read can join a look at any moment until the look begins: whatever it wants
// is looked at by that look then.
func TestShared_LookCoversEveryReadThatJoinedIt(t *testing.T) {
	asked := &askedClock{}
	inBed(t, bedConfig{machines: 100, options: Options{Clock: asked}}, func(t *testing.T, b *bed) {
		b.swept()
		free := b.free()
		s, key := b.obs.shared, scopeKey(metal.Want{Project: simulator.ProjectA})
		joined := map[string]*sharedLook{}
		asked.asked = func() {
			if len(joined) == len(free) || !s.mu.TryLock() {
				return
			}
			waiting := s.waiting[key] != nil
			s.mu.Unlock()
			if waiting {
				id := free[len(joined)]
				l, err := s.join(key, metal.Want{Project: simulator.ProjectA, Machines: []string{id}}, time.Now().Add(DefaultReadLimit))
				if err != nil {
					t.Errorf("join: %v", err)
				}
				joined[id] = l
			}
		}
		require.NoError(t, b.obs.Confirm(t.Context(), metal.Want{Project: simulator.ProjectA}))
		asked.asked = nil
		require.Greater(t, len(joined), 2)
		require.Less(t, len(joined), len(free))
		for id, l := range joined {
			<-l.done
			require.NoError(t, l.err)
			_, presence := b.obs.Machine(id)
			require.Equal(t, metal.Present, presence, "the read was told that the machine was looked at")
		}
	})
}

func TestShared_NoReadJoinsALookThatWasGivenUp(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		b.swept()
		s, want := b.obs.shared, metal.Want{Project: simulator.ProjectA}
		s.driven[scopeKey(want)] = true
		l, err := s.join(scopeKey(want), want, time.Now())
		require.NoError(t, err)
		s.look([]*sharedLook{l})
		require.ErrorIs(t, l.err, metal.ErrTooSlow)
		later, err := s.join(scopeKey(want), want, time.Now().Add(DefaultReadLimit))
		require.NoError(t, err)
		require.NotSame(t, l, later)
	})
}

func TestShared_FailedFindConcernsOnlyReadsOfItsProject(t *testing.T) {
	inBed(t, bedConfig{machines: 300, costs: true}, func(t *testing.T, b *bed) {
		ofA, ofB := b.installed(simulator.ProjectA, 40), b.installed(simulator.ProjectB, 40)
		b.swept()
		free := b.free()[0]
		looks := b.batch(append(append([]string{free}, ofA...), ofB...)...)
		b.sim.Inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultStatus, Status: 500, Message: "x", Times: 1})
		b.sim.ResetCalls()
		b.obs.shared.begin(looks, 110*time.Millisecond)
		require.Equal(t, 2, b.sim.CallsOf("machine-find"))
		require.Equal(t, 1, b.sim.CallsOf("machine-get"))
		require.NoError(t, looks[0].err, "it came by a get")
		failed := func(looks []*sharedLook) (n int) {
			for _, l := range looks {
				if l.err != nil {
					n++
				}
			}
			return n
		}
		a, b1 := failed(looks[1:41]), failed(looks[41:])
		require.Equal(t, 40, a+b1, "one find failed")
		require.True(t, a == 0 || b1 == 0)
	})
}

func TestShared_GetsDoNotWaitForFindsOfOtherReads(t *testing.T) {
	inBed(t, bedConfig{machines: 300, costs: true}, func(t *testing.T, b *bed) {
		ofA := b.installed(simulator.ProjectA, 40)
		b.swept()
		looks := b.batch(append([]string{b.free()[0]}, ofA...)...)
		b.sim.Inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultLatency, Latency: 5 * time.Second})
		began := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { b.obs.shared.begin(looks, 80*time.Millisecond) })
		<-looks[0].looked
		require.Less(t, time.Since(began), soon)
		wg.Wait()
		require.GreaterOrEqual(t, time.Since(began), 5*time.Second, "the others came by a find")
		require.False(t, b.obs.late.blocked(looks[0].key))
		require.True(t, b.obs.late.blocked(looks[1].key))
	})
}

func TestShared_DoubtAboutAMachineConcernsOnlyReadsOfThatMachine(t *testing.T) {
	inBed(t, bedConfig{machines: 50, costs: true}, func(t *testing.T, b *bed) {
		ids := b.installed(simulator.ProjectA, 20)
		b.swept()
		gone := ids[0]
		require.NoError(t, b.sim.ForceFree(gone))
		b.sim.Inject(simulator.Fault{Endpoint: "machine-*", Kind: simulator.FaultStatus, Status: 500, Message: "x", Match: func(r *http.Request) bool {
			return r.URL.Path != "/v1/machine"
		}})
		free := b.free()[0]
		began := b.obs.facts.next(time.Now())
		failed := b.obs.together(t.Context(), &account{}, plan{list: true})
		require.Error(t, failed[wholeList])
		for want, concerned := range map[*metal.Want]bool{
			{Project: simulator.ProjectB}:                           false,
			{Project: simulator.ProjectB, Machines: []string{free}}: false,
			{Project: simulator.ProjectB, Machines: ids[1:]}:        false,
			{Project: simulator.ProjectA, Machines: ids}:            true,
			{Machines: ids[1:2]}:                                    false,
			{Machines: ids[:1]}:                                     true,
			{Fleet: true, Machines: ids}:                            true,
		} {
			_, err := b.obs.left(*want, plan{list: true}, began, failed)
			require.Equal(t, concerned, err != nil, "%+v", want)
		}
	})
}

// A list is no look at machines that it shows but that are not kept.
func TestConfirm_LooksAtAMachineThatAListDoesNotBringIn(t *testing.T) {
	inBed(t, bedConfig{costs: true}, func(t *testing.T, b *bed) {
		b.swept()
		free := b.free()[0]
		b.sim.ResetCalls()
		require.NoError(t, b.obs.Confirm(t.Context(), metal.Want{Fleet: true, Machines: []string{free}}))
		require.Equal(t, 1, b.sim.CallsOf("machine-list"))
		_, presence := b.obs.Machine(free)
		require.Equal(t, metal.Present, presence)
	})
}

// A machine that changed its project before a find of that project is answered is
// not looked at by that find.
func TestConfirm_LooksAtAMachineThatItsFindDoesNotShow(t *testing.T) {
	inBed(t, bedConfig{machines: 300}, func(t *testing.T, b *bed) {
		id := b.installed(simulator.ProjectA, 1)[0]
		b.swept()
		began := b.obs.facts.next(time.Now())
		moved := *b.machine(id)
		allocation := *moved.Allocation
		allocation.Project = simulator.ProjectB
		moved.Allocation = &allocation
		b.obs.LearnMachine(&moved)
		p := plan{finds: []string{simulator.ProjectA}}
		b.sim.Inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultTruncatedList})
		failed := b.obs.together(t.Context(), &account{}, p)
		gets, err := b.obs.left(metal.Want{Machines: []string{id}}, p, began, failed)
		require.NoError(t, err)
		require.Equal(t, []string{id}, gets)
	})
}
