package observation

import (
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

	// deliver is taken while changes are made and handed over; mu only while
	// they are made, so that who is told can ask.
	deliver chan struct{}

	mu       sync.RWMutex
	seq      uint64
	machines shelf[metal.Machine]
	networks shelf[metal.Network]
	ips      shelf[metal.IP]
	// byUID and byProject are the ids of allocated machines.
	byUID, byProject map[string]map[string]struct{}
	// named is the metal that records name.
	named map[metal.Ref]struct{}
	// pending are the changes that are not handed over yet.
	pending []metal.Ref
}

func newFacts(relevant func(string) bool, changed func([]metal.Ref)) *facts {
	f := &facts{
		deliver:   make(chan struct{}, 1),
		relevant:  relevant,
		changed:   changed,
		byUID:     map[string]map[string]struct{}{},
		byProject: map[string]map[string]struct{}{},
		named:     map[metal.Ref]struct{}{},
	}
	f.machines = shelf[metal.Machine]{held: map[string]*held[metal.Machine]{}, gone: machineGone, same: sameMachine, moved: f.machineMoved, guarded: f.machineGuarded}
	f.networks = shelf[metal.Network]{
		held:  map[string]*held[metal.Network]{},
		gone:  func(_, after *metal.Network) bool { return after == nil },
		same:  func(a, b *metal.Network) bool { return reflect.DeepEqual(a, b) },
		moved: f.networkMoved, guarded: func(string, *metal.Network) bool { return true },
	}
	f.ips = shelf[metal.IP]{
		held:  map[string]*held[metal.IP]{},
		gone:  ipGone,
		same:  func(a, b *metal.IP) bool { return reflect.DeepEqual(a, b) },
		moved: f.ipMoved, guarded: func(string, *metal.IP) bool { return true },
	}
	return f
}

// machineGone: a machine that is held is gone when its allocation is.
func machineGone(before, after *metal.Machine) bool {
	if after == nil {
		return true
	}
	return before != nil && before.Allocation != nil && before.AllocationUUID() != after.AllocationUUID()
}

func ipGone(before, after *metal.IP) bool {
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
func (f *facts) setNamed(refs []metal.Ref, now time.Time) {
	f.update(func() {
		named := make(map[metal.Ref]struct{}, len(refs))
		for _, r := range refs {
			if r.ID == "" {
				continue
			}
			named[r] = struct{}{}
			switch r.Kind {
			case metal.KindMachine:
				f.machines.of(r.ID, now)
			case metal.KindNetwork:
				f.networks.of(r.ID, now)
			case metal.KindIP:
				f.ips.of(r.ID, now)
			}
		}
		f.named = named
	})
}

func (f *facts) isNamed(kind metal.RefKind, id string) bool {
	_, named := f.named[metal.Ref{Kind: kind, ID: id}]
	return named
}

// machineGuarded: somebody is shown the machine, so its end must be certain.
func (f *facts) machineGuarded(id string, m *metal.Machine) bool {
	return f.isNamed(metal.KindMachine, id) || m != nil && m.Allocation != nil && f.relevant(m.Allocation.Project)
}

func (f *facts) machineMoved(id string, before, after *metal.Machine) {
	f.index(id, before, false)
	f.index(id, after, true)
	if !f.machineGuarded(id, before) && !f.machineGuarded(id, after) {
		return
	}
	f.tellMachine(id, before, after)
}

// tellMachine tells of a machine, and of the allocations that it is or was in.
func (f *facts) tellMachine(id string, states ...*metal.Machine) {
	refs := []metal.Ref{{Kind: metal.KindMachine, ID: id}}
	for _, m := range states {
		if m != nil && m.Allocation != nil {
			refs = append(refs, metal.Ref{Kind: metal.KindAllocation, ID: m.Allocation.UUID})
			if uid := m.UID(); uid != "" {
				refs = append(refs, metal.Ref{Kind: metal.KindUID, ID: uid})
			}
		}
	}
	f.tell(refs...)
}

func (f *facts) networkMoved(id string, before, after *metal.Network) {
	refs := []metal.Ref{{Kind: metal.KindNetwork, ID: id}}
	for _, n := range []*metal.Network{before, after} {
		if n != nil && n.UID() != "" {
			refs = append(refs, metal.Ref{Kind: metal.KindUID, ID: n.UID()})
		}
	}
	f.tell(refs...)
}

func (f *facts) ipMoved(id string, before, after *metal.IP) {
	refs := []metal.Ref{{Kind: metal.KindIP, ID: id}}
	for _, i := range []*metal.IP{before, after} {
		if i != nil && i.UID() != "" {
			refs = append(refs, metal.Ref{Kind: metal.KindUID, ID: i.UID()})
		}
	}
	f.tell(refs...)
}

// tell adds refs that are not pending already because of the same change.
func (f *facts) tell(refs ...metal.Ref) {
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
func (f *facts) indexed(index map[string]map[string]struct{}, key string) []*metal.Machine {
	f.mu.RLock()
	defer f.mu.RUnlock()
	found := make([]*metal.Machine, 0, len(index[key]))
	for id := range index[key] {
		found = append(found, f.machines.held[id].fact)
	}
	slices.SortFunc(found, func(a, b *metal.Machine) int {
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
		if (h.fact == nil || h.fact.Allocation == nil) && !f.isNamed(metal.KindMachine, id) && now.Sub(h.looked) > forgetAfter {
			delete(f.machines.held, id)
		}
	}
	for id, h := range f.networks.held {
		if !f.isNamed(metal.KindNetwork, id) && now.Sub(h.looked) > forgetAfter {
			delete(f.networks.held, id)
		}
	}
	for id, h := range f.ips.held {
		if !f.isNamed(metal.KindIP, id) && now.Sub(h.looked) > forgetAfter {
			delete(f.ips.held, id)
		}
	}
}

func lookup[T any](f *facts, s *shelf[T], id string) (*T, metal.Presence) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if h := s.held[id]; h != nil {
		return h.fact, h.presence
	}
	return nil, metal.Unseen
}
