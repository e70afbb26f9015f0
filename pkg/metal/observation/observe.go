// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// observeMachine observes one machine by its id, and again, if that
// contradicts what is known.
func (o *Observer) observeMachine(ctx context.Context, a *costTally, id string) error {
	if err := o.getMachine(ctx, a, id); err != nil {
		return err
	}
	return o.verify(ctx, a, id)
}

// getMachine observes with a GET, and with a find where that proves nothing.
func (o *Observer) getMachine(ctx context.Context, a *costTally, id string) error {
	if o.hasNoEvents(id) {
		return o.findMachine(ctx, a, id)
	}
	machine, m, err := timedCall(ctx, o, a, callGet, countOne, func(ctx context.Context) (*metal.Machine, error) { return o.backend.Machine(ctx, id) })
	switch {
	case metal.IsNotFound(err):
		return o.findMachine(ctx, a, id)
	case err != nil:
		return err
	}
	o.facts.update(func() { o.facts.machines.apply(id, machine, m, sourceGet) })
	return nil
}

// findMachine observes with a find of the very id.
func (o *Observer) findMachine(ctx context.Context, a *costTally, id string) error {
	found, m, err := timedCall(ctx, o, a, callFind, countAll, func(ctx context.Context) ([]*metal.Machine, error) {
		return o.backend.FindMachines(ctx, metal.MachineQuery{ID: id})
	})
	if err != nil {
		return err
	}
	var machine *metal.Machine
	for _, f := range found {
		if f.ID == id {
			machine = f
		}
	}
	o.facts.update(func() {
		o.facts.machines.apply(id, machine, m, sourceFind)
		o.facts.setNoEvents(id, machine != nil && len(machine.Events) == 0, m.start)
	})
	return nil
}

// verify takes the second observation of a machine that is pending verification.
func (o *Observer) verify(ctx context.Context, a *costTally, id string) error {
	if by, pending := o.pendingSource(id); !pending {
		return nil
	} else if by == sourceList && !o.hasNoEvents(id) {
		// The cheap observation first: after a list that was cut short it clears most.
		if err := o.getMachine(ctx, a, id); err != nil {
			return err
		}
		if _, pending = o.pendingSource(id); !pending {
			return nil
		}
	}
	return o.findMachine(ctx, a, id)
}

func (o *Observer) pendingSource(id string) (by source, pending bool) {
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	h := o.facts.machines.entries[id]
	if h == nil || h.pendingSeq == 0 {
		return 0, false
	}
	return h.pendingSource, true
}

func (o *Observer) hasNoEvents(id string) bool {
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	h := o.facts.machines.entries[id]
	return h != nil && h.noEvents
}

// findProject observes a project's machines with one find, and returns those
// of its known machines that are pending verification after it.
func (o *Observer) findProject(ctx context.Context, a *costTally, project string) (pending []string, err error) {
	found, m, err := timedCall(ctx, o, a, callFind, countAll, func(ctx context.Context) ([]*metal.Machine, error) {
		return o.backend.FindMachines(ctx, metal.MachineQuery{Project: project})
	})
	if err != nil {
		return nil, err
	}
	o.facts.update(func() {
		listed := o.applyListed(found, m, &pending)
		for id := range o.facts.byProject[project] {
			// That it is not in this project says nothing of the machine itself.
			h := o.facts.machines.entries[id]
			if !listed[id] && o.facts.machineNeedsVerification(id, h.fact) && o.facts.machines.applyAbsence(id, m) {
				pending = append(pending, id)
			}
		}
	})
	return pending, nil
}

// listMachines observes everything, and returns the machines that are pending verification
// after it, and those that are referenced and were never observed.
func (o *Observer) listMachines(ctx context.Context, a *costTally) (pending []string, began time.Time, err error) {
	all, m, err := timedCall(ctx, o, a, callList, countAll, o.backend.ListMachines)
	if err != nil {
		return nil, m.start, err
	}
	// At the start the records are read while the list is waited for.
	o.updateReferenced()
	o.facts.update(func() {
		listed := o.applyListed(all, m, &pending)
		for id := range o.facts.machines.entries {
			if !listed[id] && o.facts.machines.applyAbsence(id, m) {
				pending = append(pending, id)
			}
		}
		o.facts.countListed(listed, m)
	})
	return pending, m.start, nil
}

// applyListed records what a list shows; machines that are neither allocated nor referenced
// are counted, but not kept.
func (o *Observer) applyListed(all []*metal.Machine, m observationTime, pending *[]string) (listed map[string]bool) {
	listed = make(map[string]bool, len(all))
	for _, machine := range all {
		listed[machine.ID] = true
		if _, known := o.facts.machines.entries[machine.ID]; !known && machine.Allocation == nil && !o.facts.isReferenced(metal.KindMachine, machine.ID) {
			o.facts.capacities.observe(machine, m.seq)
			continue
		}
		if o.facts.machines.apply(machine.ID, machine, m, sourceList) {
			*pending = append(*pending, machine.ID)
		}
	}
	return listed
}

// observeNetwork observes one network, twice if it seems to be gone.
func (o *Observer) observeNetwork(ctx context.Context, a *costTally, id string) error {
	network, m, err := timedCall(ctx, o, a, callNetworkGet, countOne, func(ctx context.Context) (*metal.Network, error) { return o.backend.Network(ctx, id) })
	if err != nil && !metal.IsNotFound(err) {
		return err
	}
	var pending bool
	o.facts.update(func() { pending = o.facts.networks.apply(id, network, m, sourceGet) })
	if !pending {
		return nil
	}
	found, m, err := timedCall(ctx, o, a, callNetworkFind, countAll, func(ctx context.Context) ([]*metal.Network, error) {
		return o.backend.FindNetworks(ctx, metal.NetworkQuery{ID: id})
	})
	if err != nil {
		return err
	}
	o.facts.update(func() { o.facts.networks.apply(id, only(found), m, sourceFind) })
	return nil
}

// observeIP observes one address, twice if it seems to be gone.
func (o *Observer) observeIP(ctx context.Context, a *costTally, address string) error {
	ip, m, err := timedCall(ctx, o, a, callIPGet, countOne, func(ctx context.Context) (*metal.IP, error) { return o.backend.IP(ctx, address) })
	if err != nil && !metal.IsNotFound(err) {
		return err
	}
	var pending bool
	o.facts.update(func() { pending = o.facts.ips.apply(address, ip, m, sourceGet) })
	if !pending {
		return nil
	}
	found, m, err := timedCall(ctx, o, a, callIPFind, countAll, func(ctx context.Context) ([]*metal.IP, error) {
		return o.backend.FindIPs(ctx, metal.IPQuery{Address: address})
	})
	if err != nil {
		return err
	}
	o.facts.update(func() { o.facts.ips.apply(address, only(found), m, sourceFind) })
	return nil
}

func only[T any](found []*T) *T {
	if len(found) == 0 {
		return nil
	}
	return found[0]
}

// forEach calls observe for each of ids, so many at a time, and returns the first
// error of those that failed.
func forEach(ctx context.Context, ids []string, concurrency int, observe func(context.Context, string) error) error {
	var g errgroup.Group
	g.SetLimit(max(1, concurrency))
	for _, id := range ids {
		g.Go(func() error { return observe(ctx, id) })
	}
	return g.Wait()
}
