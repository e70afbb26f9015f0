// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clocktesting "k8s.io/utils/clock/testing"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// noBackend is a backend that is never called.
type noBackend struct{ metal.Observable }

func (noBackend) AddWriteListener(metal.WriteListener) {}

// randomMachine is a machine that may be allocated, silent, installing or without events.
func randomMachine(random *rand.Rand, id string, now time.Time) *metal.Machine {
	m := &metal.Machine{ID: id, Liveliness: metal.LivelinessAlive, LastEventTime: now.Add(-time.Duration(random.IntN(20)) * time.Minute)}
	if random.IntN(4) == 0 {
		m.Liveliness = "Dead"
	}
	if random.IntN(4) > 0 {
		m.Events = []metal.Event{{Event: []string{"Installing", metal.EventPhonedHome, "Booting New Kernel"}[random.IntN(3)]}}
	}
	if random.IntN(4) > 0 {
		m.Allocation = &metal.Allocation{UUID: fmt.Sprintf("%s-%d", id, random.IntN(2)), Project: []string{"shown", "not shown"}[random.IntN(2)]}
	}
	return m
}

// needingFocus passes over all machines.
func (o *Observer) needingFocus() (ids []string) {
	for id, h := range o.facts.machines.entries {
		if h.pendingSeq != 0 || !h.noEvents && o.facts.machineNeedsVerification(id, h.fact) && h.needsFocus() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func TestFocused_AreAllMachinesThatNeedFocus(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 1))
			clock := clocktesting.NewFakeClock(time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC))
			shown := map[string]bool{"shown": true}
			o := New(noBackend{}, Options{Clock: clock, Relevant: func(project string) bool { return shown[project] }})
			most := 0
			for step := range 3000 {
				clock.Step(time.Duration(random.IntN(30)) * time.Second)
				id := fmt.Sprintf("m-%d", random.IntN(12))
				ref := metal.Ref{Kind: metal.KindMachine, ID: id}
				at := o.facts.nextObservation(clock.Now())
				if random.IntN(5) == 0 {
					at.seq -= min(at.seq, uint64(random.IntN(6)))
				}
				switch random.IntN(12) {
				case 0, 1, 2, 3:
					o.facts.update(func() {
						o.facts.machines.apply(id, randomMachine(random, id, clock.Now()), at, source(random.IntN(4)))
					})
				case 4:
					o.facts.update(func() { o.facts.machines.apply(id, nil, at, sourceFind) })
				case 5:
					o.facts.update(func() { o.facts.machines.applyAbsence(id, at) })
				case 6:
					o.facts.update(func() { o.facts.setNoEvents(id, random.IntN(2) == 0, clock.Now()) })
				case 7:
					o.facts.setReferenced(metal.RefChanges{Added: []metal.Ref{ref}}, clock.Now())
				case 8:
					o.facts.setReferenced(metal.RefChanges{Removed: []metal.Ref{ref}}, clock.Now())
				case 9:
					if random.IntN(10) == 0 {
						o.facts.setReferenced(metal.RefChanges{Complete: true, Added: []metal.Ref{ref}}, clock.Now())
					}
				case 10:
					if random.IntN(5) == 0 {
						o.facts.evict(clock.Now())
					}
				case 11:
					o.LearnMachine(randomMachine(random, id, clock.Now()))
				}
				shown["not shown"] = random.IntN(20) == 0
				var focused []string
				for id := range o.facts.focused {
					h := o.facts.machines.entries[id]
					require.NotNil(t, h, "%s after step %d", id, step)
					if h.pendingSeq != 0 || o.facts.machineNeedsVerification(id, h.fact) {
						focused = append(focused, id)
					}
				}
				slices.Sort(focused)
				require.Equal(t, o.needingFocus(), focused, "after step %d", step)
				most = max(most, len(focused))
			}
			require.Greater(t, most, 2)
		})
	}
}

func TestUpdateReferenced_TakesChangesAndOnceAMinuteEverything(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC))
	var asked []uint64
	a, b := metal.Ref{Kind: metal.KindMachine, ID: "a"}, metal.Ref{Kind: metal.KindNetwork, ID: "b"}
	answer := metal.RefChanges{Complete: true, Added: []metal.Ref{a, {Kind: metal.KindUID, ID: "u"}}, Position: 3}
	o := New(noBackend{}, Options{Clock: clock, Referenced: func(since uint64) metal.RefChanges {
		asked = append(asked, since)
		return answer
	}})
	expect := func(refs ...metal.Ref) {
		t.Helper()
		o.updateReferenced()
		want := map[metal.Ref]struct{}{}
		for _, ref := range refs {
			want[ref] = struct{}{}
		}
		require.Equal(t, want, o.facts.referenced)
	}
	expect(a)
	answer = metal.RefChanges{Position: 3}
	expect(a)
	answer = metal.RefChanges{Added: []metal.Ref{b}, Removed: []metal.Ref{a}, Position: 5}
	expect(b)
	clock.Step(referencesInterval)
	answer = metal.RefChanges{Complete: true, Added: []metal.Ref{a, b}, Position: 5}
	expect(a, b)
	answer = metal.RefChanges{Position: 5}
	expect(a, b)
	require.Equal(t, []uint64{0, 3, 3, 0, 5}, asked)
}

func TestSweep_ListsWhileReferencesAreWaitedFor(t *testing.T) {
	t.Parallel()
	var known chan struct{}
	var id string
	referenced := func(uint64) metal.RefChanges {
		<-known
		return metal.RefChanges{Complete: true, Added: []metal.Ref{{Kind: metal.KindMachine, ID: id}}}
	}
	runTest(t, envConfig{machines: 10, options: Options{Referenced: referenced}}, func(t *testing.T, e *env) {
		known, id = make(chan struct{}), e.sim.Inventory().Machines[3].ID
		swept := make(chan error, 1)
		go func() { swept <- e.observer.sweep(t.Context()) }()
		time.Sleep(time.Minute)
		require.Equal(t, 1, e.sim.CallsOf("machine-list"))
		require.False(t, e.observer.HasSynced())
		close(known)
		require.NoError(t, <-swept)
		require.True(t, e.observer.HasSynced())
		require.Nil(t, e.machine(id).Allocation, "a referenced machine is kept, even if it is not allocated")
	})
}

// Machines that are being allocated come before newly silent ones, and of each those first
// that were not observed, or tried, for longest: their ids do not matter.
func TestDueMachines_AreOrderedByUrgencyAndAge(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC))
	o := New(noBackend{}, Options{Clock: clock})
	observe := func(id string, events []metal.Event, silence time.Duration) {
		at := o.facts.nextObservation(clock.Now())
		o.facts.update(func() {
			o.facts.machines.apply(id, &metal.Machine{
				ID: id, Liveliness: metal.LivelinessAlive, LastEventTime: clock.Now().Add(-silence), Events: events,
				Allocation: &metal.Allocation{UUID: id, Project: "p", Created: clock.Now().Add(-time.Hour)},
			}, at, sourceGet)
		})
	}
	phonedHome := []metal.Event{{Event: metal.EventPhonedHome, Time: clock.Now()}}
	installing := []metal.Event{{Event: "Installing", Time: clock.Now()}}
	for _, m := range []struct {
		id     string
		events []metal.Event
		silent time.Duration
	}{
		// The first one has waited for longest.
		{"b silent", phonedHome, silentAfter + time.Minute},
		{"f tried", installing, 0},
		{"e missing", phonedHome, 0},
		{"d installing", installing, 0},
		{"a missing", phonedHome, 0},
		{"a silent", phonedHome, silentAfter + time.Minute},
		{"c installing", installing, 0},
	} {
		observe(m.id, m.events, m.silent)
		clock.Step(2 * time.Second)
	}
	for _, id := range []string{"a missing", "e missing"} {
		at := o.facts.nextObservation(clock.Now())
		o.facts.update(func() { require.True(t, o.facts.machines.applyAbsence(id, at)) })
	}
	o.recordAttempts("f tried")
	clock.Step(2 * time.Second)

	moving, pending, ahead := o.dueMachines()
	require.Equal(t, []string{"d installing", "c installing", "f tried", "b silent", "a silent"}, moving)
	require.Equal(t, []string{"e missing", "a missing"}, pending)
	require.Equal(t, 4, ahead, "the last one has not waited as long as what is missing")
}
