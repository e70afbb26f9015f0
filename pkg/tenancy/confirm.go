// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
)

// maxConfirmationsPerRound is how many Namespaces are read in one round, one after
// the other. The next round, a second later, continues with the others.
const maxConfirmationsPerRound = 100

// listTimeout is how long the live list of Namespaces may take.
const listTimeout = 10 * time.Second

// confirmation says that a Namespace is gone, and which one has its name now.
type confirmation struct {
	formerUID types.UID
	now       namespace // Without its resource version; without a uid there is none.
}

func (r result) confirmation() confirmation {
	return confirmation{r.formerUID, withoutVersion(r.namespace)}
}

// withoutVersion returns what a live Namespace and a cached one are compared by.
func withoutVersion(ns namespace) namespace {
	ns.resourceVersion, ns.created = "", time.Time{}
	return ns
}

// unconfirmed returns the results that say that a Namespace is gone, unless a live
// read has confirmed them or they are in force already. The watch may be stale
// after a change of the active server, or after an interruption: it would hide
// records of a Namespace that exists, or hand them to one that is gone.
func (b *binder) unconfirmed(results map[string]result) []result {
	var open []result
	for _, name := range slices.Sorted(maps.Keys(results)) {
		r := results[name]
		if r.formerUID == "" || r.outcome == abandoned && b.confirmedGone[name] == r.formerUID || b.confirmed[name] == r.confirmation() {
			continue
		}
		open = append(open, r)
	}
	return open
}

// confirm reads the Namespaces of results. As soon as a read fails, or differs from
// the watch, it returns an error and the other results stay unconfirmed.
func (b *binder) confirm(ctx context.Context, open []result) error {
	for _, r := range open[:min(len(open), maxConfirmationsPerRound)] {
		if err := b.confirmOne(ctx, r); err != nil {
			return err
		}
		b.confirmed[r.name] = r.confirmation()
	}
	return nil
}

func (b *binder) confirmOne(ctx context.Context, r result) error {
	ctx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	now := namespace{name: r.name}
	live, err := b.GetNamespace(ctx, r.name)
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return fmt.Errorf("failed to confirm that namespace %q was deleted (uid %s): %w", r.name, r.formerUID, err)
	default:
		now = withoutVersion(namespaceOf(live))
	}
	if seen := withoutVersion(r.namespace); now != seen {
		return fmt.Errorf("the watch of Namespaces is stale: namespace %q is %s, but cached as %s", r.name, now.describe(), seen.describe())
	}
	return nil
}

// confirmWatch compares the watch with a live list, before the first decision of a
// server that became active: a stale watch may still show a deleted Namespace, and
// its records would be shown in the one that has its name now.
func (b *binder) confirmWatch(ctx context.Context, cached []namespace) error {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	live, err := b.listLiveNamespaces(ctx)
	if err != nil {
		return fmt.Errorf("failed to list Namespaces: %w", err)
	}
	current, seen := byName(live), byName(cached)
	for _, name := range slices.Sorted(maps.Keys(b.store.inForce)) {
		if now, was := current[name], seen[name]; now.uid != was.uid {
			return fmt.Errorf("the watch of Namespaces is stale: namespace %q is %s, but cached as %s", name, now.describe(), was.describe())
		}
	}
	return nil
}

func byName(all []namespace) map[string]namespace {
	m := make(map[string]namespace, len(all))
	for _, ns := range all {
		m[ns.name] = ns
	}
	return m
}

// describe returns the state of a Namespace as an error message shows it.
func (ns namespace) describe() string {
	if ns.uid == "" {
		return "gone"
	}
	return fmt.Sprintf("uid %s, project label %q, being deleted: %t", ns.uid, ns.project, ns.deleting)
}

// resetConfirmed keeps the confirmations of results that are in force now, and
// drops all others.
func (b *binder) resetConfirmed(results map[string]result) {
	b.confirmedGone = map[string]types.UID{}
	for name, r := range results {
		if r.outcome == abandoned {
			b.confirmedGone[name] = r.formerUID
		}
	}
	clear(b.confirmed)
}
