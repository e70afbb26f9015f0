package observation

import (
	"cmp"
	"context"
	"slices"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
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
		switch {
		case o.away.gone():
			o.probeAway()
		case o.costs.unanswered() > probeInterval:
			// Is it away, or at work? Calls that are given up are booked by that.
			o.probe(ctx)
		case o.Swept():
			o.focus(ctx)
		}
	}
}

func (o *Observer) beats() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.beat = o.opts.Clock.Now()
}

// focus looks at the machines that are due, as far as its account and the limits
// of a round go; those that are left out come first in the next round. What comes
// behind a look that cannot be paid waits until that is saved.
func (o *Observer) focus(ctx context.Context) {
	moving, doubtful, ahead := o.due()
	moves, doubts := &round{o: o}, &round{o: o}
	o.focusOnMoving(ctx, moves, moving[:ahead])
	_ = o.inBatches(ctx, doubts, doubtful, []call{callGet, callFind}, o.focusOn(o.settleDoubt))
	if !doubts.short {
		o.focusOnMoving(ctx, moves, moving[ahead:])
	}
	if moves.spent+doubts.spent == 0 && o.costs.probeDue() {
		o.probe(ctx)
	}
}

func (o *Observer) focusOnMoving(ctx context.Context, r *round, ids []string) {
	left := o.focusTogether(ctx, r, ids)
	_ = o.inBatches(ctx, r, left, []call{callGet}, o.focusOn(o.lookAtMachine))
}

// focusOn is a look at one machine that is not repeated at once if it took long,
// not counting for how long it waited for other looks.
func (o *Observer) focusOn(look lookAt) lookAt {
	return func(ctx context.Context, a *account, id string) error {
		o.tries(id)
		ctx, answered := metal.WithAnswerTime(ctx)
		err := look(ctx, a, id)
		o.late.note(lateFocus+id, answered.Total() > o.opts.ReadLimit)
		return err
	}
}

// focusTogether looks at the machines with finds or a list where that is
// cheaper by what calls cost now, and returns those that are left.
func (o *Observer) focusTogether(ctx context.Context, r *round, ids []string) (left []string) {
	if len(ids) < 2 {
		return ids
	}
	choose := func() plan {
		return o.planFor(metal.Want{Machines: ids}, limitedTo(roundCost, o.budget.spare(forFocus)))
	}
	p := choose()
	if p.cost > dear && len(p.gets) < len(ids) {
		// What it costs now one get tells first.
		_ = o.inBatches(ctx, r, ids[:1], []call{callGet}, o.focusOn(o.lookAtMachine))
		ids = ids[1:]
		p = choose()
	}
	if !p.list && len(p.finds) == 0 || !r.reserve(p.cost) {
		return ids
	}
	o.tries(ids...)
	a := &account{}
	_ = o.carryOut(ctx, a, p)
	r.settle(p.cost, a.close(o.costs))
	return nil
}

// tries notes that machines are looked at, whatever comes of it.
func (o *Observer) tries(ids ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, id := range ids {
		o.tried[id] = o.opts.Clock.Now()
	}
}

// due returns the machines that are to be looked at now: those that are being
// allocated or released before those that are newly silent, and of each those
// first that were not looked at for longest; and those that are in doubt,
// likewise. So many of moving come before those in doubt: the ones that are being
// allocated or released, and what has waited for longer than any that is in doubt.
func (o *Observer) due() (moving, doubtful []string, ahead int) {
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
	last, urgent := map[string]time.Time{}, map[string]bool{}
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
		if o.late.blocked(lateFocus + id) {
			continue
		}
		urgent[id] = attended || h.presence == metal.Unseen || h.inTransition()
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
	first := func(a, b string) int {
		if urgent[a] != urgent[b] {
			if urgent[a] {
				return -1
			}
			return 1
		}
		return cmp.Or(last[a].Compare(last[b]), cmp.Compare(a, b))
	}
	slices.SortFunc(moving, first)
	slices.SortFunc(doubtful, first)
	for ahead < len(moving) && (len(doubtful) == 0 || urgent[moving[ahead]] || first(moving[ahead], doubtful[0]) < 0) {
		ahead++
	}
	return moving, doubtful, ahead
}

// moving tells whether a machine is in transition: named and never seen,
// allocated and not yet phoned home, or newly silent.
func (h *held[T]) moving() bool {
	m, ok := any(h.fact).(*metal.Machine)
	if !ok || m == nil {
		return h.presence == metal.Unseen
	}
	if m.Allocation == nil {
		return false
	}
	silence := h.looked.Sub(m.LastEventTime)
	return m.InTransition() || m.Liveliness == metal.LivelinessAlive && silence > silentAfter && silence < silentUntil
}

// inTransition tells whether a machine is allocated and has not phoned home yet.
func (h *held[T]) inTransition() bool {
	m, ok := any(h.fact).(*metal.Machine)
	return ok && m != nil && m.Allocation != nil && m.InTransition()
}
