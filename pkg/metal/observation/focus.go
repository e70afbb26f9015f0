// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"cmp"
	"context"
	"slices"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// focusLoop observes what is in transition, round by round.
func (o *Observer) focusLoop(ctx context.Context) {
	ticker := o.opts.Clock.NewTicker(o.opts.FocusInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
		o.recordRound()
		o.updateReferenced()
		o.facts.notifyCapacities()
		switch {
		case o.breaker.isOpen():
			o.probeIfAllowed()
		case o.costs.longestUnanswered() > probeInterval:
			// Does it not answer, or is it slow? Abandoned calls are charged accordingly.
			o.probe(ctx)
		case o.HasSynced():
			o.focus(ctx)
		}
	}
}

func (o *Observer) recordRound() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lastRound = o.opts.Clock.Now()
}

// focus observes the machines that are due, as far as its account and the limits
// of a round go; those that are left out come first in the next round. What comes
// behind an observation that cannot be paid waits until that is saved.
func (o *Observer) focus(ctx context.Context) {
	moving, pending, ahead := o.dueMachines()
	transitions, verifications := &focusRound{o: o}, &focusRound{o: o}
	o.focusOnMoving(ctx, transitions, moving[:ahead])
	_ = o.observeInBatches(ctx, verifications, pending, []callKind{callGet, callFind}, o.withFocusBackoff(o.verify))
	if !verifications.insufficient {
		o.focusOnMoving(ctx, transitions, moving[ahead:])
	}
	if transitions.spent+verifications.spent == 0 && o.costs.probeDue() {
		o.probe(ctx)
	}
}

func (o *Observer) focusOnMoving(ctx context.Context, r *focusRound, ids []string) {
	left := o.focusInBulk(ctx, r, ids)
	_ = o.observeInBatches(ctx, r, left, []callKind{callGet}, o.withFocusBackoff(o.observeMachine))
}

// withFocusBackoff is an observation of one machine that is not repeated at once if it took long,
// not counting for how long it waited for other observations.
func (o *Observer) withFocusBackoff(observe observeFunc) observeFunc {
	return func(ctx context.Context, a *costTally, id string) error {
		o.recordAttempts(id)
		ctx, answered := metal.WithAnswerTime(ctx)
		err := observe(ctx, a, id)
		o.slowBackoff.record(focusKeyPrefix+id, answered.Total() > o.opts.RefreshTimeout)
		return err
	}
}

// focusInBulk observes the machines with finds or a list where that is
// cheaper by what calls cost now, and returns those that are left.
func (o *Observer) focusInBulk(ctx context.Context, r *focusRound, ids []string) (left []string) {
	if len(ids) < 2 {
		return ids
	}
	choose := func() plan {
		return o.planMachines(metal.Scope{Machines: ids}, newLimits(maxRoundCost, o.budget.balance(focusAccount)))
	}
	p := choose()
	if p.cost > probeBulkCost && len(p.gets) < len(ids) {
		// One get shows first what it costs now.
		_ = o.observeInBatches(ctx, r, ids[:1], []callKind{callGet}, o.withFocusBackoff(o.observeMachine))
		ids = ids[1:]
		p = choose()
	}
	if !p.list && len(p.finds) == 0 || !r.reserve(p.cost) {
		return ids
	}
	o.recordAttempts(ids...)
	a := &costTally{}
	_ = o.execute(ctx, a, p)
	r.commit(p.cost, a.finish(o.costs))
	return nil
}

// recordAttempts notes that machines are observed, whatever comes of it.
func (o *Observer) recordAttempts(ids ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, id := range ids {
		o.lastAttempt[id] = o.opts.Clock.Now()
	}
}

// dueMachines returns the machines that are to be observed now: those that are being
// allocated or released before those that are newly silent, and of each those
// first that were not observed for longest; and those that are pending verification,
// likewise. So many of moving come before those pending verification: the ones that are being
// allocated or released, and what has waited for longer than any that is pending verification.
func (o *Observer) dueMachines() (moving, pending []string, ahead int) {
	now := o.opts.Clock.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	last, urgent := map[string]time.Time{}, map[string]bool{}
	for id := range o.facts.focused {
		h := o.facts.machines.entries[id]
		if h.pendingSeq == 0 && !o.facts.machineNeedsVerification(id, h.fact) {
			continue
		}
		last[id] = h.observedAt
		if t := o.lastAttempt[id]; t.After(h.observedAt) {
			last[id] = t
		}
		interval := min(max(now.Sub(h.changedAt)/focusDecayFactor, o.opts.FocusInterval), o.opts.SweepInterval)
		// A round takes time itself: what is nearly due is due.
		if now.Sub(last[id]) < interval-o.opts.FocusInterval/2 {
			continue
		}
		if o.slowBackoff.blocked(focusKeyPrefix + id) {
			continue
		}
		urgent[id] = h.presence == metal.Unobserved || h.inTransition()
		if h.pendingSeq != 0 {
			pending = append(pending, id)
		} else {
			moving = append(moving, id)
		}
	}
	for id := range o.lastAttempt {
		if _, watched := last[id]; !watched {
			delete(o.lastAttempt, id)
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
	slices.SortFunc(pending, first)
	for ahead < len(moving) && (len(pending) == 0 || urgent[moving[ahead]] || first(moving[ahead], pending[0]) < 0) {
		ahead++
	}
	return moving, pending, ahead
}

// needsFocus reports whether a machine is in transition: referenced and never observed,
// allocated and not yet phoned home, or newly silent.
func (e *entry[T]) needsFocus() bool {
	m, ok := any(e.fact).(*metal.Machine)
	if !ok || m == nil {
		return e.presence == metal.Unobserved
	}
	if m.Allocation == nil {
		return false
	}
	silence := e.observedAt.Sub(m.LastEventTime)
	return m.InTransition() || m.Liveliness == metal.LivelinessAlive && silence > silentAfter && silence < silentLimit
}

// inTransition reports whether a machine is allocated and has not phoned home yet.
func (e *entry[T]) inTransition() bool {
	m, ok := any(e.fact).(*metal.Machine)
	return ok && m != nil && m.Allocation != nil && m.InTransition()
}
