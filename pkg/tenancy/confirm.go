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

// maxConfirmationsPerRound is how many Namespaces are looked at in one round, one after the
// other. The next round, a second later, goes on with the others.
const maxConfirmationsPerRound = 100

// confirmation is that a Namespace is gone, and what has its name now.
type confirmation struct {
	formerUID types.UID
	now       namespace // Without its version; without a uid there is none.
}

func (j result) confirmation() confirmation {
	return confirmation{j.formerUID, withoutVersion(j.namespace)}
}

// withoutVersion is what a look at a Namespace is compared by.
func withoutVersion(ns namespace) namespace {
	ns.resourceVersion, ns.created = "", time.Time{}
	return ns
}

// unconfirmed returns the judgements that say that a Namespace is gone, as far as
// neither a look has confirmed them nor are they in force. The watch may be behind
// after a change of the active server, or after it was interrupted, and would hide
// records of a Namespace that is there, or give them to one that is gone.
func (k *binder) unconfirmed(judged map[string]result) []result {
	var open []result
	for _, name := range slices.Sorted(maps.Keys(judged)) {
		j := judged[name]
		if j.formerUID == "" || j.outcome == abandoned && k.confirmedGone[name] == j.formerUID || k.confirmed[name] == j.confirmation() {
			continue
		}
		open = append(open, j)
	}
	return open
}

// confirm looks at the Namespaces of judgements. It returns an error, and the
// judgements stay open, as soon as a look fails or shows something else than the
// watch.
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

// describe says in a few words what counts of a Namespace.
func (ns namespace) describe() string {
	if ns.uid == "" {
		return "gone"
	}
	return fmt.Sprintf("uid %s, project label %q, being deleted: %t", ns.uid, ns.project, ns.deleting)
}

// resetConfirmed forgets what was to be confirmed for what is in force now.
func (k *binder) resetConfirmed(judged map[string]result) {
	k.confirmedGone = map[string]types.UID{}
	for name, j := range judged {
		if j.outcome == abandoned {
			k.confirmedGone[name] = j.formerUID
		}
	}
	clear(k.confirmed)
}
