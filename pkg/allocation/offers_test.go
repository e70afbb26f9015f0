// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// fakeOffers is a catalogue and capacities of the simulated metal-api, with what a test adds.
type fakeOffers struct {
	env *environment

	layouts      []*metal.FilesystemLayout
	constraints  []*metal.SizeImageConstraint
	reservations []*metal.Reservation
	project      *metal.Project
	images       []*metal.Image
	// newLayouts are those that are known once layouts are read again.
	newLayouts []*metal.FilesystemLayout
	// reservationsRead is when reservations were read before; nil: never.
	reservationsRead atomic.Pointer[time.Time]
	// limit is why nothing more may be looked up past the cache.
	limit error
	// networks are looked up as they are here.
	networks map[string]*metal.Network
	// constraintsErr is why sizes and their constraints are not read again; unloaded: one of the
	// lists never was.
	constraintsErr error
	unloaded       bool
	// noSuperNetwork: no partition has one.
	noSuperNetwork bool
	// failing is why nothing can be looked up, stale why machines are not observed again.
	failing, stale error
	// observed is when machines were observed; zero: now. unobserved: never.
	observed   time.Time
	unobserved bool
	// started receives from each refresh of the fleet, which ends with proceed; nil: at once.
	started, proceed chan struct{}
	// onReservations is called by each read of reservations.
	onReservations   func()
	refreshes, scans atomic.Int32
}

// withOffers gives the server a catalogue and capacities.
func (env *environment) withOffers() *fakeOffers {
	o := &fakeOffers{env: env,
		layouts: []*metal.FilesystemLayout{
			{ID: "default-small", Sizes: []string{simulator.SmallSize, simulator.LargeSize}, Images: map[string]string{"ubuntu": "*", "debian": "*", "firewall-ubuntu": "*"}},
			{ID: "manual"},
		},
		project: &metal.Project{ID: simulator.ProjectA},
	}
	env.p.opts.Offers = &Offers{Catalogue: o, Capacities: fakeCapacities{o}}
	return o
}

func (o *fakeOffers) WithAllowance(ctx context.Context, _ string) context.Context { return ctx }

func lookupIn[T any](o *fakeOffers, list func(context.Context) ([]*T, error), id func(*T) string, wanted string) (*T, []string, error) {
	if o.failing != nil {
		return nil, nil, o.failing
	}
	all, err := list(context.Background())
	if err != nil {
		return nil, nil, err
	}
	var ids []string
	for _, e := range all {
		if id(e) == wanted {
			return e, nil, nil
		}
		ids = append(ids, id(e))
	}
	return nil, ids, nil
}

func (o *fakeOffers) LookupSize(_ context.Context, id string) (*metal.Size, []string, error) {
	return lookupIn(o, o.env.client.ListSizes, func(s *metal.Size) string { return s.ID }, id)
}

func (o *fakeOffers) LookupPartition(_ context.Context, id string) (*metal.Partition, []string, error) {
	return lookupIn(o, o.env.client.ListPartitions, func(p *metal.Partition) string { return p.ID }, id)
}

func (o *fakeOffers) LookupImage(ctx context.Context, id, feature string) (*metal.Image, []string, error) {
	if o.failing != nil {
		return nil, nil, o.failing
	}
	all, err := o.env.client.ListImages(ctx)
	if err != nil {
		return nil, nil, err
	}
	var ids []string
	for _, i := range append(all, o.images...) {
		if feature != "" && !slices.Contains(i.Features, feature) {
			continue
		}
		if i.ID == id || i.Alias == id {
			return i, nil, nil
		}
		ids = append(ids, i.Alias)
	}
	return nil, ids, nil
}

func (o *fakeOffers) LookupNetwork(ctx context.Context, id, _ string) (*metal.Network, []string, error) {
	if o.failing != nil {
		return nil, nil, o.failing
	}
	if n := o.networks[id]; n != nil {
		return n, nil, nil
	}
	n, err := o.env.client.Network(ctx, id)
	if metal.IsNotFound(err) {
		return nil, nil, nil
	}
	return n, nil, err
}

func (o *fakeOffers) LookupMachine(ctx context.Context, id, project string) (*metal.Machine, error) {
	if o.failing != nil {
		return nil, o.failing
	}
	m, err := o.env.client.Machine(ctx, id)
	if metal.IsNotFound(err) || m != nil && m.Allocation != nil && m.Project() != project {
		return nil, nil
	}
	return m, err
}

func (o *fakeOffers) LookupLayouts(context.Context) ([]*metal.FilesystemLayout, error) {
	return o.layouts, o.failing
}

func (o *fakeOffers) CurrentLayouts(context.Context) ([]*metal.FilesystemLayout, error) {
	return append(o.layouts, o.newLayouts...), o.failing
}

func (o *fakeOffers) AcquireMachineLookup(context.Context, string) error { return o.limit }

func (o *fakeOffers) LookupSuperNetwork(_ context.Context, partition string) (*metal.Network, error) {
	if o.failing != nil || o.noSuperNetwork {
		return nil, o.failing
	}
	return &metal.Network{PrivateSuper: true, Partition: partition}, nil
}

func (o *fakeOffers) Loaded(metal.RefKind) bool { return o.failing == nil && !o.unloaded }

func (o *fakeOffers) CachedReservations() ([]*metal.Reservation, time.Time) {
	read := o.reservationsRead.Load()
	if read == nil {
		return nil, time.Time{}
	}
	return o.reservations, *read
}

func (o *fakeOffers) SizeImageConstraints() []*metal.SizeImageConstraint { return o.constraints }

func (o *fakeOffers) RefreshProject(context.Context, string) error { return o.failing }

func (o *fakeOffers) Project(string) *metal.Project { return o.project }

func (o *fakeOffers) CurrentReservations(context.Context) ([]*metal.Reservation, error) {
	if o.onReservations != nil {
		o.onReservations()
	}
	if o.failing == nil {
		o.reservationsRead.Store(new(o.env.clock.Now()))
	}
	return o.reservations, o.failing
}

// fakeCapacities is the other half of fakeOffers, whose Refresh has another signature.
type fakeCapacities struct{ *fakeOffers }

func (o *fakeOffers) Refresh(context.Context, ...metal.RefKind) error {
	if o.failing != nil {
		return &metal.StaleError{Cause: o.failing}
	}
	return o.constraintsErr
}

func (o fakeCapacities) Refresh(_ context.Context, scope metal.Scope) error {
	o.refreshes.Add(1)
	if !scope.Capacities {
		o.scans.Add(1)
	}
	if o.started != nil {
		o.started <- struct{}{}
		<-o.proceed
	}
	return o.stale
}

func (o *fakeOffers) CapacityObserved() time.Time {
	switch {
	case o.unobserved:
		return time.Time{}
	case o.observed.IsZero():
		return o.env.clock.Now()
	}
	return o.observed
}

func (o *fakeOffers) Capacity(partition, size string) (metal.Capacity, bool) {
	c := metal.Capacity{Partition: partition, Size: size}
	all, _ := o.env.client.ListMachines(context.Background())
	for _, m := range all {
		if m.Partition == partition && m.Size == size {
			c.Add(m)
		}
	}
	return c, c.Total > 0
}

func (o *fakeOffers) AllocatedOf(project, partition, size string) (n int) {
	for _, m := range o.env.sim.Inventory().AllocatedIn(project) {
		if m.Size == size && m.Partition == partition {
			n++
		}
	}
	return n
}

// emptyFleet has the operator reserve all machines of a size but some.
func (env *environment) emptyFleet(size string, left int) {
	for _, m := range env.sim.Inventory().Machines {
		if m.Size != size || m.Allocated {
			continue
		}
		if left--; left >= 0 {
			continue
		}
		if err := env.sim.Reserve(m.ID, "not for you"); err != nil {
			env.t.Fatal(err)
		}
	}
}

var longAgo = time.Date(2026, 11, 22, 11, 0, 0, 0, time.UTC)
