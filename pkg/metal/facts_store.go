package metal

import (
	"reflect"
	"slices"
	"sync"
	"time"
)

// facts is all that is known, with its indexes. Changes are handed over one
// after the other, in the order in which they were made.
type facts struct {
	relevant func(project string) bool
	changed  func([]Ref)

	// deliver is taken while changes are made and handed over; mu only while
	// they are made, so that who is told can ask.
	deliver chan struct{}

	mu       sync.RWMutex
	seq      uint64
	machines shelf[Machine]
	networks shelf[Network]
	ips      shelf[IP]
	// byUID and byProject are the ids of allocated machines.
	byUID, byProject map[string]map[string]struct{}
	// named is the metal that records name.
	named map[Ref]struct{}
	// pending are the changes that are not handed over yet.
	pending []Ref
}

func newFacts(relevant func(string) bool, changed func([]Ref)) *facts {
	f := &facts{
		deliver:   make(chan struct{}, 1),
		relevant:  relevant,
		changed:   changed,
		byUID:     map[string]map[string]struct{}{},
		byProject: map[string]map[string]struct{}{},
		named:     map[Ref]struct{}{},
	}
	f.machines = shelf[Machine]{held: map[string]*held[Machine]{}, gone: machineGone, same: sameMachine, moved: f.machineMoved, guarded: f.machineGuarded}
	f.networks = shelf[Network]{
		held:  map[string]*held[Network]{},
		gone:  func(_, after *Network) bool { return after == nil },
		same:  func(a, b *Network) bool { return reflect.DeepEqual(a, b) },
		moved: f.networkMoved, guarded: func(string, *Network) bool { return true },
	}
	f.ips = shelf[IP]{
		held:  map[string]*held[IP]{},
		gone:  ipGone,
		same:  func(a, b *IP) bool { return reflect.DeepEqual(a, b) },
		moved: f.ipMoved, guarded: func(string, *IP) bool { return true },
	}
	return f
}

// machineGone: a machine that is held is gone when its allocation is.
func machineGone(before, after *Machine) bool {
	if after == nil {
		return true
	}
	return before != nil && before.Allocation != nil && before.AllocationUUID() != after.AllocationUUID()
}

func ipGone(before, after *IP) bool {
	return after == nil || before != nil && before.AllocationUUID != after.AllocationUUID
}

// sameMachine: a heartbeat alone is no change.
func sameMachine(a, b *Machine) bool {
	if a == nil || b == nil {
		return a == b
	}
	c := *a
	c.LastEventTime = b.LastEventTime
	return reflect.DeepEqual(&c, b)
}

// next is the place of a look that begins now.
func (f *facts) next(now time.Time) moment {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq++
	return moment{f.seq, now}
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

// setNamed replaces what records name; what is new among it is Unseen.
func (f *facts) setNamed(refs []Ref, now time.Time) {
	f.update(func() {
		named := make(map[Ref]struct{}, len(refs))
		for _, r := range refs {
			if r.ID == "" {
				continue
			}
			named[r] = struct{}{}
			switch r.Kind {
			case KindMachine:
				f.machines.of(r.ID, now)
			case KindNetwork:
				f.networks.of(r.ID, now)
			case KindIP:
				f.ips.of(r.ID, now)
			}
		}
		f.named = named
	})
}

func (f *facts) isNamed(kind RefKind, id string) bool {
	_, named := f.named[Ref{kind, id}]
	return named
}

// machineGuarded: somebody is shown the machine, so its end must be certain.
func (f *facts) machineGuarded(id string, m *Machine) bool {
	return f.isNamed(KindMachine, id) || m != nil && m.Allocation != nil && f.relevant(m.Allocation.Project)
}

func (f *facts) machineMoved(id string, before, after *Machine) {
	f.index(id, before, false)
	f.index(id, after, true)
	if !f.machineGuarded(id, before) && !f.machineGuarded(id, after) {
		return
	}
	f.tellMachine(id, before, after)
}

// tellMachine tells of a machine, and of the allocations that it is or was in.
func (f *facts) tellMachine(id string, states ...*Machine) {
	refs := []Ref{{KindMachine, id}}
	for _, m := range states {
		if m != nil && m.Allocation != nil {
			refs = append(refs, Ref{KindAllocation, m.Allocation.UUID})
			if uid := m.UID(); uid != "" {
				refs = append(refs, Ref{KindUID, uid})
			}
		}
	}
	f.tell(refs...)
}

func (f *facts) networkMoved(id string, before, after *Network) {
	refs := []Ref{{KindNetwork, id}}
	for _, n := range []*Network{before, after} {
		if n != nil && n.UID() != "" {
			refs = append(refs, Ref{KindUID, n.UID()})
		}
	}
	f.tell(refs...)
}

func (f *facts) ipMoved(id string, before, after *IP) {
	refs := []Ref{{KindIP, id}}
	for _, i := range []*IP{before, after} {
		if i != nil && i.UID() != "" {
			refs = append(refs, Ref{KindUID, i.UID()})
		}
	}
	f.tell(refs...)
}

// tell adds refs that are not pending already because of the same change.
func (f *facts) tell(refs ...Ref) {
	for i, r := range refs {
		if !slices.Contains(refs[:i], r) {
			f.pending = append(f.pending, r)
		}
	}
}

func (f *facts) index(id string, m *Machine, on bool) {
	if m == nil || m.Allocation == nil {
		return
	}
	mark := func(index map[string]map[string]struct{}, key string) {
		switch {
		case key == "":
		case on && index[key] == nil:
			index[key] = map[string]struct{}{id: {}}
		case on:
			index[key][id] = struct{}{}
		default:
			if delete(index[key], id); len(index[key]) == 0 {
				delete(index, key)
			}
		}
	}
	mark(f.byUID, m.UID())
	mark(f.byProject, m.Allocation.Project)
}

// indexed returns the machines that an index has under a key, by id.
func (f *facts) indexed(index map[string]map[string]struct{}, key string) []*Machine {
	f.mu.RLock()
	defer f.mu.RUnlock()
	found := make([]*Machine, 0, len(index[key]))
	for id := range index[key] {
		found = append(found, f.machines.held[id].fact)
	}
	slices.SortFunc(found, func(a, b *Machine) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return found
}

// forget drops machines that nobody holds, names or is shown.
func (f *facts) forget(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, h := range f.machines.held {
		if (h.fact == nil || h.fact.Allocation == nil) && !f.isNamed(KindMachine, id) && now.Sub(h.looked) > forgetAfter {
			delete(f.machines.held, id)
		}
	}
	for id, h := range f.networks.held {
		if !f.isNamed(KindNetwork, id) && now.Sub(h.looked) > forgetAfter {
			delete(f.networks.held, id)
		}
	}
	for id, h := range f.ips.held {
		if !f.isNamed(KindIP, id) && now.Sub(h.looked) > forgetAfter {
			delete(f.ips.held, id)
		}
	}
}

func lookup[T any](f *facts, s *shelf[T], id string) (*T, Presence) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if h := s.held[id]; h != nil {
		return h.fact, h.presence
	}
	return nil, Unseen
}
