// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"context"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// unknownMachineID is an id that no machine has.
const unknownMachineID = "00000000-0000-0000-0000-000000000000"

// probeIfAllowed finds out whether a metal-api that does not answer is back, as often as the
// backoff allows.
func (o *Observer) probeIfAllowed() {
	if o.breaker.allow() == nil {
		go o.probe(context.Background())
	}
}

// probe makes one get, the cheapest call there is, to learn whether the
// metal-api answers, and how fast. One is in flight at a time.
func (o *Observer) probe(ctx context.Context) {
	if !o.probing.TryLock() {
		return
	}
	defer o.probing.Unlock()
	id := o.probeTarget()
	a := &costTally{}
	machine, m, err := timedCall(ctx, o, a, callGet, countOne, func(ctx context.Context) (*metal.Machine, error) { return o.backend.Machine(ctx, id) })
	if err == nil {
		o.facts.update(func() { o.facts.machines.apply(id, machine, m, sourceGet) })
	}
	took := a.finish(o.costs)
	o.budget.commit(focusAccount, 0, took)
	o.metrics.recordObservation("focus", took)
}

// probeTarget is the id of a machine that is allocated, if any is known.
func (o *Observer) probeTarget() string {
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	for id, h := range o.facts.machines.entries {
		if h.fact != nil && h.fact.Allocation != nil && !h.noEvents {
			return id
		}
	}
	return unknownMachineID
}
