// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// Refresh returns nil when everything in the scope was observed by observations
// that began after the call, and Changed was called with all that they have shown.
// Otherwise it returns an *metal.StaleError: after the refresh timeout, or at once if
// it can be foreseen that an observation will not be over within it, or if there are no
// funds for one, and will be none within the time that it takes. Observations that are
// in flight then go on. Of Capacities it returns nil, too, if they cannot be observed for these
// reasons, but were by a list that began less than two sweep intervals ago.
func (o *Observer) Refresh(ctx context.Context, scope metal.Scope) error {
	return o.refresh(ctx, scope, false)
}

// refresh is Refresh, with the observation that is soonest done, whatever it costs, if
// so requested.
func (o *Observer) refresh(ctx context.Context, scope metal.Scope, anyCost bool) error {
	key := scopeKey(scope)
	if key == "" {
		return nil
	}
	o.interest.record(scope, o.opts.Clock.Now())
	if err := ctx.Err(); err != nil {
		return o.stale(scope, err)
	}
	if err := o.breaker.lastError(); err != nil {
		o.probeIfAllowed()
		return o.stale(scope, err)
	}
	if o.slowBackoff.blocked(key) {
		return o.stale(scope, metal.ErrTimeout)
	}
	deadline := o.opts.Clock.Now().Add(o.opts.RefreshTimeout)
	sr, cause := o.refreshes.join(key, scope, deadline, anyCost)
	if cause == nil {
		cause = o.refreshes.wait(ctx, key, sr, deadline)
	}
	if cause == nil {
		return nil
	}
	return o.stale(scope, cause)
}

func (o *Observer) stale(scope metal.Scope, cause error) error {
	if scope.Capacities {
		if cause = o.capacitiesCause(cause); cause == nil {
			return nil
		}
	}
	o.metrics.stale.WithLabelValues(staleCause(cause)).Inc()
	return &metal.StaleError{Since: o.oldestObservation(scope), Cause: cause}
}

// oldestObservation is when the oldest fact of a scope was last observed.
func (o *Observer) oldestObservation(scope metal.Scope) (oldest time.Time) {
	switch {
	case scope.Capacities:
		return o.CapacityObserved()
	case scope.Fleet:
		return o.lastSweepStart()
	}
	all := o.withKnownMachines(scope)
	if scope.Project != "" && len(all.Machines) == 0 {
		return o.lastSweepStart()
	}
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	first := true
	older := func(observed time.Time) {
		if first || observed.Before(oldest) {
			oldest, first = observed, false
		}
	}
	for _, id := range all.Machines {
		older(observedAt(&o.facts.machines, id))
	}
	for _, id := range all.Networks {
		older(observedAt(&o.facts.networks, id))
	}
	for _, id := range all.IPs {
		older(observedAt(&o.facts.ips, id))
	}
	n := &o.facts.networking
	if scope.ProjectNetworks != "" {
		older(n.networks.observed(scope.ProjectNetworks))
	}
	if scope.ProjectIPs != "" {
		older(n.ips.observed(scope.ProjectIPs))
	}
	if scope.AllNetworks {
		at := n.networks.allAt
		if n.listError != nil {
			at = o.oldestNetworks(&n.coverages, n.networks.observed)
		}
		older(at)
	}
	if scope.AllIPs {
		older(n.ips.allAt)
	}
	return oldest
}

func observedAt[T any](s *cache[T], id string) time.Time {
	if h := s.entries[id]; h != nil {
		return h.observedAt
	}
	return time.Time{}
}

// withKnownMachines adds to the scope's machines those that are known to be in it.
func (o *Observer) withKnownMachines(scope metal.Scope) metal.Scope {
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	ids := map[string]struct{}{}
	for _, id := range scope.Machines {
		ids[id] = struct{}{}
	}
	if scope.Project != "" {
		maps.Copy(ids, o.facts.byProject[scope.Project])
	}
	if scope.Fleet {
		for id, h := range o.facts.machines.entries {
			if o.facts.machineNeedsVerification(id, h.fact) {
				ids[id] = struct{}{}
			}
		}
	}
	scope.Machines = slices.Sorted(maps.Keys(ids))
	return scope
}

// observeScope makes the observation of a scope.
func (o *Observer) observeScope(ctx context.Context, a *costTally, scope metal.Scope, p plan) error {
	return errors.Join(
		o.execute(ctx, a, p),
		forEach(ctx, scope.Networks, o.opts.MaxConcurrent, func(ctx context.Context, id string) error { return o.observeNetwork(ctx, a, id) }),
		forEach(ctx, scope.IPs, o.opts.MaxConcurrent, func(ctx context.Context, id string) error { return o.observeIP(ctx, a, id) }),
	)
}

// planScope plans the observation of a scope; cost and duration of the plan include the
// networks and addresses.
func (o *Observer) planScope(scope metal.Scope, m limits) (metal.Scope, plan) {
	scope = o.withKnownMachines(scope)
	scope, networking := o.planNetworking(scope, m)
	cost, duration := networking.cost, networking.duration
	parallel := max(1, o.getLimiter.limit())
	for _, k := range []struct {
		call callKind
		n    int
	}{{callNetworkGet, len(scope.Networks)}, {callIPGet, len(scope.IPs)}} {
		if k.n > 0 {
			cost += time.Duration(k.n) * o.costs.cost(k.call, 1)
			duration += time.Duration((k.n+parallel-1)/parallel) * o.costs.latency(k.call, 1)
		}
	}
	if len(scope.Machines) == 0 && scope.Project == "" && !scope.Fleet && !scope.Capacities {
		return scope, plan{cost: cost, duration: duration, networking: networking}
	}
	m.duration, m.funds = m.duration-duration, m.funds-cost
	p := o.planMachines(scope, m)
	p.cost += cost
	p.duration += duration
	p.networking = networking
	return scope, p
}

// scopeKey identifies a scope: reads of the same scope share observations.
func scopeKey(w metal.Scope) string {
	var b strings.Builder
	for _, part := range []struct {
		covers bool
		key    string
	}{
		{w.Capacities, "capacities "},
		{w.Fleet, "fleet"},
		{w.Project != "" && !w.Fleet, "project " + w.Project},
		{w.AllNetworks, " all networks"},
		{w.ProjectNetworks != "", " networks of " + w.ProjectNetworks},
		{w.AllIPs, " all addresses"},
		{w.ProjectIPs != "", " addresses of " + w.ProjectIPs},
	} {
		if part.covers {
			b.WriteString(part.key)
		}
	}
	if b.Len() > 0 {
		return b.String()
	}
	for _, ids := range [][]string{w.Machines, w.Networks, w.IPs} {
		for _, id := range slices.Sorted(slices.Values(ids)) {
			b.WriteString(id)
			b.WriteByte(' ')
		}
		b.WriteByte('/')
	}
	if b.Len() == 3 {
		return ""
	}
	return b.String()
}

// unionScopes is the union of what two scopes of one key name.
func unionScopes(w, v metal.Scope) metal.Scope {
	w.Machines = union(w.Machines, v.Machines)
	w.Networks = union(w.Networks, v.Networks)
	w.IPs = union(w.IPs, v.IPs)
	return w
}

// dedupScope is the scope without duplicates.
func dedupScope(w metal.Scope) metal.Scope {
	for _, ids := range []*[]string{&w.Machines, &w.Networks, &w.IPs} {
		*ids = slices.Compact(slices.Sorted(slices.Values(*ids)))
	}
	return w
}

func union(a, b []string) []string {
	if len(b) == 0 || slices.Equal(a, b) {
		return a
	}
	return slices.Compact(slices.Sorted(func(yield func(string) bool) {
		for _, l := range [][]string{a, b} {
			for _, s := range l {
				if !yield(s) {
					return
				}
			}
		}
	}))
}
