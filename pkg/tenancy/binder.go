// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// binder reconciles the bindings with the labels of Namespaces.
type binder struct {
	*Namespaces
	Config
	listNamespaces func() []namespace
	store          bindingStore
	// notified is what Changed knows of.
	notified *state
	// notifiedHidden is what HiddenChanged knows of.
	notifiedHidden map[string]struct{}
	lastEvents     map[string]lastEvent
	// confirmedGone are the uids of the Namespaces that are gone and whose records are
	// hidden, by name, as far as looks have confirmed that.
	confirmedGone map[string]types.UID
	// confirmed is what looks have confirmed and what is not in force yet, by name.
	confirmed map[string]confirmation
}

func newBinder(n *Namespaces, k Config, list func() []namespace) *binder {
	return &binder{
		Namespaces: n, Config: k, listNamespaces: list, store: bindingStore{ledger: k.Ledger}, notified: newState(nil, nil),
		lastEvents: map[string]lastEvent{}, confirmed: map[string]confirmation{},
	}
}

// reconcile puts in force what the Namespaces ask for, as far as it may be. It
// returns when to do so again.
func (k *binder) reconcile(ctx context.Context) (again time.Duration, err error) {
	leads := k.active.Load()
	if err := k.store.load(ctx); err != nil {
		return 0, err
	}
	if !leads {
		_, judged := computeBindings(k.listNamespaces(), k.store.inForce, k.HasRecords, k.OldestRecord, nil, k.clock.Now())
		k.setState(newState(k.store.inForce, judged))
		k.store.loaded = false // somebody else writes it
		return standbyInterval, nil
	}
	all := k.listNamespaces()
	next, judged, open := k.planAndRevoke(all)
	if len(open) > 0 {
		if err := k.confirm(ctx, open); err != nil {
			return 0, err
		}
		// Others are due by now only if records have come or gone meanwhile, or if
		// there were too many.
		if next, judged, open = k.planAndRevoke(all); len(open) > 0 {
			return pendingInterval, nil
		}
	}
	// Written first: what is created under a binding must find it in force
	// after a crash.
	if !maps.EqualFunc(next, k.store.inForce, binding.equal) {
		if err := k.store.save(ctx, next); err != nil {
			return 0, err
		}
	}
	was, is := k.notified, newState(next, judged)
	k.setState(is)
	k.resetConfirmed(judged)
	k.reconciledActive.Store(true)
	k.broadcast()
	k.recordEvents(ctx, was, is)
	again = resyncInterval
	gone := 0
	for _, j := range judged {
		if j.outcome == stillBound || j.outcome == abandoned {
			again = pendingInterval
		}
		if j.outcome == abandoned {
			gone++
		}
	}
	abandonedNamespaces.Set(float64(gone))
	return again, nil
}

// setState makes a state the one that is in force, and tells everybody.
func (k *binder) setState(is *state) {
	k.mu.Lock()
	k.state.Store(is)
	k.mu.Unlock()
	k.notifyHidden(is)
	if namespaces, projects := differences(k.notified, is); len(namespaces)+len(projects) > 0 {
		k.OnChange(namespaces, projects)
	}
	k.notified = is
	k.synced.Store(true)
	k.broadcast()
}

// notifyHidden tells if other namespaces are hidden in is than before.
func (k *binder) notifyHidden(is *state) {
	changed := !maps.Equal(k.notifiedHidden, is.hidden)
	k.notifiedHidden = is.hidden
	if changed && k.OnHiddenChange != nil {
		k.OnHiddenChange()
	}
}

// broadcast wakes those who wait for a change.
func (n *Namespaces) broadcast() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.stateChanged)
	n.stateChanged = make(chan struct{})
}

// planAndRevoke decides, and ends the bindings that are not to be in force any more: no
// object can be created under them from here on, and what is to be hidden is. It
// changes nothing if there is something open: what is to be confirmed first.
func (k *binder) planAndRevoke(all []namespace) (next map[string]binding, judged map[string]result, open []result) {
	origins := k.Origins()
	k.mu.Lock()
	next, judged = computeBindings(all, k.store.inForce, func(name string) bool { return k.creating[name] > 0 || k.HasRecords(name) }, k.OldestRecord, origins, k.clock.Now())
	if open = k.unconfirmed(judged); len(open) > 0 {
		k.mu.Unlock()
		return nil, nil, open
	}
	was, will := k.state.Load(), newState(next, judged)
	left := maps.Clone(was.bindings)
	maps.DeleteFunc(left, func(name string, b binding) bool {
		n, stays := will.bindings[name]
		return !stays || n.project != b.project || b.uid != "" && n.uid != b.uid
	})
	is := newState(left, was.results)
	maps.Copy(is.hidden, was.hidden)
	maps.Copy(is.hidden, will.hidden)
	ended := len(left) < len(was.bindings) || len(is.hidden) > len(was.hidden)
	if ended {
		k.state.Store(is)
	}
	k.mu.Unlock()
	if ended {
		k.notifyHidden(is)
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
