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
	// listNamespaces lists them from the watch's cache, listLiveNamespaces from the
	// kube-apiserver.
	listNamespaces     func() []namespace
	listLiveNamespaces func(ctx context.Context) ([]namespace, error)
	store              bindingStore
	// notified is the state that OnChange was last called for.
	notified *state
	// notifiedHidden is the set that OnHiddenChange was last called for.
	notifiedHidden map[string]struct{}
	lastEvents     map[string]lastEvent
	// confirmedGone has the uids of Namespaces that live reads confirmed to be gone
	// and whose records are hidden, by name.
	confirmedGone map[string]types.UID
	// confirmed has what live reads confirmed and is not in force yet, by name.
	confirmed map[string]confirmation
}

func newBinder(n *Namespaces, b Config, list func() []namespace, listLive func(ctx context.Context) ([]namespace, error)) *binder {
	return &binder{
		Namespaces: n, Config: b, listNamespaces: list, listLiveNamespaces: listLive, store: bindingStore{ledger: b.Ledger}, notified: newState(nil, nil),
		lastEvents: map[string]lastEvent{}, confirmed: map[string]confirmation{},
	}
}

// reconcile computes the bindings that the Namespaces' labels ask for, stores them,
// and puts them in force. It returns after how long to reconcile again.
func (b *binder) reconcile(ctx context.Context) (again time.Duration, err error) {
	if b.CheckFormat != nil {
		if err := b.CheckFormat(); err != nil {
			return 0, err
		}
	}
	leads := b.active.Load()
	if err := b.store.load(ctx); err != nil {
		return 0, err
	}
	if !leads {
		_, results := computeBindings(b.listNamespaces(), b.store.inForce, b.HasRecords, b.OldestRecord, nil, b.clock.Now())
		b.setState(newState(b.store.inForce, results))
		b.store.loaded = false // the active server writes it
		return standbyInterval, nil
	}
	all := b.listNamespaces()
	if !b.reconciledActive.Load() {
		if err := b.confirmWatch(ctx, all); err != nil {
			return 0, err
		}
	}
	next, results, open := b.planAndRevoke(all)
	if len(open) > 0 {
		if err := b.confirm(ctx, open); err != nil {
			return 0, err
		}
		// More are unconfirmed only if records were created or deleted meanwhile, or
		// if there were too many for one round.
		if next, results, open = b.planAndRevoke(all); len(open) > 0 {
			return pendingInterval, nil
		}
	}
	// Written first: what is created under a binding must find it in force
	// after a crash.
	if !maps.EqualFunc(next, b.store.inForce, binding.equal) {
		if err := b.store.save(ctx, next); err != nil {
			return 0, err
		}
	}
	was, is := b.notified, newState(next, results)
	b.setState(is)
	b.resetConfirmed(results)
	b.reconciledActive.Store(true)
	b.broadcast()
	b.recordEvents(ctx, was, is)
	again = resyncInterval
	gone := 0
	for _, r := range results {
		if r.outcome == stillBound || r.outcome == abandoned {
			again = pendingInterval
		}
		if r.outcome == abandoned {
			gone++
		}
	}
	abandonedNamespaces.Set(float64(gone))
	return again, nil
}

// setState puts a state in force, and calls OnChange and OnHiddenChange.
func (b *binder) setState(is *state) {
	b.mu.Lock()
	b.state.Store(is)
	b.mu.Unlock()
	b.notifyHidden(is)
	if namespaces, projects := differences(b.notified, is); len(namespaces)+len(projects) > 0 {
		b.OnChange(namespaces, projects)
	}
	b.notified = is
	b.synced.Store(true)
	b.broadcast()
}

// notifyHidden calls OnHiddenChange if the set of hidden namespaces has changed.
func (b *binder) notifyHidden(is *state) {
	changed := !maps.Equal(b.notifiedHidden, is.hidden)
	b.notifiedHidden = is.hidden
	if changed && b.OnHiddenChange != nil {
		b.OnHiddenChange()
	}
}

// broadcast wakes all callers that wait for a change.
func (n *Namespaces) broadcast() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.stateChanged)
	n.stateChanged = make(chan struct{})
}

// planAndRevoke computes the next bindings, and ends those that are not among them:
// from here on no object can be created under them, and records that are to be
// hidden are. It changes nothing, and returns open, if results are to be confirmed
// first.
func (b *binder) planAndRevoke(all []namespace) (next map[string]binding, results map[string]result, open []result) {
	origins := b.Origins()
	b.mu.Lock()
	next, results = computeBindings(all, b.store.inForce, func(name string) bool { return b.creating[name] > 0 || b.HasRecords(name) }, b.OldestRecord, origins, b.clock.Now())
	if open = b.unconfirmed(results); len(open) > 0 {
		b.mu.Unlock()
		return nil, nil, open
	}
	was, will := b.state.Load(), newState(next, results)
	left := maps.Clone(was.bindings)
	maps.DeleteFunc(left, func(name string, old binding) bool {
		n, stays := will.bindings[name]
		return !stays || n.project != old.project || old.uid != "" && n.uid != old.uid
	})
	is := newState(left, was.results)
	maps.Copy(is.hidden, was.hidden)
	maps.Copy(is.hidden, will.hidden)
	ended := len(left) < len(was.bindings) || len(is.hidden) > len(was.hidden)
	if ended {
		b.state.Store(is)
	}
	b.mu.Unlock()
	if ended {
		b.notifyHidden(is)
	}
	return next, results, nil
}

// differences returns the namespaces whose project differs, and the projects whose
// namespace differs.
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
