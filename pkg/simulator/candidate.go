// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

const (
	// lockExpiry is how long a partition's lock is valid.
	lockExpiry = 10 * time.Second
	// lockSweep is how often expired locks are removed; with lockExpiry this
	// makes the 10 to 40 s of docs/metal-api.md, Q33.
	lockSweep = 30 * time.Second
	// lockPatience is how long an allocation waits for the lock.
	lockPatience = 10 * time.Second
)

var errTooMany = errors.New("too many parallel machine allocations taking place, try again later")

// partitionLock serialises allocations by size in a partition. It is a row in
// the database: removing it is a call that a gone caller's context cancels.
type partitionLock struct {
	swept    time.Time // when the sweep removes it if nobody else does
	released chan struct{}
}

// candidate finds the machine to allocate: the one that was named, whatever
// its state is (261, 266, 281, 535), or a waiting one.
func (s *Simulator) candidate(c *call, sp *spec) (*machine, error) {
	if m := sp.machine; m != nil {
		if m.alloc != nil {
			return nil, errors.New("machine is already allocated")
		}
		if p := sp.req.PartitionID; p != "" && p != m.partition {
			return nil, fmt.Errorf("machine %q is not in the requested partition: %s", m.id, p)
		}
		return m, nil
	}
	c.phase("lock", costAllocateLock)
	if err := s.lockPartition(c, sp.partition.ID); err != nil {
		return nil, err
	}
	c.phase("candidate", costAllocateCandidate+timesN(costFindPerMachine, s.Machines()))
	s.lock()
	m, err := s.pickWaiting(sp)
	s.unlock()
	if !c.gone() {
		s.unlockPartition(sp.partition.ID)
	}
	return m, err
}

func (s *Simulator) lockPartition(c *call, partition string) error {
	deadline := s.clock.Now().Add(lockPatience)
	waited := false
	for {
		if c.gone() {
			return errTooMany
		}
		s.lock()
		now := s.clock.Now()
		l := s.locks[partition]
		if l == nil || !now.Before(l.swept) {
			s.locks[partition] = &partitionLock{swept: s.sweepAfter(now.Add(lockExpiry)), released: make(chan struct{})}
			s.unlock()
			if waited {
				c.spend(costLockHandover)
			}
			return nil
		}
		s.unlock()
		if !now.Before(deadline) {
			return errTooMany
		}
		waited = true
		wake := deadline
		if l.swept.Before(wake) {
			wake = l.swept
		}
		timer := s.clock.NewTimer(wake.Sub(now))
		select {
		case <-l.released:
		case <-timer.C():
		case <-c.ctx.Done():
		case <-s.closed:
			timer.Stop()
			return errTooMany
		}
		timer.Stop()
	}
}

// sweepAfter is the first sweep after t.
func (s *Simulator) sweepAfter(t time.Time) time.Time {
	n := t.Sub(s.started)/lockSweep + 1
	return s.started.Add(n * lockSweep)
}

func (s *Simulator) unlockPartition(partition string) {
	s.lock()
	defer s.unlock()
	if l := s.locks[partition]; l != nil {
		delete(s.locks, partition)
		close(l.released)
	}
}

// pickWaiting chooses a machine that is waiting, alive, and neither reserved
// nor locked, in a rack where the project has least, and marks it.
func (s *Simulator) pickWaiting(sp *spec) (*machine, error) {
	none := errors.New("no machine available")
	var available, all []*machine
	for _, n := range s.order {
		m := n.m
		if m == nil || m.partition != sp.partition.ID || m.size != sp.size.ID {
			continue
		}
		all = append(all, m)
		if m.alloc == nil && m.waiting && !m.preallocated && m.state.Value == "" && n.ec != nil && n.ec.liveliness == livelinessAlive {
			available = append(available, m)
		}
	}
	if len(available) == 0 || !s.reservationsAllow(sp, len(available), all) {
		return nil, none
	}
	var projects []*machine
	for _, m := range all {
		if m.alloc != nil && m.alloc.project == sp.req.ProjectID && m.alloc.role == sp.role {
			projects = append(projects, m)
		}
	}
	chosen := s.pick(spread(available, projects, sp.req.PlacementTags))
	next := *chosen
	next.preallocated = true
	return s.claimed(chosen, &next)
}

// claimed stores a candidate and returns it as stored, so that the roll-back
// can detect whether another call has changed it.
func (s *Simulator) claimed(old, next *machine) (*machine, error) {
	if _, err := s.updateMachine(old, next); err != nil {
		return nil, err
	}
	return s.machines[old.id].m, nil
}

func (s *Simulator) pick(candidates []*machine) *machine {
	slices.SortFunc(candidates, func(a, b *machine) int { return compare(a.id, b.id) })
	ids := make([]string, len(candidates))
	for i, m := range candidates {
		ids[i] = m.id
	}
	return candidates[slices.Index(ids, s.choose(ids))]
}

// choose takes one of several where the real one takes any.
func (s *Simulator) choose(candidates []string) string {
	if s.cfg.Pick != nil {
		if c := s.cfg.Pick(slices.Clone(candidates)); slices.Contains(candidates, c) {
			return c
		}
	}
	return candidates[s.rng.IntN(len(candidates))]
}

// reservationsAllow says whether the reservations of a size leave something
// for the project (338).
func (s *Simulator) reservationsAllow(sp *spec, available int, all []*machine) bool {
	reserved, any := 0, false
	for _, r := range s.cat.reservations {
		if r.SizeID != sp.size.ID || !slices.Contains(r.PartitionIDs, sp.partition.ID) {
			continue
		}
		any = true
		reserved += r.Amount
		used := 0
		for _, m := range all {
			if m.alloc != nil && m.alloc.project == r.ProjectID {
				used++
			}
		}
		if r.ProjectID == sp.req.ProjectID && used < r.Amount {
			return true
		}
		reserved = max(reserved-used, 0)
	}
	return !any || reserved < available
}

// spread keeps the machines in the racks with fewest machines of the project,
// those that carry one of the placement tags counting first (344).
func spread(available, projects []*machine, tags []string) []*machine {
	byRack := func(counted []*machine) map[string]bool {
		racks := map[string]int{}
		for _, m := range available {
			racks[m.rack] = 0
		}
		for _, m := range counted {
			if _, ok := racks[m.rack]; ok {
				racks[m.rack]++
			}
		}
		least := math.MaxInt
		for _, n := range racks {
			least = min(least, n)
		}
		elected := map[string]bool{}
		for r, n := range racks {
			elected[r] = n == least
		}
		return elected
	}
	var tagged []*machine
	for _, m := range projects {
		for _, t := range tags {
			if slices.Contains(m.tags, t) {
				tagged = append(tagged, m)
			}
		}
	}
	byTags, byProject := byRack(tagged), byRack(projects)
	filter := func(ok func(rack string) bool) []*machine {
		var l []*machine
		for _, m := range available {
			if ok(m.rack) {
				l = append(l, m)
			}
		}
		return l
	}
	if both := filter(func(r string) bool { return byTags[r] && byProject[r] }); len(both) > 0 {
		return both
	}
	return filter(func(r string) bool { return byTags[r] })
}

func hasFeature(i *wire.Image, f string) bool { return slices.Contains(i.Features, f) }

func featureString(i *wire.Image) string {
	s := ""
	for j, f := range i.Features {
		if j > 0 {
			s += ", "
		}
		s += f
	}
	return s
}
