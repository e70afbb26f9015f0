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

// Refresh returns nil when everything that want covers was looked at by looks
// that began after the call, and Changed was told of all that they saw.
// Otherwise it returns an *Unconfirmed: after the read limit, or at once if it
// can be foreseen that a look will not be over within it, be it for want of
// budget or because the metal-api takes longer. Looks that are under way then go
// on.
func (o *Observer) Refresh(ctx context.Context, want metal.Scope) error {
	key := scopeKey(want)
	if key == "" {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return o.stale(want, err)
	}
	if err := o.breaker.lastError(); err != nil {
		o.probeIfAllowed()
		return o.stale(want, err)
	}
	if o.slowBackoff.blocked(key) {
		return o.stale(want, metal.ErrTimeout)
	}
	until := o.opts.Clock.Now().Add(o.opts.RefreshTimeout)
	l, cause := o.refreshes.join(key, want, until)
	if cause == nil {
		cause = o.refreshes.wait(ctx, key, l, until)
	}
	if cause == nil {
		return nil
	}
	return o.stale(want, cause)
}

func (o *Observer) stale(want metal.Scope, cause error) error {
	o.metrics.stale.WithLabelValues(staleCause(cause)).Inc()
	return &metal.StaleError{Since: o.oldestObservation(want), Cause: cause}
}

// oldestObservation is when the oldest fact of want was last confirmed.
func (o *Observer) oldestObservation(want metal.Scope) (oldest time.Time) {
	all := o.withKnownMachines(want)
	if want.Fleet || want.Project != "" && len(all.Machines) == 0 {
		return o.lastSweepStart()
	}
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	first := true
	older := func(looked time.Time) {
		if first || looked.Before(oldest) {
			oldest, first = looked, false
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
	return oldest
}

func observedAt[T any](s *cache[T], id string) time.Time {
	if h := s.entries[id]; h != nil {
		return h.observedAt
	}
	return time.Time{}
}

// withKnownMachines adds to want's machines those that are known of its scope.
func (o *Observer) withKnownMachines(want metal.Scope) metal.Scope {
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	ids := map[string]struct{}{}
	for _, id := range want.Machines {
		ids[id] = struct{}{}
	}
	if want.Project != "" {
		maps.Copy(ids, o.facts.byProject[want.Project])
	}
	if want.Fleet {
		for id, h := range o.facts.machines.entries {
			if o.facts.machineNeedsVerification(id, h.fact) {
				ids[id] = struct{}{}
			}
		}
	}
	want.Machines = slices.Sorted(maps.Keys(ids))
	return want
}

// observeScope makes the look of a scope.
func (o *Observer) observeScope(ctx context.Context, a *costTally, want metal.Scope, p plan) error {
	return errors.Join(
		o.execute(ctx, a, p),
		each(ctx, want.Networks, o.opts.MaxConcurrent, func(ctx context.Context, id string) error { return o.observeNetwork(ctx, a, id) }),
		each(ctx, want.IPs, o.opts.MaxConcurrent, func(ctx context.Context, id string) error { return o.observeIP(ctx, a, id) }),
	)
}

// planScope plans the look of a scope; cost and takes of the plan include the
// networks and addresses.
func (o *Observer) planScope(want metal.Scope, m limits) (metal.Scope, plan) {
	want = o.withKnownMachines(want)
	var cost, takes time.Duration
	parallel := max(1, o.getLimiter.limit())
	for _, k := range []struct {
		call callKind
		n    int
	}{{callNetworkGet, len(want.Networks)}, {callIPGet, len(want.IPs)}} {
		if k.n > 0 {
			cost += time.Duration(k.n) * o.costs.cost(k.call, 1)
			takes += time.Duration((k.n+parallel-1)/parallel) * o.costs.latency(k.call, 1)
		}
	}
	if len(want.Machines) == 0 && want.Project == "" && !want.Fleet {
		return want, plan{cost: cost, duration: takes}
	}
	m.duration, m.funds = m.duration-takes, m.funds-cost
	p := o.planMachines(want, m)
	p.cost += cost
	p.duration += takes
	return want, p
}

// scopeKey is the scope of a want: reads of one scope share looks.
func scopeKey(w metal.Scope) string {
	switch {
	case w.Fleet:
		return "fleet"
	case w.Project != "":
		return "project " + w.Project
	}
	var b strings.Builder
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

// unionScopes is the union of two wants of one scope.
func unionScopes(w, v metal.Scope) metal.Scope {
	w.Machines = union(w.Machines, v.Machines)
	w.Networks = union(w.Networks, v.Networks)
	w.IPs = union(w.IPs, v.IPs)
	return w
}

// dedupScope is the want without duplicates.
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
