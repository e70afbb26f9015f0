package observation

import (
	"cmp"
	"context"
	"time"
)

// payer pays for batches.
type payer interface {
	// reserve takes cost, or returns false if there is not so much left.
	reserve(cost time.Duration) bool
	// settle corrects a reservation by what the batch took.
	settle(reserved, took time.Duration)
}

// lookAt is a look at one piece of metal.
type lookAt func(ctx context.Context, a *account, id string) error

// inBatches looks at metal side by side in batches, each booked at what it was
// measured to take before the next one begins, as long as the payer pays and the
// metal-api is not away. calls are those of one look. It returns the errors of
// the first batch that has any.
//
// The first batch is one look, and each the double of the one before it as long
// as answers are fast. After a slow one it is half as many, and from then on one
// more each time.
func (o *Observer) inBatches(ctx context.Context, p payer, ids []string, calls []call, look lookAt) error {
	var failed error
	for n, steady := 1, false; len(ids) > 0 && ctx.Err() == nil && !o.away.gone(); {
		n = min(n, len(ids), o.opts.Parallel)
		cost := time.Duration(n) * o.price(calls)
		for ; n > 0 && !p.reserve(cost); cost = time.Duration(n) * o.price(calls) {
			n /= 2
		}
		if n == 0 {
			break
		}
		a := &account{}
		err := each(ctx, ids[:n], n, func(ctx context.Context, id string) error { return look(ctx, a, id) })
		p.settle(cost, a.close(o.costs))
		failed = cmp.Or(failed, err)
		ids = ids[n:]
		switch {
		case a.wasSlow():
			n, steady = max(1, n/2), true
		case steady:
			n++
		default:
			n *= 2
		}
	}
	return failed
}

// price is what one call of each kind costs.
func (o *Observer) price(calls []call) (cost time.Duration) {
	for _, k := range calls {
		cost += o.costs.of(k, 1)
	}
	return max(cost, time.Microsecond)
}

// round pays for one round of focus, at what moves or at what is in doubt:
// roundCost and one batch at most, whatever answers take, out of the account of
// focus.
type round struct {
	o     *Observer
	spent time.Duration
	// short: the account did not hold what was last asked of it.
	short bool
}

// reserve implements payer. What a round begins with may cost more than a round.
func (r *round) reserve(cost time.Duration) bool {
	if r.spent > 0 && r.spent+cost > roundCost {
		return false
	}
	ok, _ := r.o.budget.reserve(forFocus, cost)
	r.short = !ok
	return ok
}

// settle implements payer.
func (r *round) settle(reserved, took time.Duration) {
	r.spent += max(took, time.Microsecond)
	r.o.budget.settle(forFocus, reserved, took)
	r.o.metrics.looked("focus", took)
}

// allowance pays for a part of a look, on the look's account.
type allowance struct {
	left time.Duration
	a    *account
}

// reserve implements payer.
func (w *allowance) reserve(cost time.Duration) bool { return cost <= w.left }

// settle implements payer.
func (w *allowance) settle(_, took time.Duration) {
	w.left -= took
	w.a.add(took)
}
