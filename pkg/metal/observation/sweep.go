package observation

import (
	"context"
	"time"
)

// sweepLoop sweeps every interval, or as seldom as the budget demands; after a
// failure sooner, and again later and later.
func (o *Observer) sweepLoop(ctx context.Context) {
	var failures away
	failures.clock = o.opts.Clock
	for {
		began := o.opts.Clock.Now()
		if err := o.sweep(ctx); err != nil {
			failures.missed(err)
		} else {
			failures.reached()
		}
		due := began.Add(o.opts.SweepInterval)
		if failures.gone() {
			due = o.opts.Clock.Now().Add(failures.wait())
		}
		if !o.pause(ctx, due) {
			return
		}
	}
}

// pause waits until a sweep is due, or wanted at once, and the budget has
// recovered from the last one. It returns false when ctx ends.
func (o *Observer) pause(ctx context.Context, due time.Time) bool {
	for {
		wait := max(due.Sub(o.opts.Clock.Now()), o.budget.untilSweep())
		if wait <= 0 {
			return ctx.Err() == nil
		}
		timer := o.opts.Clock.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-o.kick:
			due = o.opts.Clock.Now()
		case <-timer.C():
		}
		timer.Stop()
	}
}

// sweep looks at everything: all machines in one list, the networks and IPs
// that records name, and twice where something is missing.
func (o *Observer) sweep(ctx context.Context) error {
	o.refreshNamed()
	a := &account{}
	start := o.opts.Clock.Now()
	o.sweepsSince(start)
	defer func() {
		o.sweepsSince(time.Time{})
		took := a.close(o.costs)
		o.budget.swept(took)
		o.metrics.looked("sweep", took)
	}()
	doubtful, began, err := o.listMachines(ctx, a)
	if err != nil {
		return err
	}
	list := a.took
	// What could not be settled stays in doubt; the sweep is complete without.
	_ = o.settleDoubts(ctx, a, doubtful)
	o.lookAtExtras(ctx, a, max(list, leastExtras))
	o.lookAtIdentified(ctx, a)
	o.facts.forget(o.opts.Clock.Now())

	o.mu.Lock()
	before := o.swept
	o.swept = began
	o.mu.Unlock()
	o.metrics.sweptIn(o.opts.Clock.Since(start), before, began)
	return nil
}

func (o *Observer) sweepsSince(t time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sweeping = t
}

func (o *Observer) refreshNamed() {
	o.facts.setNamed(o.opts.Named(), o.opts.Clock.Now())
}
