// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// plan is a way to observe a set of machines.
type plan struct {
	gets  []string
	finds []string // projects
	list  bool
	// cost is for how long it keeps the metal-api busy, duration how long it
	// takes when as many calls run concurrently as may.
	cost, duration time.Duration
	// deadline is when it has to be over; zero: whenever.
	deadline time.Time
	// networking is how networks and addresses are observed that the scope does not name; cost and
	// duration include it.
	networking networkingPlan
}

// limits are what a plan has to do with: it is over within a time, and costs no
// more than there is. The zero value is no limit.
type limits struct {
	limited         bool
	duration, funds time.Duration
	// ratio is how many times the cost of the cheapest plan it may cost; zero:
	// maxCostRatio.
	ratio float64
}

// newLimits returns limits, which may be zero or less.
func newLimits(timeLeft, spare time.Duration) limits {
	return limits{limited: true, duration: timeLeft, funds: spare}
}

// readLimits are those of a read's observation that begins after a time, and has so
// much time then.
func (o *Observer) readLimits(after, timeLeft time.Duration, anyCost bool) limits {
	most, saved := o.budget.affordable(readAccount, after)
	ratio := 1 + (maxCostRatio-1)*saved
	if anyCost {
		ratio = math.Inf(1)
	}
	return limits{limited: true, duration: timeLeft, funds: most, ratio: ratio}
}

func (l limits) allow(p plan) bool {
	return !l.limited || p.duration <= l.duration && p.cost <= l.funds
}

// planMachines chooses between a get of each machine, a find of each project with
// the rest by get, and a list of everything, by what they are measured to cost
// now: what is soonest done without costing much more than the cheapest. What
// discovers as well, a find or a list, is preferred where it costs little, and
// until there was a sweep. What the limits do not allow is chosen only if
// there is nothing else.
func (o *Observer) planMachines(scope metal.Scope, m limits) plan {
	ids, discover := scope.Machines, scope.Project
	get, getTakes := o.costs.cost(callGet, 1), o.costs.latency(callGet, 1)
	parallel := max(1, o.getLimiter.limit())
	rounds := func(n int) time.Duration { return time.Duration((n + parallel - 1) / parallel) }
	gets := plan{gets: ids, cost: time.Duration(len(ids)) * get, duration: rounds(len(ids)) * getTakes}
	list := plan{list: true, cost: o.costs.cost(callList, 0), duration: o.costs.latency(callList, 0)}
	if scope.Capacities {
		// Nothing else counts what is free.
		return list
	}

	hits := map[string]int{}
	if discover != "" {
		hits[discover] = 0
	}
	var rest []string
	o.facts.mu.RLock()
	for _, id := range ids {
		if h := o.facts.machines.entries[id]; h != nil && h.fact != nil && h.fact.Allocation != nil {
			hits[h.fact.Allocation.Project]++
		} else {
			rest = append(rest, id)
		}
	}
	o.facts.mu.RUnlock()
	finds := plan{gets: rest, cost: time.Duration(len(rest)) * get, duration: rounds(len(rest)) * getTakes}
	for project, n := range hits {
		finds.finds = append(finds.finds, project)
		finds.cost += o.costs.cost(callFind, n)
		finds.duration += o.costs.latency(callFind, n)
	}

	plans := []plan{gets, finds, list}
	switch {
	case len(ids) == 1 && discover == "" && !scope.Fleet && m.allow(gets):
		return gets
	case scope.Fleet && (list.cost <= cheapFindCost || !o.HasSynced()) && m.allow(list):
		return list
	case discover != "" && (finds.cost <= cheapFindCost || !o.HasSynced()) && m.allow(finds):
		return finds
	}
	if scope.Fleet || discover != "" {
		// A plan without a call would confirm that there is nothing.
		plans = slices.DeleteFunc(plans, func(p plan) bool { return !p.list && len(p.gets)+len(p.finds) == 0 })
	}
	least := slices.MinFunc(plans, func(a, b plan) int { return cmp.Compare(a.cost, b.cost) }).cost
	ratio := cmp.Or(m.ratio, maxCostRatio)
	plans = slices.DeleteFunc(plans, func(p plan) bool { return float64(p.cost) > ratio*float64(least) })
	if possible := slices.DeleteFunc(slices.Clone(plans), func(p plan) bool { return !m.allow(p) }); len(possible) > 0 {
		plans = possible
	}
	return slices.MinFunc(plans, func(a, b plan) int { return cmp.Or(cmp.Compare(a.duration, b.duration), cmp.Compare(a.cost, b.cost)) })
}

// execute observes as planned, and twice where it has to.
func (o *Observer) execute(ctx context.Context, a *costTally, p plan) error {
	if p.list {
		pending, _, err := o.listMachines(ctx, a)
		if err != nil {
			return err
		}
		return asUnverified(o.verifyAll(ctx, a, pending))
	}
	var errs []error
	for _, project := range p.finds {
		pending, err := o.findProject(ctx, a, project)
		if err == nil {
			err = asUnverified(o.verifyAll(ctx, a, pending))
		}
		errs = append(errs, err)
	}
	errs = append(errs, o.getMachines(ctx, a, p))
	return errors.Join(errs...)
}

// getMachines gets the machines of a plan, a few of them first: if they show that the
// others cannot be answered in time, these are not asked for.
func (o *Observer) getMachines(ctx context.Context, a *costTally, p plan) error {
	observe := func(ctx context.Context, id string) error { return o.observeMachine(ctx, a, id) }
	first, rest := p.gets, []string(nil)
	if len(first) > firstBatch {
		first, rest = first[:firstBatch], first[firstBatch:]
	}
	if err := forEach(ctx, first, o.opts.MaxConcurrent, observe); err != nil || len(rest) == 0 {
		return err
	}
	a.finish(o.costs)
	if left := o.planMachines(metal.Scope{Machines: rest}, limits{}); a.isSlow() && !p.deadline.IsZero() && o.opts.Clock.Now().Add(left.duration).After(p.deadline) {
		return metal.ErrTimeout
	}
	return forEach(ctx, rest, o.opts.MaxConcurrent, observe)
}

// verifyAll takes second observations: the cheap ones first, then finds of those
// that are left. If they are so many that the first observation itself is to be
// unreliable, what is pending verification stays so; focus goes through it as the budget
// allows, or the next list shows it again.
func (o *Observer) verifyAll(ctx context.Context, a *costTally, ids []string) error {
	limit := max(o.costs.cost(callList, 0), minSweepExtraCost)
	if time.Duration(len(ids))*o.costs.cost(callGet, 1) > limit {
		return errTooManyUnverified
	}
	cheap := slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		by, pending := o.pendingSource(id)
		return !pending || by != sourceList || o.hasNoEvents(id)
	})
	err := o.observeInBatches(ctx, &fixedFunds{limit, a}, cheap, []callKind{callGet}, o.getMachine)
	stillPending := func() []string {
		return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { _, pending := o.pendingSource(id); return !pending })
	}
	// One find may always be made.
	finds := &fixedFunds{max(limit, o.costs.cost(callFind, 1)), a}
	err = cmp.Or(err, o.observeInBatches(ctx, finds, stillPending(), []callKind{callFind}, o.findMachine))
	if len(stillPending()) > 0 {
		return cmp.Or(err, errTooManyUnverified)
	}
	return nil
}

var errTooManyUnverified = errors.New("too many machines missing from one observation: verifying the rest later")
