// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"iter"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// facts is all that is known, with its indexes. Changes are handed over one
// after the other, in the order in which they were made.
type facts struct {
	relevant func(project string) bool
	changed  func([]metal.Ref)
	// shown is whether what was handed over is shown.
	shown func() bool

	// deliver is taken while changes are made and handed over; mu only while
	// they are made, so that listeners can ask for facts.
	deliver chan struct{}

	mu       sync.RWMutex
	seq      uint64
	machines cache[metal.Machine]
	networks cache[metal.Network]
	ips      cache[metal.IP]
	// byUID and byProject are the ids of allocated machines. Hardly ever do two have one uid.
	byUID      map[string][]string
	byProject  map[string]map[string]struct{}
	duplicates duplicates
	capacities capacities
	networking networking
	// referenced is the metal that records reference.
	referenced map[metal.Ref]struct{}
	// focused are the ids of machines that focus observes if clients are shown them.
	focused map[string]struct{}
	// pending are the changes that are not handed over yet.
	pending []metal.Ref
}

func newFacts(relevant func(string) bool, changed func([]metal.Ref)) *facts {
	f := &facts{
		deliver:    make(chan struct{}, 1),
		relevant:   relevant,
		changed:    changed,
		shown:      func() bool { return true },
		byUID:      map[string][]string{},
		byProject:  map[string]map[string]struct{}{},
		duplicates: newDuplicates(),
		capacities: newCapacities(),
		networking: newNetworking(),
		referenced: map[metal.Ref]struct{}{},
		focused:    map[string]struct{}{},
	}
	f.machines = cache[metal.Machine]{entries: map[string]*entry[metal.Machine]{}, disappeared: machineDisappeared, equal: sameMachine, reuse: reuseMachine, onChange: f.machineChanged, onUpdate: f.machineUpdated, needsVerification: f.machineNeedsVerification}
	f.networks = cache[metal.Network]{
		entries:     map[string]*entry[metal.Network]{},
		disappeared: func(_, after *metal.Network) bool { return after == nil },
		equal:       func(a, b *metal.Network) bool { return reflect.DeepEqual(a, b) },
		reuse:       func(before, _ *metal.Network) *metal.Network { return before },
		onChange:    f.networkChanged, needsVerification: func(string, *metal.Network) bool { return true },
	}
	f.ips = cache[metal.IP]{
		entries:     map[string]*entry[metal.IP]{},
		disappeared: ipDisappeared,
		equal:       func(a, b *metal.IP) bool { return reflect.DeepEqual(a, b) },
		reuse:       func(before, _ *metal.IP) *metal.IP { return before },
		onChange:    f.ipChanged, needsVerification: func(string, *metal.IP) bool { return true },
	}
	return f
}

// machineDisappeared: a machine that is held is gone when its allocation is.
func machineDisappeared(before, after *metal.Machine) bool {
	if after == nil {
		return true
	}
	return before != nil && before.Allocation != nil && before.AllocationUUID() != after.AllocationUUID()
}

func ipDisappeared(before, after *metal.IP) bool {
	return after == nil || before != nil && before.AllocationUUID != after.AllocationUUID
}

// sameMachine: a heartbeat alone is no change.
func sameMachine(a, b *metal.Machine) bool {
	if a == nil || b == nil {
		return a == b
	}
	c := *a
	c.LastEventTime = b.LastEventTime
	return reflect.DeepEqual(&c, b)
}

// reuseMachine is before with the heartbeat of after: projected objects share its strings,
// and those that were observed again need not be kept beside them.
func reuseMachine(before, after *metal.Machine) *metal.Machine {
	if before.LastEventTime.Equal(after.LastEventTime) {
		return before
	}
	m := *before
	m.LastEventTime = after.LastEventTime
	return &m
}

// nextObservation is the place of an observation that begins now.
func (f *facts) nextObservation(now time.Time) observationTime {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq++
	return observationTime{f.seq, now}
}

// update makes changes and hands them over before it returns.
func (f *facts) update(change func()) {
	f.deliver <- struct{}{}
	defer func() { <-f.deliver }()
	f.mu.Lock()
	change()
	refs := f.pending
	f.pending = nil
	f.mu.Unlock()
	if len(refs) > 0 && f.changed != nil {
		f.changed(refs)
	}
}

// observe is update for an observation of networks or addresses as a whole, which covered records.
// Of what is not handed over yet, nothing is known to who is shown it.
func (f *facts) observe(change func(), covered func(*coverages)) {
	f.update(func() {
		change()
		covered(&f.networking.coverages)
	})
	if !f.shown() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	covered(&f.networking.handedOver)
}

// setReferenced takes over changes of what records reference; what is new among it is Unobserved.
func (f *facts) setReferenced(changes metal.RefChanges, now time.Time) {
	f.update(func() {
		if changes.Complete {
			f.referenced = make(map[metal.Ref]struct{}, len(f.referenced))
		}
		for _, r := range changes.Removed {
			delete(f.referenced, r)
		}
		for _, r := range changes.Added {
			if r.ID == "" {
				continue
			}
			switch r.Kind {
			case metal.KindMachine:
				f.machines.getOrCreate(r.ID, now)
			case metal.KindNetwork:
				f.networks.getOrCreate(r.ID, now)
			case metal.KindIP:
				f.ips.getOrCreate(r.ID, now)
			default:
				continue // an identity is observed with what carries it
			}
			f.referenced[r] = struct{}{}
		}
	})
}

func (f *facts) isReferenced(kind metal.RefKind, id string) bool {
	_, named := f.referenced[metal.Ref{Kind: kind, ID: id}]
	return named
}

// machineNeedsVerification reports whether the machine is visible to clients, so that
// its disappearance must be verified.
func (f *facts) machineNeedsVerification(id string, m *metal.Machine) bool {
	return f.isReferenced(metal.KindMachine, id) || m != nil && m.Allocation != nil && f.relevant(m.Allocation.Project)
}

// machineUpdated keeps the machines that focus observes.
func (f *facts) machineUpdated(id string, e *entry[metal.Machine]) {
	if e.pendingSeq != 0 || !e.noEvents && e.needsFocus() {
		f.focused[id] = struct{}{}
	} else {
		delete(f.focused, id)
	}
}

// setNoEvents records whether a machine has no events.
func (f *facts) setNoEvents(id string, noEvents bool, now time.Time) {
	e := f.machines.getOrCreate(id, now)
	e.noEvents = noEvents
	f.machineUpdated(id, e)
}

func (f *facts) machineChanged(id string, before, after *metal.Machine) {
	f.index(id, before, false)
	f.index(id, after, true)
	switch {
	case after != nil:
		f.capacities.replace(id, after, f.seq)
	case f.machineNeedsVerification(id, before):
		f.capacities.remove(id)
	default:
		f.capacities.miss(id, f.machines.entries[id].observedAt)
	}
	for _, other := range f.duplicates.replace(id, before, after) {
		if m := f.machines.entries[other].fact; f.machineNeedsVerification(other, m) {
			f.notifyMachine(other, m)
		}
	}
	if !f.machineNeedsVerification(id, before) && !f.machineNeedsVerification(id, after) {
		return
	}
	f.notifyMachine(id, before, after)
}

// notifyMachine notifies of a machine, and of the allocations that it is or was in.
func (f *facts) notifyMachine(id string, states ...*metal.Machine) {
	refs := []metal.Ref{{Kind: metal.KindMachine, ID: id}}
	for _, m := range states {
		if m != nil && m.Allocation != nil {
			refs = append(refs, metal.Ref{Kind: metal.KindAllocation, ID: m.Allocation.UUID})
			if uid := m.UID(); uid != "" {
				refs = append(refs, metal.Ref{Kind: metal.KindUID, ID: uid})
			}
		}
	}
	f.notify(refs...)
}

func (f *facts) networkChanged(id string, before, after *metal.Network) {
	f.networking.indexNetwork(id, before, after)
	f.notify(networkRefs(id, before, after)...)
}

func (f *facts) ipChanged(id string, before, after *metal.IP) {
	f.networking.indexIP(id, before, after)
	f.notify(ipRefs(id, before, after)...)
}

// notify adds refs that are not pending already because of the same change.
func (f *facts) notify(refs ...metal.Ref) {
	for i, r := range refs {
		if !slices.Contains(refs[:i], r) {
			f.pending = append(f.pending, r)
		}
	}
}

func (f *facts) index(id string, m *metal.Machine, on bool) {
	if m == nil || m.Allocation == nil {
		return
	}
	project := m.Allocation.Project
	if uid := m.UID(); uid != "" {
		ids := slices.DeleteFunc(f.byUID[uid], func(known string) bool { return known == id })
		if on {
			ids = append(ids, id)
		}
		if f.byUID[uid] = ids; len(ids) == 0 {
			delete(f.byUID, uid)
		}
	}
	switch {
	case project == "":
	case on && f.byProject[project] == nil:
		f.byProject[project] = map[string]struct{}{id: {}}
	case on:
		f.byProject[project][id] = struct{}{}
	default:
		if delete(f.byProject[project], id); len(f.byProject[project]) == 0 {
			delete(f.byProject, project)
		}
	}
}

// machinesByUID returns the machines that carry an identity, by id.
func (f *facts) machinesByUID(uid string) []*metal.Machine {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.machinesOf(slices.Values(f.byUID[uid]))
}

// machinesInProject returns the machines that are allocated in a project, by id.
func (f *facts) machinesInProject(project string) []*metal.Machine {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.machinesOf(maps.Keys(f.byProject[project]))
}

func (f *facts) machinesOf(ids iter.Seq[string]) []*metal.Machine {
	var found []*metal.Machine
	for _, id := range slices.Sorted(ids) {
		found = append(found, f.machines.entries[id].fact)
	}
	return found
}

// evict drops machines that are neither allocated nor referenced, and networks and addresses
// that are neither referenced nor of a project whose networks or addresses were observed.
func (f *facts) evict(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.focused)
	for id, h := range f.machines.entries {
		if (h.fact == nil || h.fact.Allocation == nil) && !f.isReferenced(metal.KindMachine, id) && now.Sub(h.observedAt) > forgetAfter {
			delete(f.machines.entries, id)
			continue
		}
		f.machineUpdated(id, h)
	}
	f.evictNetworking(now)
}

func lookup[T any](f *facts, s *cache[T], id string) (*T, metal.Presence) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if h := s.entries[id]; h != nil {
		return h.fact, h.presence
	}
	return nil, metal.Unobserved
}
