// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// unknownSize is the size of machines that have none, as the metal-api calls it.
const unknownSize = "unknown"

// poolKey names the machines of one size in one partition, heldKey those of them that a project
// holds.
type (
	poolKey struct{ partition, size string }
	heldKey struct {
		project string
		pool    poolKey
	}
)

// machineClass is what a machine is counted as.
type machineClass uint8

const (
	classNone machineClass = iota
	classAllocated
	classFree
	classFaulty
	classUnavailable
)

// classOf is what metal.Capacity counts a machine as.
func classOf(m *metal.Machine) machineClass {
	var c metal.Capacity
	c.Add(m)
	switch {
	case c.Allocated > 0:
		return classAllocated
	case c.Free > 0:
		return classFree
	case c.Faulty > 0:
		return classFaulty
	}
	return classUnavailable
}

// countedMachine is what one machine adds to the capacities.
type countedMachine struct {
	// seq is of the newest observation that can have counted it.
	seq uint64
	// missedAt is when the first observation began that did not show it; zero: the last one did.
	missedAt time.Time
	// pool is nil if it is in no partition.
	pool    *metal.Capacity
	project string
	class   machineClass
}

// capacities counts all machines by partition and size: those of which a fact is kept as the fact
// is, and the others as they were last shown. Either way one observation that lacks a machine
// proves nothing. It is used while the facts' mu is held.
type capacities struct {
	machines map[string]*countedMachine
	pools    map[poolKey]*metal.Capacity
	held     map[heldKey]int
	// listSeq is of the last list of all machines; 0: there was none.
	listSeq uint64
	// listedAt is when that began.
	listedAt time.Time
	// partitions and projects have changed since takeChanged was called.
	partitions, projects map[string]struct{}
}

func newCapacities() capacities {
	return capacities{
		machines: map[string]*countedMachine{}, pools: map[poolKey]*metal.Capacity{}, held: map[heldKey]int{},
		partitions: map[string]struct{}{}, projects: map[string]struct{}{},
	}
}

// observe counts a machine of which no fact is kept as a list has shown it, unless a newer
// observation has.
func (c *capacities) observe(m *metal.Machine, seq uint64) {
	e := c.machines[m.ID]
	switch {
	case e == nil && seq < c.listSeq:
		return
	case e == nil:
		e = &countedMachine{}
		c.machines[m.ID] = e
	case seq < e.seq:
		return
	}
	e.seq, e.missedAt = seq, time.Time{}
	c.set(e, c.poolOf(m), classOf(m), m.Project())
}

// replace counts a machine as its fact is after seq.
func (c *capacities) replace(id string, m *metal.Machine, seq uint64) {
	e := c.machines[id]
	if e == nil {
		e = &countedMachine{}
		c.machines[id] = e
	}
	e.seq, e.missedAt = seq, time.Time{}
	c.set(e, c.poolOf(m), classOf(m), m.Project())
}

// miss records that an observation that began at a time did not show a machine, of which no fact
// is kept any more: it is counted until lists have not shown it for a while.
func (c *capacities) miss(id string, at time.Time) {
	if e := c.machines[id]; e != nil && e.missedAt.IsZero() {
		e.missedAt = at
	}
}

// remove ends the counting of a machine that two observations did not show.
func (c *capacities) remove(id string) {
	if e := c.machines[id]; e != nil {
		c.set(e, nil, classNone, "")
		delete(c.machines, id)
	}
}

// countListed ends the counting of a list of all machines, and notifies of what it has changed:
// what no fact is kept of is counted until lists have not shown it for a while.
func (f *facts) countListed(listed map[string]bool, m observationTime) {
	c := &f.capacities
	if m.seq >= c.listSeq {
		c.listSeq, c.listedAt = m.seq, m.start
		for id, e := range c.machines {
			if h := f.machines.entries[id]; listed[id] || e.seq > m.seq || h != nil && h.fact != nil {
				continue
			}
			switch {
			case e.missedAt.IsZero():
				e.missedAt = m.start
			case m.start.Sub(e.missedAt) >= forgetAfter:
				c.remove(id)
			}
		}
	}
	f.notify(c.takeChanged(f.relevant)...)
}

func (c *capacities) poolOf(m *metal.Machine) *metal.Capacity {
	if m.Partition == "" {
		return nil
	}
	key := poolKey{m.Partition, cmp.Or(m.Size, unknownSize)}
	pool := c.pools[key]
	if pool == nil {
		pool = &metal.Capacity{Partition: key.partition, Size: key.size}
		c.pools[key] = pool
	}
	return pool
}

func (c *capacities) set(e *countedMachine, pool *metal.Capacity, class machineClass, project string) {
	if e.pool == pool && e.class == class && e.project == project {
		return
	}
	c.count(e, -1)
	e.pool, e.class, e.project = pool, class, project
	c.count(e, 1)
}

func (c *capacities) count(e *countedMachine, n int) {
	if e.pool == nil {
		return
	}
	e.pool.Total += n
	switch e.class {
	case classAllocated:
		e.pool.Allocated += n
	case classFree:
		e.pool.Free += n
	case classFaulty:
		e.pool.Faulty += n
	case classUnavailable:
		e.pool.Unavailable += n
	case classNone:
	}
	c.partitions[e.pool.Partition] = struct{}{}
	if e.project == "" {
		return
	}
	key := heldKey{e.project, poolKey{e.pool.Partition, e.pool.Size}}
	if c.held[key] += n; c.held[key] == 0 {
		delete(c.held, key)
	}
	c.projects[e.project] = struct{}{}
}

// takeChanged returns the partitions whose capacities have changed, and the relevant projects
// that hold other machines than before.
func (c *capacities) takeChanged(relevant func(project string) bool) (refs []metal.Ref) {
	for _, id := range slices.Sorted(maps.Keys(c.partitions)) {
		refs = append(refs, metal.Ref{Kind: metal.KindPartition, ID: id})
	}
	for _, id := range slices.Sorted(maps.Keys(c.projects)) {
		if relevant(id) {
			refs = append(refs, metal.Ref{Kind: metal.KindProject, ID: id})
		}
	}
	clear(c.partitions)
	clear(c.projects)
	return refs
}

// notifyCapacities notifies of the capacities that single observations have changed.
func (f *facts) notifyCapacities() {
	f.mu.RLock()
	changed := len(f.capacities.partitions)+len(f.capacities.projects) > 0
	f.mu.RUnlock()
	if changed {
		f.update(func() { f.notify(f.capacities.takeChanged(f.relevant)...) })
	}
}

// Capacity returns how many machines of a size there are in a partition: as the last list of all
// machines has shown, and observations of single ones since. It is false until there was a list.
func (o *Observer) Capacity(partition, size string) (metal.Capacity, bool) {
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	c := &o.facts.capacities
	if pool := c.pools[poolKey{partition, size}]; pool != nil {
		return *pool, c.listSeq > 0
	}
	return metal.Capacity{Partition: partition, Size: size}, c.listSeq > 0
}

// capacitiesCause is why capacities are not the newest, in the words of who reads them; nil if they
// are new enough.
func (o *Observer) capacitiesCause(cause error) error {
	listed := o.CapacityObserved()
	if listed.IsZero() || !errors.Is(cause, metal.ErrBudgetExceeded) && !errors.Is(cause, metal.ErrTimeout) {
		return cause
	}
	if o.opts.Clock.Since(listed) < 2*o.opts.SweepInterval {
		return nil
	}
	return fmt.Errorf("free machines are counted from lists of all machines, of which the last began at %s: %w", listed.UTC().Format(time.RFC3339), cause)
}

// CapacityObserved returns when the last list of all machines began, of which capacities are;
// zero if there was none. A refresh of the fleet need not be a list.
func (o *Observer) CapacityObserved() time.Time {
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	return o.facts.capacities.listedAt
}

// Capacities returns the capacities of a partition, by size; sizes without machines are left out.
func (o *Observer) Capacities(partition string) (all []metal.Capacity) {
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	for key, pool := range o.facts.capacities.pools {
		if key.partition == partition && pool.Total > 0 {
			all = append(all, *pool)
		}
	}
	slices.SortFunc(all, func(a, b metal.Capacity) int { return cmp.Compare(a.Size, b.Size) })
	return all
}

// AllocatedOf returns how many machines and firewalls of a size a project holds in a partition; of
// all sizes and partitions if both are empty.
func (o *Observer) AllocatedOf(project, partition, size string) int {
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	held := o.facts.capacities.held
	if partition != "" || size != "" {
		return held[heldKey{project, poolKey{partition, size}}]
	}
	sum := 0
	for key, n := range held {
		if key.project == project {
			sum += n
		}
	}
	return sum
}
