package observation

import (
	"context"
	"errors"
	"sync"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// observeMachine looks at one machine by its id, and again, if what it sees
// contradicts what is known.
func (o *Observer) observeMachine(ctx context.Context, a *costTally, id string) error {
	if err := o.getMachine(ctx, a, id); err != nil {
		return err
	}
	return o.verify(ctx, a, id)
}

// getMachine looks with a GET, and with a find where that proves nothing.
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

// findMachine looks with a find of the very id.
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
		o.facts.machines.getOrCreate(id, m.start).noEvents = machine != nil && len(machine.Events) == 0
	})
	return nil
}

// verify takes the second look at a machine that is in doubt.
func (o *Observer) verify(ctx context.Context, a *costTally, id string) error {
	if by, doubtful := o.pendingSource(id); !doubtful {
		return nil
	} else if by == sourceList && !o.hasNoEvents(id) {
		// The cheap look first: after a list that was cut short it clears most.
		if err := o.getMachine(ctx, a, id); err != nil {
			return err
		}
		if _, doubtful = o.pendingSource(id); !doubtful {
			return nil
		}
	}
	return o.findMachine(ctx, a, id)
}

func (o *Observer) pendingSource(id string) (by source, doubtful bool) {
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

// findProject looks at a project's machines with one find, and returns those
// of its known machines that are in doubt after it.
func (o *Observer) findProject(ctx context.Context, a *costTally, project string) (doubtful []string, err error) {
	found, m, err := timedCall(ctx, o, a, callFind, countAll, func(ctx context.Context) ([]*metal.Machine, error) {
		return o.backend.FindMachines(ctx, metal.MachineQuery{Project: project})
	})
	if err != nil {
		return nil, err
	}
	o.facts.update(func() {
		shown := o.applyListed(found, m, &doubtful)
		for id := range o.facts.byProject[project] {
			// That it is not in this project says nothing of the machine itself.
			h := o.facts.machines.entries[id]
			if !shown[id] && o.facts.machineNeedsVerification(id, h.fact) && o.facts.machines.applyAbsence(id, m) {
				doubtful = append(doubtful, id)
			}
		}
	})
	return doubtful, nil
}

// listMachines looks at everything, and returns the machines that are in doubt
// after it, and those that are named and have never been seen.
func (o *Observer) listMachines(ctx context.Context, a *costTally) (doubtful []string, began time.Time, err error) {
	all, m, err := timedCall(ctx, o, a, callList, countAll, o.backend.ListMachines)
	if err != nil {
		return nil, m.start, err
	}
	o.facts.update(func() {
		shown := o.applyListed(all, m, &doubtful)
		for id := range o.facts.machines.entries {
			if !shown[id] && o.facts.machines.applyAbsence(id, m) {
				doubtful = append(doubtful, id)
			}
		}
	})
	return doubtful, m.start, nil
}

// applyListed takes in what a list shows; machines that nobody holds or names
// are not kept.
func (o *Observer) applyListed(all []*metal.Machine, m observationTime, doubtful *[]string) (shown map[string]bool) {
	shown = make(map[string]bool, len(all))
	for _, machine := range all {
		shown[machine.ID] = true
		if _, known := o.facts.machines.entries[machine.ID]; !known && machine.Allocation == nil && !o.facts.isReferenced(metal.KindMachine, machine.ID) {
			continue
		}
		if o.facts.machines.apply(machine.ID, machine, m, sourceList) {
			*doubtful = append(*doubtful, machine.ID)
		}
	}
	return shown
}

// observeNetwork looks at one network, twice if it seems to be gone.
func (o *Observer) observeNetwork(ctx context.Context, a *costTally, id string) error {
	network, m, err := timedCall(ctx, o, a, callNetworkGet, countOne, func(ctx context.Context) (*metal.Network, error) { return o.backend.Network(ctx, id) })
	if err != nil && !metal.IsNotFound(err) {
		return err
	}
	var doubtful bool
	o.facts.update(func() { doubtful = o.facts.networks.apply(id, network, m, sourceGet) })
	if !doubtful {
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

// observeIP looks at one address, twice if it seems to be gone.
func (o *Observer) observeIP(ctx context.Context, a *costTally, address string) error {
	ip, m, err := timedCall(ctx, o, a, callIPGet, countOne, func(ctx context.Context) (*metal.IP, error) { return o.backend.IP(ctx, address) })
	if err != nil && !metal.IsNotFound(err) {
		return err
	}
	var doubtful bool
	o.facts.update(func() { doubtful = o.facts.ips.apply(address, ip, m, sourceGet) })
	if !doubtful {
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

// each looks at everything in ids side by side, and joins the errors of those
// that failed.
func each(ctx context.Context, ids []string, parallel int, look func(context.Context, string) error) error {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	queue := make(chan string)
	for range min(parallel, len(ids)) {
		wg.Go(func() {
			for id := range queue {
				if err := look(ctx, id); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	for _, id := range ids {
		queue <- id
	}
	close(queue)
	wg.Wait()
	if len(errs) > 3 {
		errs = errs[:3]
	}
	return errors.Join(errs...)
}
