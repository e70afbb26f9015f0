// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"cmp"
	"context"
	"time"
)

// funder pays for batches.
type funder interface {
	// reserve takes cost, or returns false if there is not so much left.
	reserve(cost time.Duration) bool
	// commit corrects a reservation by what the batch took.
	commit(reserved, took time.Duration)
}

// observeFunc is an observation of one piece of metal.
type observeFunc func(ctx context.Context, a *costTally, id string) error

// observeInBatches observes metal concurrently in batches, each booked at what it was
// measured to take before the next one begins, as long as the funder pays and the
// metal-api answers. calls are those of one observation. It returns the errors of
// the first batch that has any.
//
// The first batch is one observation, and each the double of the one before it as long
// as answers are fast. After a slow one it is half as many, and from then on one
// more each time.
func (o *Observer) observeInBatches(ctx context.Context, p funder, ids []string, calls []callKind, observe observeFunc) error {
	var failed error
	for n, steady := 1, false; len(ids) > 0 && ctx.Err() == nil && !o.breaker.isOpen(); {
		n = min(n, len(ids), o.opts.MaxConcurrent)
		cost := time.Duration(n) * o.costOf(calls)
		for ; n > 0 && !p.reserve(cost); cost = time.Duration(n) * o.costOf(calls) {
			n /= 2
		}
		if n == 0 {
			break
		}
		a := &costTally{}
		err := forEach(ctx, ids[:n], n, func(ctx context.Context, id string) error { return observe(ctx, a, id) })
		p.commit(cost, a.finish(o.costs))
		failed = cmp.Or(failed, err)
		ids = ids[n:]
		switch {
		case a.isSlow():
			n, steady = max(1, n/2), true
		case steady:
			n++
		default:
			n *= 2
		}
	}
	return failed
}

// costOf is what one call of each kind costs.
func (o *Observer) costOf(calls []callKind) (cost time.Duration) {
	for _, k := range calls {
		cost += o.costs.cost(k, 1)
	}
	return max(cost, time.Microsecond)
}

// focusRound pays for one round of focus, at what is in transition or at what is pending verification:
// roundCost and one batch at most, whatever answers take, out of the account of
// focus.
type focusRound struct {
	o     *Observer
	spent time.Duration
	// insufficient: the account did not hold what was last asked of it.
	insufficient bool
}

// reserve implements funder. What a round begins with may cost more than a round.
func (r *focusRound) reserve(cost time.Duration) bool {
	if r.spent > 0 && r.spent+cost > maxRoundCost {
		return false
	}
	ok, _ := r.o.budget.reserve(focusAccount, cost)
	r.insufficient = !ok
	return ok
}

// commit implements funder.
func (r *focusRound) commit(reserved, took time.Duration) {
	r.spent += max(took, time.Microsecond)
	r.o.budget.commit(focusAccount, reserved, took)
	r.o.metrics.recordObservation("focus", took)
}

// fixedFunds pays for a part of an observation, on the observation's account.
type fixedFunds struct {
	left time.Duration
	a    *costTally
}

// reserve implements funder.
func (f *fixedFunds) reserve(cost time.Duration) bool { return cost <= f.left }

// commit implements funder.
func (f *fixedFunds) commit(_, took time.Duration) {
	f.left -= took
	f.a.add(took)
}
