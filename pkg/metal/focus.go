package metal

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// focusLoop looks closely at what is moving, round by round.
func (o *Observer) focusLoop(ctx context.Context) {
	ticker := o.opts.Clock.NewTicker(o.opts.FocusInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
		o.beats()
		o.refreshNamed()
		if o.Swept() && !o.away.gone() {
			o.focus(ctx)
		}
	}
}

func (o *Observer) beats() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.beat = o.opts.Clock.Now()
}

// focus looks at the machines that are due, as far as the budget goes beyond
// what it leaves to reads; those that are left out come first in the next
// round.
func (o *Observer) focus(ctx context.Context) {
	due, doubtful := o.due()
	most := o.budget.most()
	keep := min(focusReserve, most/4)
	if len(due) > 0 {
		o.focusOn(ctx, due, keep)
	}
	for _, id := range doubtful {
		cost := o.costs.of(callGet, 1) + o.costs.of(callFind, 1)
		if ok, _ := o.budget.reserve(min(cost, most-keep), keep); !ok {
			return
		}
		a := &account{}
		o.tries(id)
		_ = o.settleDoubt(ctx, a, id)
		o.budget.settle(min(cost, most-keep), a.took)
		o.metrics.looked("focus", a.took)
	}
}

func (o *Observer) focusOn(ctx context.Context, due []string, keep time.Duration) {
	p := o.planFor(Want{Machines: due})
	if spare := o.budget.spare(keep); p.cost > spare {
		get := max(o.costs.of(callGet, 1), time.Microsecond)
		n := int(spare / get)
		if n <= 0 {
			return
		}
		due = due[:min(n, len(due))]
		p = plan{gets: due, cost: time.Duration(len(due)) * get}
	}
	if ok, _ := o.budget.reserve(p.cost, keep); !ok {
		return
	}
	a := &account{}
	for _, id := range due {
		o.tries(id)
	}
	_ = o.carryOut(ctx, a, p)
	o.budget.settle(p.cost, a.took)
	o.metrics.looked("focus", a.took)
}

// tries notes that a machine is looked at, whatever comes of it.
func (o *Observer) tries(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tried[id] = o.opts.Clock.Now()
}

// due returns the machines that are to be looked at now, those first that were
// not for longest; and those that are in doubt, likewise.
func (o *Observer) due() (moving, doubtful []string) {
	now := o.opts.Clock.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	for id, until := range o.attended {
		if now.After(until) {
			delete(o.attended, id)
		}
	}
	last := map[string]time.Time{}
	for id, h := range o.facts.machines.held {
		_, attended := o.attended[id]
		if h.doubted == 0 && !attended && (h.ghost || !o.facts.machineGuarded(id, h.fact) || !h.moving()) {
			continue
		}
		last[id] = h.looked
		if t := o.tried[id]; t.After(h.looked) {
			last[id] = t
		}
		interval := o.opts.FocusInterval
		if !attended {
			interval = min(max(now.Sub(h.changed)/focusDecay, interval), o.opts.SweepInterval)
		}
		// A round takes time itself: what is nearly due is due.
		if now.Sub(last[id]) < interval-o.opts.FocusInterval/2 {
			continue
		}
		if h.doubted != 0 {
			doubtful = append(doubtful, id)
		} else {
			moving = append(moving, id)
		}
	}
	for id := range o.tried {
		if _, watched := last[id]; !watched {
			delete(o.tried, id)
		}
	}
	longest := func(a, b string) int { return cmp.Or(last[a].Compare(last[b]), cmp.Compare(a, b)) }
	slices.SortFunc(moving, longest)
	slices.SortFunc(doubtful, longest)
	return moving, doubtful
}

// moving tells whether a machine is in transition: named and never seen,
// allocated and not yet phoned home, or newly silent.
func (h *held[T]) moving() bool {
	m, ok := any(h.fact).(*Machine)
	if !ok || m == nil {
		return h.presence == Unseen
	}
	if m.Allocation == nil {
		return false
	}
	silence := h.looked.Sub(m.LastEventTime)
	return m.InTransition() || m.Liveliness == LivelinessAlive && silence > silentAfter && silence < silentUntil
}
