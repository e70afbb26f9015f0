package metal

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// plan is a way to look at a set of machines.
type plan struct {
	gets  []string
	finds []string // projects
	list  bool
	// cost is for how long it keeps the metal-api busy, takes how long it takes
	// when as many calls as may run side by side do.
	cost, takes time.Duration
}

// planFor chooses between a get of each machine, a find of each project with
// the rest by get, and a list of everything: what is soonest done without
// costing much more than the cheapest. What discovers as well, a find or a
// list, is preferred where it costs little, and until there was a sweep.
func (o *Observer) planFor(want Want) plan {
	ids, discover := want.Machines, want.Project
	get := o.costs.of(callGet, 1)
	rounds := func(n int) time.Duration {
		return time.Duration((n + o.opts.Parallel - 1) / o.opts.Parallel)
	}
	gets := plan{gets: ids, cost: time.Duration(len(ids)) * get, takes: rounds(len(ids)) * get}
	list := plan{list: true, cost: o.costs.of(callList, 0), takes: o.costs.of(callList, 0)}

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
	finds := plan{gets: rest, cost: time.Duration(len(rest)) * get, takes: rounds(len(rest)) * get}
	for project, n := range hits {
		cost := o.costs.of(callFind, n)
		finds.finds = append(finds.finds, project)
		finds.cost += cost
		finds.takes += cost
	}

	switch {
	case want.Fleet && (list.cost <= cheapFind || !o.Swept()):
		return list
	case discover != "" && (finds.cost <= cheapFind || !o.Swept()):
		return finds
	}
	plans := []plan{gets, finds, list}
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
		return o.settleDoubts(ctx, a, doubtful)
	}
	var errs []error
	for _, project := range p.finds {
		doubtful, err := o.findProject(ctx, a, project)
		if err == nil {
			err = o.settleDoubts(ctx, a, doubtful)
		}
		errs = append(errs, err)
	}
	errs = append(errs, each(ctx, p.gets, o.opts.Parallel, func(ctx context.Context, id string) error {
		return o.lookAtMachine(ctx, a, id)
	}))
	return errors.Join(errs...)
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
	err := each(ctx, ids, o.opts.Parallel, func(ctx context.Context, id string) error {
		if by, doubtful := o.doubt(id); !doubtful || by != inList || o.isGhost(id) {
			return nil
		}
		return o.getMachine(ctx, a, id)
	})
	left := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { _, doubtful := o.doubt(id); return !doubtful })
	most := max(1, int(limit/o.costs.of(callFind, 1)))
	if len(left) > most {
		left, err = left[:most], errors.Join(err, errManyDoubts)
	}
	return errors.Join(err, each(ctx, left, o.opts.Parallel, func(ctx context.Context, id string) error {
		return o.findMachine(ctx, a, id)
	}))
}

var errManyDoubts = errors.New("a look lacked more machines than can be confirmed to be gone at once")
