package observation

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// plan is a way to look at a set of machines.
type plan struct {
	gets  []string
	finds []string // projects
	list  bool
	// cost is for how long it keeps the metal-api busy, takes how long it takes
	// when as many calls as may run side by side do.
	cost, takes time.Duration
	// until is when it has to be over; zero: whenever.
	until time.Time
}

// means are what a plan has to do with: it is over within a time, and costs no
// more than there is. The zero value is no limit.
type means struct {
	limited       bool
	within, spare time.Duration
}

// limitedTo are means that are limited, be it to nothing.
func limitedTo(within, spare time.Duration) means { return means{true, within, spare} }

func (m means) suffice(p plan) bool {
	return !m.limited || p.takes <= m.within && p.cost <= m.spare
}

// planFor chooses between a get of each machine, a find of each project with
// the rest by get, and a list of everything, by what they are measured to cost
// now: what is soonest done without costing much more than the cheapest. What
// discovers as well, a find or a list, is preferred where it costs little, and
// until there was a sweep. What the means do not suffice for is chosen only if
// there is nothing else.
func (o *Observer) planFor(want metal.Want, m means) plan {
	ids, discover := want.Machines, want.Project
	get, getTakes := o.costs.of(callGet, 1), o.costs.takes(callGet, 1)
	parallel := max(1, o.narrow.limit())
	rounds := func(n int) time.Duration { return time.Duration((n + parallel - 1) / parallel) }
	gets := plan{gets: ids, cost: time.Duration(len(ids)) * get, takes: rounds(len(ids)) * getTakes}
	list := plan{list: true, cost: o.costs.of(callList, 0), takes: o.costs.takes(callList, 0)}

	hits := map[string]int{}
	if discover != "" {
		hits[discover] = 0
	}
	var rest []string
	o.facts.mu.RLock()
	for _, id := range ids {
		if h := o.facts.machines.held[id]; h != nil && h.fact != nil && h.fact.Allocation != nil {
			hits[h.fact.Allocation.Project]++
		} else {
			rest = append(rest, id)
		}
	}
	o.facts.mu.RUnlock()
	finds := plan{gets: rest, cost: time.Duration(len(rest)) * get, takes: rounds(len(rest)) * getTakes}
	for project, n := range hits {
		finds.finds = append(finds.finds, project)
		finds.cost += o.costs.of(callFind, n)
		finds.takes += o.costs.takes(callFind, n)
	}

	plans := []plan{gets, finds, list}
	switch {
	case len(ids) == 1 && discover == "" && !want.Fleet && m.suffice(gets):
		return gets
	case want.Fleet && (list.cost <= cheapFind || !o.Swept()) && m.suffice(list):
		return list
	case discover != "" && (finds.cost <= cheapFind || !o.Swept()) && m.suffice(finds):
		return finds
	}
	if want.Fleet || discover != "" {
		// A plan without a call would confirm that there is nothing.
		plans = slices.DeleteFunc(plans, func(p plan) bool { return !p.list && len(p.gets)+len(p.finds) == 0 })
	}
	if possible := slices.DeleteFunc(slices.Clone(plans), func(p plan) bool { return !m.suffice(p) }); len(possible) > 0 {
		plans = possible
	}
	least := slices.MinFunc(plans, func(a, b plan) int { return cmp.Compare(a.cost, b.cost) }).cost
	plans = slices.DeleteFunc(plans, func(p plan) bool { return p.cost > hasteCost*least })
	return slices.MinFunc(plans, func(a, b plan) int { return cmp.Or(cmp.Compare(a.takes, b.takes), cmp.Compare(a.cost, b.cost)) })
}

// carryOut looks as planned, and twice where it has to.
func (o *Observer) carryOut(ctx context.Context, a *account, p plan) error {
	if p.list {
		doubtful, _, err := o.listMachines(ctx, a)
		if err != nil {
			return err
		}
		return inDoubt(o.settleDoubts(ctx, a, doubtful))
	}
	var errs []error
	for _, project := range p.finds {
		doubtful, err := o.findProject(ctx, a, project)
		if err == nil {
			err = inDoubt(o.settleDoubts(ctx, a, doubtful))
		}
		errs = append(errs, err)
	}
	errs = append(errs, o.getAll(ctx, a, p))
	return errors.Join(errs...)
}

// getAll gets the machines of a plan, a few of them first: if they show that the
// others cannot come in time any more, these are not asked for.
func (o *Observer) getAll(ctx context.Context, a *account, p plan) error {
	look := func(ctx context.Context, id string) error { return o.lookAtMachine(ctx, a, id) }
	first, rest := p.gets, []string(nil)
	if len(first) > firstBatch {
		first, rest = first[:firstBatch], first[firstBatch:]
	}
	if err := each(ctx, first, o.opts.Parallel, look); err != nil || len(rest) == 0 {
		return err
	}
	a.close(o.costs)
	if left := o.planFor(metal.Want{Machines: rest}, means{}); a.wasSlow() && !p.until.IsZero() && o.opts.Clock.Now().Add(left.takes).After(p.until) {
		return metal.ErrTooSlow
	}
	return each(ctx, rest, o.opts.Parallel, look)
}

// settleDoubts takes second looks: the cheap ones first, then finds of those
// that are left. If they are so many that the first look itself is to be
// doubted, what is in doubt stays so; focus goes through it as the budget
// allows, or the next list shows it again.
func (o *Observer) settleDoubts(ctx context.Context, a *account, ids []string) error {
	limit := max(o.costs.of(callList, 0), leastExtras)
	if time.Duration(len(ids))*o.costs.of(callGet, 1) > limit {
		return errManyDoubts
	}
	cheap := slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		by, doubtful := o.doubt(id)
		return !doubtful || by != inList || o.isGhost(id)
	})
	err := o.inBatches(ctx, &allowance{limit, a}, cheap, []call{callGet}, o.getMachine)
	stillDoubtful := func() []string {
		return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { _, doubtful := o.doubt(id); return !doubtful })
	}
	// One find may always be made.
	finds := &allowance{max(limit, o.costs.of(callFind, 1)), a}
	err = cmp.Or(err, o.inBatches(ctx, finds, stillDoubtful(), []call{callFind}, o.findMachine))
	if len(stillDoubtful()) > 0 {
		return cmp.Or(err, errManyDoubts)
	}
	return nil
}

var errManyDoubts = errors.New("a look lacked more machines than can be confirmed to be gone at once")
