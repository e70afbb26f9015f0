package observation

import (
	"context"
	"errors"
	"sync"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// lookAtMachine looks at one machine by its id, and again, if what it sees
// contradicts what is known.
func (o *Observer) lookAtMachine(ctx context.Context, a *account, id string) error {
	if err := o.getMachine(ctx, a, id); err != nil {
		return err
	}
	return o.settleDoubt(ctx, a, id)
}

// getMachine looks with a GET, and with a find where that proves nothing.
func (o *Observer) getMachine(ctx context.Context, a *account, id string) error {
	if o.isGhost(id) {
		return o.findMachine(ctx, a, id)
	}
	machine, m, err := timed(ctx, o, a, callGet, single, func(ctx context.Context) (*metal.Machine, error) { return o.backend.Machine(ctx, id) })
	switch {
	case metal.IsNotFound(err):
		return o.findMachine(ctx, a, id)
	case err != nil:
		return err
	}
	o.facts.update(func() { o.facts.machines.take(id, machine, m, byGet) })
	return nil
}

// findMachine looks with a find of the very id.
func (o *Observer) findMachine(ctx context.Context, a *account, id string) error {
	found, m, err := timed(ctx, o, a, callFind, length, func(ctx context.Context) ([]*metal.Machine, error) {
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
		o.facts.machines.take(id, machine, m, byFind)
		o.facts.machines.of(id, m.began).ghost = machine != nil && len(machine.Events) == 0
	})
	return nil
}

// settleDoubt takes the second look at a machine that is in doubt.
func (o *Observer) settleDoubt(ctx context.Context, a *account, id string) error {
	if by, doubtful := o.doubt(id); !doubtful {
		return nil
	} else if by == inList && !o.isGhost(id) {
		// The cheap look first: after a list that was cut short it clears most.
		if err := o.getMachine(ctx, a, id); err != nil {
			return err
		}
		if _, doubtful = o.doubt(id); !doubtful {
			return nil
		}
	}
	return o.findMachine(ctx, a, id)
}

func (o *Observer) doubt(id string) (by how, doubtful bool) {
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	h := o.facts.machines.held[id]
	if h == nil || h.doubted == 0 {
		return 0, false
	}
	return h.doubt, true
}

func (o *Observer) isGhost(id string) bool {
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	h := o.facts.machines.held[id]
	return h != nil && h.ghost
}

// findProject looks at a project's machines with one find, and returns those
// of its known machines that are in doubt after it.
func (o *Observer) findProject(ctx context.Context, a *account, project string) (doubtful []string, err error) {
	found, m, err := timed(ctx, o, a, callFind, length, func(ctx context.Context) ([]*metal.Machine, error) {
		return o.backend.FindMachines(ctx, metal.MachineQuery{Project: project})
	})
	if err != nil {
		return nil, err
	}
	o.facts.update(func() {
		shown := o.takeShown(found, m, &doubtful)
		for id := range o.facts.byProject[project] {
			// That it is not in this project says nothing of the machine itself.
			h := o.facts.machines.held[id]
			if !shown[id] && o.facts.machineGuarded(id, h.fact) && o.facts.machines.lacking(id, m) {
				doubtful = append(doubtful, id)
			}
		}
	})
	return doubtful, nil
}

// listMachines looks at everything, and returns the machines that are in doubt
// after it, and those that are named and have never been seen.
func (o *Observer) listMachines(ctx context.Context, a *account) (doubtful []string, began time.Time, err error) {
	all, m, err := timed(ctx, o, a, callList, length, o.backend.ListMachines)
	if err != nil {
		return nil, m.began, err
	}
	o.facts.update(func() {
		shown := o.takeShown(all, m, &doubtful)
		for id := range o.facts.machines.held {
			if !shown[id] && o.facts.machines.lacking(id, m) {
				doubtful = append(doubtful, id)
			}
		}
	})
	return doubtful, m.began, nil
}

// takeShown takes in what a list shows; machines that nobody holds or names
// are not kept.
func (o *Observer) takeShown(all []*metal.Machine, m moment, doubtful *[]string) (shown map[string]bool) {
	shown = make(map[string]bool, len(all))
	for _, machine := range all {
		shown[machine.ID] = true
		if _, known := o.facts.machines.held[machine.ID]; !known && machine.Allocation == nil && !o.facts.isNamed(metal.KindMachine, machine.ID) {
			continue
		}
		if o.facts.machines.take(machine.ID, machine, m, inList) {
			*doubtful = append(*doubtful, machine.ID)
		}
	}
	return shown
}

// lookAtNetwork looks at one network, twice if it seems to be gone.
func (o *Observer) lookAtNetwork(ctx context.Context, a *account, id string) error {
	network, m, err := timed(ctx, o, a, callNetworkGet, single, func(ctx context.Context) (*metal.Network, error) { return o.backend.Network(ctx, id) })
	if err != nil && !metal.IsNotFound(err) {
		return err
	}
	var doubtful bool
	o.facts.update(func() { doubtful = o.facts.networks.take(id, network, m, byGet) })
	if !doubtful {
		return nil
	}
	found, m, err := timed(ctx, o, a, callNetworkFind, length, func(ctx context.Context) ([]*metal.Network, error) {
		return o.backend.FindNetworks(ctx, metal.NetworkQuery{ID: id})
	})
	if err != nil {
		return err
	}
	o.facts.update(func() { o.facts.networks.take(id, only(found), m, byFind) })
	return nil
}

// lookAtIP looks at one address, twice if it seems to be gone.
func (o *Observer) lookAtIP(ctx context.Context, a *account, address string) error {
	ip, m, err := timed(ctx, o, a, callIPGet, single, func(ctx context.Context) (*metal.IP, error) { return o.backend.IP(ctx, address) })
	if err != nil && !metal.IsNotFound(err) {
		return err
	}
	var doubtful bool
	o.facts.update(func() { doubtful = o.facts.ips.take(address, ip, m, byGet) })
	if !doubtful {
		return nil
	}
	found, m, err := timed(ctx, o, a, callIPFind, length, func(ctx context.Context) ([]*metal.IP, error) {
		return o.backend.FindIPs(ctx, metal.IPQuery{Address: address})
	})
	if err != nil {
		return err
	}
	o.facts.update(func() { o.facts.ips.take(address, only(found), m, byFind) })
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
