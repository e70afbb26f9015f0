package tenancy

import (
	"context"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// keeper is what Run works with.
type keeper struct {
	*Namespaces
	Keeping
	list func() []namespace
	book book
	// announced is what Changed knows of.
	announced *state
	// hidden is what HiddenChanged knows of.
	hidden map[string]struct{}
	said   map[string]saying
	// gone are the uids of the Namespaces that are gone and whose records are
	// hidden, by name, as far as looks have confirmed that.
	gone map[string]types.UID
	// confirmed is what looks have confirmed and what is not in force yet, by name.
	confirmed map[string]finding
}

func newKeeper(n *Namespaces, k Keeping, list func() []namespace) *keeper {
	return &keeper{
		Namespaces: n, Keeping: k, list: list, book: book{ledger: k.Ledger}, announced: newState(nil, nil),
		said: map[string]saying{}, confirmed: map[string]finding{},
	}
}

// keep puts in force what the Namespaces ask for, as far as it may be. It
// returns when to do so again.
func (k *keeper) keep(ctx context.Context) (again time.Duration, err error) {
	leads := k.leads.Load()
	if err := k.book.open(ctx); err != nil {
		return 0, err
	}
	if !leads {
		_, judged := decide(k.list(), k.book.inForce, k.Holds, k.Oldest, nil, k.clock.Now())
		k.become(newState(k.book.inForce, judged))
		k.book.read = false // somebody else writes it
		return followInterval, nil
	}
	all := k.list()
	next, judged, open := k.close(all)
	if len(open) > 0 {
		if err := k.confirm(ctx, open); err != nil {
			return 0, err
		}
		// Others are due by now only if records have come or gone meanwhile, or if
		// there were too many.
		if next, judged, open = k.close(all); len(open) > 0 {
			return heldInterval, nil
		}
	}
	// Written first: what is created under a binding must find it in force
	// after a crash.
	if !maps.EqualFunc(next, k.book.inForce, binding.equal) {
		if err := k.book.write(ctx, next); err != nil {
			return 0, err
		}
	}
	was, is := k.announced, newState(next, judged)
	k.become(is)
	k.settled(judged)
	k.led.Store(true)
	k.tell()
	k.report(ctx, was, is)
	again = resync
	gone := 0
	for _, j := range judged {
		if j.verdict == held || j.verdict == abandoned {
			again = heldInterval
		}
		if j.verdict == abandoned {
			gone++
		}
	}
	abandonedNamespaces.Set(float64(gone))
	return again, nil
}

// become makes a state the one that is in force, and tells everybody.
func (k *keeper) become(is *state) {
	k.mu.Lock()
	k.state.Store(is)
	k.mu.Unlock()
	k.hide(is)
	if namespaces, projects := differences(k.announced, is); len(namespaces)+len(projects) > 0 {
		k.Changed(namespaces, projects)
	}
	k.announced = is
	k.synced.Store(true)
	k.tell()
}

// hide tells if other namespaces are hidden in is than before.
func (k *keeper) hide(is *state) {
	changed := !maps.Equal(k.hidden, is.hidden)
	k.hidden = is.hidden
	if changed && k.HiddenChanged != nil {
		k.HiddenChanged()
	}
}

// tell wakes those who wait for a change.
func (n *Namespaces) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.moved)
	n.moved = make(chan struct{})
}

// close decides, and ends the bindings that are not to be in force any more: no
// object can be created under them from here on, and what is to be hidden is. It
// changes nothing if there is something open: what is to be confirmed first.
func (k *keeper) close(all []namespace) (next map[string]binding, judged map[string]judgement, open []judgement) {
	origins := k.Origins()
	k.mu.Lock()
	next, judged = decide(all, k.book.inForce, func(name string) bool { return k.creating[name] > 0 || k.Holds(name) }, k.Oldest, origins, k.clock.Now())
	if open = k.open(judged); len(open) > 0 {
		k.mu.Unlock()
		return nil, nil, open
	}
	was, will := k.state.Load(), newState(next, judged)
	left := maps.Clone(was.bindings)
	maps.DeleteFunc(left, func(name string, b binding) bool {
		n, stays := will.bindings[name]
		return !stays || n.project != b.project || b.uid != "" && n.uid != b.uid
	})
	is := newState(left, was.judged)
	maps.Copy(is.hidden, was.hidden)
	maps.Copy(is.hidden, will.hidden)
	ended := len(left) < len(was.bindings) || len(is.hidden) > len(was.hidden)
	if ended {
		k.state.Store(is)
	}
	k.mu.Unlock()
	if ended {
		k.hide(is)
	}
	return next, judged, nil
}

// differences are the namespaces that have another project, and the projects
// that are shown elsewhere.
func differences(a, b *state) (namespaces, projects []string) {
	return changedKeys(a.bindings, b.bindings), changedKeys(a.shown, b.shown)
}

func changedKeys[V comparable](a, b map[string]V) []string {
	keys := map[string]struct{}{}
	for _, pair := range [][2]map[string]V{{a, b}, {b, a}} {
		for key, value := range pair[0] {
			if other, found := pair[1][key]; !found || other != value {
				keys[key] = struct{}{}
			}
		}
	}
	return slices.Sorted(maps.Keys(keys))
}
