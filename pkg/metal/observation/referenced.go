// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// slowReferenceShare is the part of the budget that sweeps may spend on networks and
// addresses whose last observation was slow.
const slowReferenceShare = 0.2

// referencedObservations remembers how sweeps observed the networks and addresses that records
// reference.
type referencedObservations struct {
	mu sync.Mutex
	// lastAttempt is when each was last observed, whatever came of it.
	lastAttempt map[string]time.Time
	// slow are those whose last observation waited for longer than the refresh timeout, and
	// retrySlowAt is when one of them may be observed next.
	slow        map[string]bool
	retrySlowAt time.Time
}

// referencesPosition is up to where it is known what records reference.
type referencesPosition struct {
	// mu is held while changes are taken over, so that they are in order.
	mu       sync.Mutex
	position uint64
	// completeAt is when the whole set was last taken over.
	completeAt time.Time
}

// updateReferenced takes over what records reference: what changed, and now and then everything.
func (o *Observer) updateReferenced() {
	p := &o.references
	p.mu.Lock()
	defer p.mu.Unlock()
	now, since := o.opts.Clock.Now(), p.position
	if now.Sub(p.completeAt) >= referencesInterval {
		since = 0
	}
	changes := o.opts.Referenced(since)
	p.position = changes.Position
	if changes.Complete {
		p.completeAt = now
	}
	if changes.Complete || len(changes.Added) > 0 || len(changes.Removed) > 0 {
		o.facts.setReferenced(changes, now)
	}
}

// observeReferenced observes networks and IPs by id, those first that were not
// observed for longest, as far as the allowance goes.
func (o *Observer) observeReferenced(ctx context.Context, a *costTally, most time.Duration) {
	refs, due := o.dueReferences()
	_ = o.observeInBatches(ctx, &fixedFunds{most, a}, due, []callKind{callNetworkGet}, func(ctx context.Context, a *costTally, key string) (err error) {
		began := o.opts.Clock.Now()
		ctx, answered := metal.WithAnswerTime(ctx)
		if ref := refs[key]; ref.Kind == metal.KindNetwork {
			err = o.observeNetwork(ctx, a, ref.ID)
		} else {
			err = o.observeIP(ctx, a, ref.ID)
		}
		o.recordReferenceAttempt(key, began, answered.Total())
		return err
	})
}

// dueReferences returns the networks and addresses to observe, in order. Of those that
// were slow it is one at most.
func (o *Observer) dueReferences() (refs map[string]metal.Ref, due []string) {
	refs, last := map[string]metal.Ref{}, map[string]time.Time{}
	o.facts.mu.RLock()
	for ref := range o.facts.referenced {
		key := string(ref.Kind) + " " + ref.ID
		switch ref.Kind {
		case metal.KindNetwork:
			refs[key], last[key] = ref, observedAt(&o.facts.networks, ref.ID)
		case metal.KindIP:
			refs[key], last[key] = ref, observedAt(&o.facts.ips, ref.ID)
		}
	}
	o.facts.mu.RUnlock()

	e := &o.referenced
	e.mu.Lock()
	defer e.mu.Unlock()
	for key, tried := range e.lastAttempt {
		switch observed, named := last[key]; {
		case !named:
			delete(e.lastAttempt, key)
			delete(e.slow, key)
		case observed.After(tried):
			// A read has observed it since.
			delete(e.slow, key)
		default:
			last[key] = tried
		}
	}
	mayBeLate := !o.opts.Clock.Now().Before(e.retrySlowAt)
	for _, key := range slices.SortedFunc(maps.Keys(refs), func(a, b string) int {
		return cmp.Or(last[a].Compare(last[b]), cmp.Compare(a, b))
	}) {
		if e.slow[key] {
			if !mayBeLate {
				continue
			}
			mayBeLate = false
		}
		due = append(due, key)
	}
	return refs, due
}

// recordReferenceAttempt records an observation of a network or an address, and for
// how long it waited.
func (o *Observer) recordReferenceAttempt(key string, began time.Time, waited time.Duration) {
	e := &o.referenced
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lastAttempt[key] = began
	switch {
	case waited > o.opts.RefreshTimeout:
		e.slow[key] = true
		e.retrySlowAt = o.opts.Clock.Now().Add(scale(waited, 1/(o.budget.part()*slowReferenceShare)))
	case e.slow[key]:
		// What delayed one of them may have delayed the others.
		clear(e.slow)
		e.retrySlowAt = time.Time{}
	}
}
