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

// Confirm returns nil when everything that want covers was looked at by looks
// that began after the call, and Changed was told of all that they saw.
// Otherwise it returns an *Unconfirmed: after the read limit, or at once if it
// can be foreseen that a look will not be over within it, be it for want of
// budget or because the metal-api takes longer. Looks that are under way then go
// on.
func (o *Observer) Confirm(ctx context.Context, want metal.Want) error {
	key := scopeKey(want)
	if key == "" {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return o.unconfirmed(want, err)
	}
	if err := o.away.why(); err != nil {
		o.probeAway()
		return o.unconfirmed(want, err)
	}
	if o.late.blocked(key) {
		return o.unconfirmed(want, metal.ErrTooSlow)
	}
	until := o.opts.Clock.Now().Add(o.opts.ReadLimit)
	l, cause := o.shared.join(key, want, until)
	if cause == nil {
		cause = o.shared.await(ctx, key, l, until)
	}
	if cause == nil {
		return nil
	}
	return o.unconfirmed(want, cause)
}

func (o *Observer) unconfirmed(want metal.Want, cause error) error {
	o.metrics.unconfirmed.WithLabelValues(unconfirmedBy(cause)).Inc()
	return &metal.Unconfirmed{Since: o.since(want), Cause: cause}
}

// since is when the oldest fact of want was last confirmed.
func (o *Observer) since(want metal.Want) (oldest time.Time) {
	all := o.targets(want)
	if want.Fleet || want.Project != "" && len(all.Machines) == 0 {
		return o.lastSweep()
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
		older(lookedAt(&o.facts.machines, id))
	}
	for _, id := range all.Networks {
		older(lookedAt(&o.facts.networks, id))
	}
	for _, id := range all.IPs {
		older(lookedAt(&o.facts.ips, id))
	}
	return oldest
}

func lookedAt[T any](s *shelf[T], id string) time.Time {
	if h := s.held[id]; h != nil {
		return h.looked
	}
	return time.Time{}
}

// targets adds to want's machines those that are known of its scope.
func (o *Observer) targets(want metal.Want) metal.Want {
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
		for id, h := range o.facts.machines.held {
			if o.facts.machineGuarded(id, h.fact) {
				ids[id] = struct{}{}
			}
		}
	}
	want.Machines = slices.Sorted(maps.Keys(ids))
	return want
}

// lookFor makes the look of a scope.
func (o *Observer) lookFor(ctx context.Context, a *account, want metal.Want, p plan) error {
	return errors.Join(
		o.carryOut(ctx, a, p),
		each(ctx, want.Networks, o.opts.Parallel, func(ctx context.Context, id string) error { return o.lookAtNetwork(ctx, a, id) }),
		each(ctx, want.IPs, o.opts.Parallel, func(ctx context.Context, id string) error { return o.lookAtIP(ctx, a, id) }),
	)
}

// priceOf plans the look of a scope; cost and takes of the plan include the
// networks and addresses.
func (o *Observer) priceOf(want metal.Want, m means) (metal.Want, plan) {
	want = o.targets(want)
	var cost, takes time.Duration
	parallel := max(1, o.narrow.limit())
	for _, k := range []struct {
		call call
		n    int
	}{{callNetworkGet, len(want.Networks)}, {callIPGet, len(want.IPs)}} {
		if k.n > 0 {
			cost += time.Duration(k.n) * o.costs.of(k.call, 1)
			takes += time.Duration((k.n+parallel-1)/parallel) * o.costs.takes(k.call, 1)
		}
	}
	if len(want.Machines) == 0 && want.Project == "" && !want.Fleet {
		return want, plan{cost: cost, takes: takes}
	}
	m.within, m.spare = m.within-takes, m.spare-cost
	p := o.planFor(want, m)
	p.cost += cost
	p.takes += takes
	return want, p
}

// scopeKey is the scope of a want: reads of one scope share looks.
func scopeKey(w metal.Want) string {
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

// unionOf is the union of two wants of one scope.
func unionOf(w, v metal.Want) metal.Want {
	w.Machines = union(w.Machines, v.Machines)
	w.Networks = union(w.Networks, v.Networks)
	w.IPs = union(w.IPs, v.IPs)
	return w
}

// distinct is the want without duplicates.
func distinct(w metal.Want) metal.Want {
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
