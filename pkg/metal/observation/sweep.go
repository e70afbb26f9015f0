// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"context"
	"time"

	"k8s.io/klog/v2"
)

// sweepLoop sweeps every interval, or as seldom as the budget demands; after a
// failure sooner, and again later and later.
func (o *Observer) sweepLoop(ctx context.Context) {
	var failures circuitBreaker
	failures.clock = o.opts.Clock
	var loggedAt time.Time
	for {
		began := o.opts.Clock.Now()
		if err := o.sweep(ctx); err != nil {
			failures.recordFailure(err)
			if now := o.opts.Clock.Now(); ctx.Err() == nil && now.Sub(loggedAt) >= failedSweepLogInterval {
				loggedAt = now
				klog.FromContext(ctx).Error(err, "Failed to observe all machines: retrying")
			}
		} else if failures.recordSuccess() {
			loggedAt = time.Time{}
			klog.FromContext(ctx).Info("Observed all machines again")
		}
		due := began.Add(o.opts.SweepInterval)
		if failures.isOpen() {
			due = o.opts.Clock.Now().Add(failures.retryAfter())
		}
		if !o.waitForSweep(ctx, due) {
			return
		}
	}
}

// waitForSweep waits until a sweep is due, or wanted at once, and the budget has
// recovered from the last one. It returns false when ctx ends.
func (o *Observer) waitForSweep(ctx context.Context, due time.Time) bool {
	for {
		wait := max(due.Sub(o.opts.Clock.Now()), o.budget.sweepDelay())
		if wait <= 0 {
			return ctx.Err() == nil
		}
		timer := o.opts.Clock.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-o.sweepRequests:
			due = o.opts.Clock.Now()
		case <-timer.C():
		}
		timer.Stop()
	}
}

// sweep observes everything: all machines in one list, the networks and IPs
// that records reference, and twice where something is missing.
func (o *Observer) sweep(ctx context.Context) error {
	a := &costTally{}
	start := o.opts.Clock.Now()
	o.setSweepStarted(start)
	defer func() {
		o.setSweepStarted(time.Time{})
		took := a.finish(o.costs)
		o.budget.chargeSweep(took)
		o.metrics.recordObservation("sweep", took)
	}()
	pending, began, err := o.listMachines(ctx, a)
	if err != nil {
		return err
	}
	list := a.total
	// What could not be verified stays pending verification; the sweep is complete without.
	_ = o.verifyAll(ctx, a, pending)
	o.observeReferenced(ctx, a, max(list, minSweepExtraCost))
	o.observeIdentified(ctx, a)
	o.observeInterest(ctx, a)
	o.facts.evict(o.opts.Clock.Now())
	o.facts.notifyCapacities()

	o.mu.Lock()
	before := o.lastSweep
	o.lastSweep = began
	o.mu.Unlock()
	o.metrics.recordSweep(o.opts.Clock.Since(start), before, began)
	return nil
}

func (o *Observer) setSweepStarted(t time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sweepStarted = t
}
