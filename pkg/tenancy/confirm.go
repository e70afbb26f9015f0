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

func (j result) confirmation() confirmation {
	return confirmation{j.formerUID, withoutVersion(j.namespace)}
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
func (k *binder) unconfirmed(results map[string]result) []result {
	var open []result
	for _, name := range slices.Sorted(maps.Keys(results)) {
		j := results[name]
		if j.formerUID == "" || j.outcome == abandoned && k.confirmedGone[name] == j.formerUID || k.confirmed[name] == j.confirmation() {
			continue
		}
		open = append(open, j)
	}
	return open
}

// confirm reads the Namespaces of results. As soon as a read fails, or differs from
// the watch, it returns an error and the other results stay unconfirmed.
func (k *binder) confirm(ctx context.Context, open []result) error {
	for _, j := range open[:min(len(open), maxConfirmationsPerRound)] {
		if err := k.confirmOne(ctx, j); err != nil {
			return err
		}
		k.confirmed[j.name] = j.confirmation()
	}
	return nil
}

func (k *binder) confirmOne(ctx context.Context, j result) error {
	ctx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	now := namespace{name: j.name}
	live, err := k.GetNamespace(ctx, j.name)
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return fmt.Errorf("failed to confirm that namespace %q was deleted (uid %s): %w", j.name, j.formerUID, err)
	default:
		now = withoutVersion(namespaceOf(live))
	}
	if seen := withoutVersion(j.namespace); now != seen {
		return fmt.Errorf("the watch of Namespaces is stale: namespace %q is %s, but cached as %s", j.name, now.describe(), seen.describe())
	}
	return nil
}

// confirmWatch compares the watch with a live list, before the first decision of a
// server that became active: a stale watch may still show a deleted Namespace, and
// its records would be shown in the one that has its name now.
func (k *binder) confirmWatch(ctx context.Context, cached []namespace) error {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	live, err := k.listLiveNamespaces(ctx)
	if err != nil {
		return fmt.Errorf("failed to list Namespaces: %w", err)
	}
	current, seen := byName(live), byName(cached)
	for _, name := range slices.Sorted(maps.Keys(k.store.inForce)) {
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
func (k *binder) resetConfirmed(results map[string]result) {
	k.confirmedGone = map[string]types.UID{}
	for name, j := range results {
		if j.outcome == abandoned {
			k.confirmedGone[name] = j.formerUID
		}
	}
	clear(k.confirmed)
}
