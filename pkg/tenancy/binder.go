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

func newBinder(n *Namespaces, k Config, list func() []namespace, listLive func(ctx context.Context) ([]namespace, error)) *binder {
	return &binder{
		Namespaces: n, Config: k, listNamespaces: list, listLiveNamespaces: listLive, store: bindingStore{ledger: k.Ledger}, notified: newState(nil, nil),
		lastEvents: map[string]lastEvent{}, confirmed: map[string]confirmation{},
	}
}

// reconcile computes the bindings that the Namespaces' labels ask for, stores them,
// and puts them in force. It returns after how long to reconcile again.
func (k *binder) reconcile(ctx context.Context) (again time.Duration, err error) {
	leads := k.active.Load()
	if err := k.store.load(ctx); err != nil {
		return 0, err
	}
	if !leads {
		_, results := computeBindings(k.listNamespaces(), k.store.inForce, k.HasRecords, k.OldestRecord, nil, k.clock.Now())
		k.setState(newState(k.store.inForce, results))
		k.store.loaded = false // the active server writes it
		return standbyInterval, nil
	}
	all := k.listNamespaces()
	if !k.reconciledActive.Load() {
		if err := k.confirmWatch(ctx, all); err != nil {
			return 0, err
		}
	}
	next, results, open := k.planAndRevoke(all)
	if len(open) > 0 {
		if err := k.confirm(ctx, open); err != nil {
			return 0, err
		}
		// More are unconfirmed only if records were created or deleted meanwhile, or
		// if there were too many for one round.
		if next, results, open = k.planAndRevoke(all); len(open) > 0 {
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
	was, is := k.notified, newState(next, results)
	k.setState(is)
	k.resetConfirmed(results)
	k.reconciledActive.Store(true)
	k.broadcast()
	k.recordEvents(ctx, was, is)
	again = resyncInterval
	gone := 0
	for _, j := range results {
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

// setState puts a state in force, and calls OnChange and OnHiddenChange.
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

// notifyHidden calls OnHiddenChange if the set of hidden namespaces has changed.
func (k *binder) notifyHidden(is *state) {
	changed := !maps.Equal(k.notifiedHidden, is.hidden)
	k.notifiedHidden = is.hidden
	if changed && k.OnHiddenChange != nil {
		k.OnHiddenChange()
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
func (k *binder) planAndRevoke(all []namespace) (next map[string]binding, results map[string]result, open []result) {
	origins := k.Origins()
	k.mu.Lock()
	next, results = computeBindings(all, k.store.inForce, func(name string) bool { return k.creating[name] > 0 || k.HasRecords(name) }, k.OldestRecord, origins, k.clock.Now())
	if open = k.unconfirmed(results); len(open) > 0 {
		k.mu.Unlock()
		return nil, nil, open
	}
	was, will := k.state.Load(), newState(next, results)
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
