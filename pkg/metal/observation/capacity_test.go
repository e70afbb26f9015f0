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
