package tenancy

import (
	"context"
	"maps"
	"slices"
	"time"
)

// keeper is what Run works with.
type keeper struct {
	*Namespaces
	Keeping
	list func() []namespace
	book book
	// announced is what Changed knows of.
	announced *state
	said      map[string]saying
}

// keep puts in force what the Namespaces ask for, as far as it may be. It
// returns when to do so again.
func (k *keeper) keep(ctx context.Context) (again time.Duration, err error) {
	leads := k.leads.Load()
	if err := k.book.open(ctx); err != nil {
		return 0, err
	}
	if !leads {
		_, judged := decide(k.list(), k.book.inForce, k.Holds)
		k.become(newState(k.book.inForce, judged))
		k.book.read = false // somebody else writes it
		return followInterval, nil
	}
	next, judged := k.close()
	// Written first: what is created under a binding must find it in force
	// after a crash.
	if !maps.Equal(next, k.book.inForce) {
		if err := k.book.write(ctx, next); err != nil {
			return 0, err
		}
	}
	was, is := k.announced, newState(next, judged)
	k.become(is)
	k.led.Store(true)
	k.tell()
	k.report(ctx, was, is)
	for _, j := range judged {
		if j.verdict == held {
			return heldInterval, nil
		}
	}
	return resync, nil
}

// become makes a state the one that is in force, and tells everybody.
func (k *keeper) become(is *state) {
	k.mu.Lock()
	k.state.Store(is)
	k.mu.Unlock()
	if namespaces, projects := differences(k.announced, is); len(namespaces)+len(projects) > 0 {
		k.Changed(namespaces, projects)
	}
	k.announced = is
	k.synced.Store(true)
	k.tell()
}

// tell wakes those who wait for a change.
func (n *Namespaces) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.moved)
	n.moved = make(chan struct{})
}

// close decides, and ends the bindings that are not to be in force any more: no
// object can be created under them from here on.
func (k *keeper) close() (next map[string]string, judged map[string]judgement) {
	all := k.list()
	k.mu.Lock()
	defer k.mu.Unlock()
	next, judged = decide(all, k.book.inForce, func(name string) bool { return k.creating[name] > 0 || k.Holds(name) })
	was := k.state.Load()
	left := maps.Clone(was.projects)
	maps.DeleteFunc(left, func(name, project string) bool { return next[name] != project })
	if len(left) < len(was.projects) {
		k.state.Store(newState(left, was.judged))
	}
	return next, judged
}

// differences are the namespaces that have another project, and the projects
// that are shown elsewhere.
func differences(a, b *state) (namespaces, projects []string) {
	return changedKeys(a.projects, b.projects), changedKeys(a.shown, b.shown)
}

func changedKeys(a, b map[string]string) []string {
	keys := map[string]struct{}{}
	for _, pair := range [][2]map[string]string{{a, b}, {b, a}} {
		for key, value := range pair[0] {
			if other, found := pair[1][key]; !found || other != value {
				keys[key] = struct{}{}
			}
		}
	}
	return slices.Sorted(maps.Keys(keys))
}
