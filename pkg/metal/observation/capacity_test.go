// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// smallCapacity is that of the size whose machines the tests allocate.
func (e *env) smallCapacity() metal.Capacity {
	e.t.Helper()
	c, counted := e.observer.Capacity(simulator.DefaultPartition, simulator.SmallSize)
	require.True(e.t, counted)
	return c
}

func (e *env) heldOfA() int {
	return e.observer.AllocatedOf(simulator.ProjectA, simulator.DefaultPartition, simulator.SmallSize)
}

func countRefs(refs []metal.Ref, wanted metal.Ref) (n int) {
	for _, ref := range refs {
		if ref == wanted {
			n++
		}
	}
	return n
}

var (
	thePartition = metal.Ref{Kind: metal.KindPartition, ID: simulator.DefaultPartition}
	projectA     = metal.Ref{Kind: metal.KindProject, ID: simulator.ProjectA}
)

func TestCapacity_IsThatOfTheLastList(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		_, counted := e.observer.Capacity(simulator.DefaultPartition, simulator.SmallSize)
		require.False(t, counted, "before the first list")
		e.sweep()
		before := e.smallCapacity()
		require.Equal(t, before.Total, before.Free)
		require.NotZero(t, before.Free)
		_, known := e.observer.Machine(e.free()[0])
		require.Equal(t, metal.Unobserved, known, "the machines themselves are not kept")

		e.allocate(simulator.ProjectA, 2)
		e.changed()
		e.sweep()
		now := e.smallCapacity()
		require.Equal(t, before.Total, now.Total)
		require.Equal(t, before.Free-2, now.Free)
		require.Equal(t, 2, now.Allocated)
		require.Equal(t, 2, e.heldOfA())
		require.Equal(t, 2, e.observer.AllocatedOf(simulator.ProjectA, "", ""), "of all sizes and partitions")
		changed := e.changed()
		require.Equal(t, 1, countRefs(changed, thePartition), "once a list")
		require.Equal(t, 1, countRefs(changed, projectA))
		e.sweep()
		require.Zero(t, countRefs(e.changed(), thePartition), "nothing has changed")

		all := e.observer.Capacities(simulator.DefaultPartition)
		total := 0
		for i, c := range all {
			total += c.Total
			require.Positive(t, c.Total)
			require.Equal(t, c.Total, c.Allocated+c.Free+c.Faulty+c.Unavailable)
			require.True(t, i == 0 || all[i-1].Size < c.Size)
		}
		require.Equal(t, e.sim.Machines(), total)
		empty, counted := e.observer.Capacity(simulator.DefaultPartition, "no-such-size")
		require.True(t, counted)
		require.Equal(t, metal.Capacity{Partition: simulator.DefaultPartition, Size: "no-such-size"}, empty)
	})
}

func TestCapacity_FollowsSingleObservationsOncePerRound(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		e.run()
		time.Sleep(time.Second + soon)
		synctest.Wait()
		before, held := e.smallCapacity(), e.heldOfA()
		network := e.network(simulator.ProjectA)
		e.changed()
		for i := range 3 {
			_, err := e.client.AllocateMachine(t.Context(), metal.MachineRequest{
				Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Size: simulator.SmallSize,
				Image: simulator.MachineImage, Name: fmt.Sprint("m-", i), Networks: []string{network},
			})
			require.NoError(t, err)
		}
		require.Equal(t, before.Free-3, e.smallCapacity().Free, "the answers of writes count")
		require.Equal(t, held+3, e.heldOfA())
		require.Zero(t, countRefs(e.changed(), thePartition))
		time.Sleep(DefaultFocusInterval)
		synctest.Wait()
		changed := e.changed()
		require.Equal(t, 1, countRefs(changed, thePartition))
		require.Equal(t, 1, countRefs(changed, projectA))
	})
}

// A machine can be seen by several observations at a time, whose answers come in any order.
func TestCapacity_OlderObservationChangesNothing(t *testing.T) {
	free := &metal.Machine{ID: "m", Partition: "p", Size: "s", Liveliness: metal.LivelinessAlive, Events: []metal.Event{{Event: metal.EventWaiting}}}
	allocated := *free
	allocated.Allocation = &metal.Allocation{UUID: "u", Project: "a"}
	f := newFacts(func(string) bool { return true }, nil)
	c := &f.capacities
	f.update(func() {
		total := func() int { return c.pools[poolKey{"p", "s"}].Total }
		c.observe(&allocated, 2)
		c.observe(free, 1)
		require.Equal(t, metal.Capacity{Partition: "p", Size: "s", Total: 1, Allocated: 1}, *c.pools[poolKey{"p", "s"}])
		for range 3 {
			f.countListed(nil, observationTime{seq: 1})
		}
		require.Equal(t, 1, total(), "the lists began before it was observed")
		c.observe(&allocated, 4)
		start := time.Now()
		for seq := uint64(5); seq < 8; seq++ {
			f.countListed(nil, observationTime{seq, start})
			require.Equal(t, 1, total())
		}
		f.countListed(nil, observationTime{8, start.Add(forgetAfter)})
		require.Zero(t, total())
		c.observe(free, 5)
		require.Zero(t, total(), "the lists that did not show it are newer")
		require.Empty(t, c.held)
		require.Empty(t, c.machines)
	})
}

// Of a machine whose fact clients are not shown no second observation is made.
func TestCapacity_OneListThatLacksMachinesChangesNothing(t *testing.T) {
	f := newFacts(func(string) bool { return false }, nil)
	m := &metal.Machine{ID: "m", Partition: "p", Size: "s", Allocation: &metal.Allocation{UUID: "u", Project: "not shown"}}
	c, start, seq := &f.capacities, time.Now(), uint64(0)
	list := func(at time.Time, listed bool) int {
		seq++
		when := observationTime{seq, at}
		f.update(func() {
			f.seq = seq
			if listed {
				f.machines.apply(m.ID, m, when, sourceList)
			} else {
				f.machines.applyAbsence(m.ID, when)
			}
			f.countListed(map[string]bool{m.ID: listed}, when)
		})
		return c.pools[poolKey{"p", "s"}].Total
	}
	require.Equal(t, 1, list(start, true))
	require.Equal(t, 1, list(start, false))
	_, presence := lookup(f, &f.machines, m.ID)
	require.Equal(t, metal.Gone, presence)
	require.Equal(t, 1, list(start.Add(forgetAfter-1), false))
	require.Equal(t, 1, list(start.Add(forgetAfter), true))
	require.Equal(t, 1, list(start.Add(forgetAfter), false), "counted from anew")
	f.evict(start.Add(3 * forgetAfter))
	require.Zero(t, list(start.Add(2*forgetAfter), false))
	require.Empty(t, c.machines)
	require.Empty(t, c.held)
}

func TestRefresh_CapacitiesAreThoseOfAList(t *testing.T) {
	capacities := metal.Scope{Capacities: true}
	runTest(t, envConfig{machines: 50, costs: true}, func(t *testing.T, e *env) {
		e.allocate(simulator.ProjectA, 2)
		e.sweep()
		before := e.smallCapacity()
		e.allocate(simulator.ProjectA, 1)
		e.sim.ResetCalls()
		require.NoError(t, e.observer.Refresh(t.Context(), capacities))
		require.Equal(t, before.Free-1, e.smallCapacity().Free)
		require.Equal(t, 1, e.sim.CallsOf("machine-list"))
		require.Equal(t, 1, allCalls(e.sim))

		listed := time.Now()
		exhaust := func() error {
			ok, _ := e.observer.budget.reserve(readAccount, e.observer.budget.balance(readAccount))
			require.True(t, ok)
			return e.observer.Refresh(t.Context(), capacities)
		}
		time.Sleep(DefaultSweepInterval)
		require.NoError(t, exhaust(), "the list is young enough")
		time.Sleep(DefaultSweepInterval)
		var stale *metal.StaleError
		require.ErrorAs(t, exhaust(), &stale)
		require.WithinDuration(t, listed, stale.Since, soon)
		require.ErrorIs(t, stale, metal.ErrBudgetExceeded)
		require.ErrorContains(t, stale.Cause, "free machines are counted from lists of all machines, of which the last began at "+stale.Since.UTC().Format(time.RFC3339))
		e.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultRefused})
		time.Sleep(time.Hour)
		require.ErrorAs(t, e.observer.Refresh(t.Context(), capacities), &stale)
		require.NotErrorIs(t, stale, metal.ErrBudgetExceeded)
	})
}

// Whatever is observed, learned and forgotten, in whatever order answers come: a machine of which
// a fact is kept is counted as that, the others as they were last shown, and none of them any more
// that was missing for long.
func TestCapacity_IsThatOfFactsAndLists(t *testing.T) {
	for seed := range uint64(4) {
		random := rand.New(rand.NewPCG(seed, 3))
		f := newFacts(func(project string) bool { return project == "shown" }, nil)
		o := &Observer{facts: f}
		now := time.Now()
		random10 := func() (found []*metal.Machine) {
			for i := range 10 {
				if random.IntN(4) > 0 {
					m := randomMachine(random, fmt.Sprint("m-", i), now)
					m.Partition, m.Size = []string{"p", "q"}[random.IntN(2)], []string{"", "s"}[random.IntN(2)]
					found = append(found, m)
				}
			}
			return found
		}
		var begun []observationTime
		for range 200 {
			now = now.Add(time.Duration(random.IntN(60)) * time.Second)
			for range 1 + random.IntN(2) {
				begun = append(begun, f.nextObservation(now))
			}
			i := random.IntN(len(begun))
			m := begun[i]
			begun = append(begun[:i], begun[i+1:]...)
			id := fmt.Sprint("m-", random.IntN(10))
			machine := randomMachine(random, id, now)
			machine.Partition = "p"
			found := random10()
			f.update(func() {
				switch random.IntN(6) {
				case 0, 1:
					var pending []string
					listed := o.applyListed(found, m, &pending)
					for id := range f.machines.entries {
						if !listed[id] {
							f.machines.applyAbsence(id, m)
						}
					}
					f.countListed(listed, m)
				case 2:
					f.machines.apply(id, machine, m, sourceGet)
				case 3:
					f.machines.apply(id, nil, m, sourceFind)
				case 4:
					learn(&f.machines, id, machine, m)
				}
			})
			if random.IntN(6) == 0 {
				f.evict(now)
			}
			requireRecounted(t, f)
		}
		// In the end nothing is shown any more, by lists that are far apart.
		for range 3 {
			now = now.Add(2 * forgetAfter)
			m := f.nextObservation(now)
			f.update(func() {
				for id := range f.machines.entries {
					f.machines.applyAbsence(id, m)
				}
				f.countListed(nil, m)
			})
			for id, h := range f.machines.entries {
				if h.pendingSeq != 0 {
					m := f.nextObservation(now)
					f.update(func() { f.machines.apply(id, nil, m, sourceFind) })
				}
			}
			requireRecounted(t, f)
		}
		require.Empty(t, f.capacities.machines)
		require.Empty(t, f.capacities.held)
	}
}

// requireRecounted requires that the sums are those of the machines that are counted, and these are
// as the facts are.
func requireRecounted(t *testing.T, f *facts) {
	t.Helper()
	c := &f.capacities
	pools, held := map[poolKey]metal.Capacity{}, map[heldKey]int{}
	for _, e := range c.machines {
		if e.pool == nil {
			continue
		}
		key := poolKey{e.pool.Partition, e.pool.Size}
		sum := pools[key]
		sum.Partition, sum.Size = key.partition, key.size
		sum.Total++
		switch e.class {
		case classAllocated:
			sum.Allocated++
		case classFree:
			sum.Free++
		case classFaulty:
			sum.Faulty++
		default:
			sum.Unavailable++
		}
		pools[key] = sum
		if e.project != "" {
			held[heldKey{e.project, key}]++
		}
	}
	counted := map[poolKey]metal.Capacity{}
	for key, pool := range c.pools {
		if *pool != (metal.Capacity{Partition: key.partition, Size: key.size}) {
			counted[key] = *pool
		}
	}
	require.Equal(t, pools, counted)
	require.Equal(t, held, c.held)
	for id, h := range f.machines.entries {
		if h.fact == nil {
			continue
		}
		e := c.machines[id]
		require.NotNil(t, e, id)
		require.Equal(t, classOf(h.fact), e.class, id)
		require.Equal(t, h.fact.Project(), e.project, id)
		require.Equal(t, h.fact.Partition, e.pool.Partition, id)
		require.True(t, e.missedAt.IsZero(), id)
	}
}

func TestCapacity_CountsMachinesWithoutSizeOrPartition(t *testing.T) {
	c := newCapacities()
	c.observe(&metal.Machine{ID: "1", Partition: "p"}, 1)
	c.observe(&metal.Machine{ID: "2", Partition: "p", Size: "unknown"}, 1)
	c.observe(&metal.Machine{ID: "3", Size: "s"}, 1)
	require.Equal(t, map[poolKey]*metal.Capacity{{"p", "unknown"}: {Partition: "p", Size: "unknown", Total: 2, Unavailable: 2}}, c.pools)
}

// Whatever the observations, and in whatever order they come, the counts are those of the machines
// as the newest ones have shown them.
func TestCapacity_IsSumOfNewestObservations(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		c := newCapacities()
		newest, seqs := map[string]*metal.Machine{}, map[string]uint64{}
		for range 100 {
			m := randomMachine(random, fmt.Sprint("m-", random.IntN(10)), time.Now())
			m.Partition, m.Size = []string{"", "p", "q"}[random.IntN(3)], []string{"", "s", "l"}[random.IntN(3)]
			seq := random.Uint64N(1000)
			if newest[m.ID] == nil || seq >= seqs[m.ID] {
				newest[m.ID], seqs[m.ID] = m, seq
			}
			c.observe(m, seq)
		}
		want, held := newCapacities(), map[heldKey]int{}
		for _, m := range newest {
			if pool := want.poolOf(m); pool != nil {
				pool.Add(m)
				if m.Project() != "" {
					held[heldKey{m.Project(), poolKey{pool.Partition, pool.Size}}]++
				}
			}
		}
		for key, pool := range c.pools {
			if pool.Total == 0 {
				delete(c.pools, key)
			}
		}
		require.Equal(t, want.pools, c.pools)
		require.Equal(t, held, c.held)
	}
}
