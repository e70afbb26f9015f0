package observation

import (
	"context"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// unknownMachine is an id that no machine has.
const unknownMachine = "00000000-0000-0000-0000-000000000000"

// probeAway finds out whether a metal-api that is away is back, as often as the
// backoff allows.
func (o *Observer) probeAway() {
	if o.away.pass() == nil {
		go o.probe(context.Background())
	}
}

// probe makes one get, the cheapest call there is, to learn whether the
// metal-api answers, and how fast. One is under way at a time.
func (o *Observer) probe(ctx context.Context) {
	if !o.probing.TryLock() {
		return
	}
	defer o.probing.Unlock()
	id := o.anyMachine()
	a := &account{}
	machine, m, err := timed(ctx, o, a, callGet, single, func(ctx context.Context) (*metal.Machine, error) { return o.backend.Machine(ctx, id) })
	if err == nil {
		o.facts.update(func() { o.facts.machines.take(id, machine, m, byGet) })
	}
	took := a.close(o.costs)
	o.budget.settle(forFocus, 0, took)
	o.metrics.looked("focus", took)
}

// anyMachine is the id of a machine that is allocated, if any is known.
func (o *Observer) anyMachine() string {
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	for id, h := range o.facts.machines.held {
		if h.fact != nil && h.fact.Allocation != nil && !h.ghost {
			return id
		}
	}
	return unknownMachine
}
