// SPDX-License-Identifier: Apache-2.0

package visibility

import (
	"cmp"
	"context"
	"slices"
	"time"

	"k8s.io/client-go/util/workqueue"
)

const (
	// refreshInterval is how often stale decisions of users with watches are
	// refreshed.
	refreshInterval = decisionTTL
	// maxRefreshes is how many decisions are refreshed per interval, for all users:
	// 50 per second. If there are more, the oldest come first; and before them,
	// what is visible.
	maxRefreshes = 250
	// refreshWorkers is how many are refreshed concurrently.
	refreshWorkers = 8
	// failureGracePeriod is how long watches continue while the authorizer makes no
	// decision.
	failureGracePeriod = time.Minute
)

// staleDecision is a decision that is to be refreshed.
type staleDecision struct {
	entry     *entry
	namespace string
	decision
}

// Run refreshes the decisions that watches depend on, until ctx ends.
func (r *Resolver) Run(ctx context.Context) {
	tick := r.clock.NewTicker(refreshInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C():
			r.refresh(ctx)
		}
	}
}

func (r *Resolver) refresh(ctx context.Context) {
	stale := r.staleDecisions()
	workqueue.ParallelizeUntil(ctx, refreshWorkers, len(stale), func(i int) {
		stale[i].entry.refresh(ctx, stale[i].namespace)
	})
	r.evictExpired()
}

// staleDecisions returns the decisions to refresh in this interval.
func (r *Resolver) staleDecisions() []staleDecision {
	r.mu.Lock()
	entries := make([]*entry, 0, len(r.entries))
	for _, e := range r.entries {
		entries = append(entries, e)
	}
	r.mu.Unlock()
	var stale []staleDecision
	for _, e := range entries {
		stale = e.appendStale(stale)
	}
	slices.SortFunc(stale, func(x, y staleDecision) int {
		if x.isUrgent() != y.isUrgent() {
			if x.isUrgent() {
				return -1
			}
			return 1
		}
		return cmp.Or(x.at.Compare(y.at), cmp.Compare(x.namespace, y.namespace))
	})
	return stale[:min(len(stale), maxRefreshes)]
}

// isUrgent reports whether something may be visible that should not be any more.
func (d staleDecision) isUrgent() bool { return d.allowed || d.namespace == allNamespaces }

func (e *entry) appendStale(stale []staleDecision) []staleDecision {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if len(e.watches) == 0 {
		return stale
	}
	for namespace, d := range e.decisions {
		if e.isStale(namespace, d, 0) {
			stale = append(stale, staleDecision{e, namespace, d})
		}
	}
	return stale
}

// refresh asks the authorizer again, if the decision is still stale.
func (e *entry) refresh(ctx context.Context, namespace string) {
	if !e.lock(ctx) {
		return
	}
	defer e.unlock()
	e.mu.RLock()
	d, known := e.decisions[namespace]
	stale := known && len(e.watches) > 0 && e.isStale(namespace, d, 0)
	e.mu.RUnlock()
	if !stale {
		return
	}
	if _, err := e.authorize(ctx, namespace); err != nil && ctx.Err() == nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.resolver.clock.Since(e.failingSince) >= failureGracePeriod {
			e.endWatches(authorizerUnavailable(ctx, e.request, err))
		}
	}
}
