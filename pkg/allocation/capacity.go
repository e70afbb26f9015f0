// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// left is what is left of the machines of a size in a partition: sums only.
type left struct {
	size, partition string
	// total is how many there are, and free how many of them any project could allocate, were
	// there no reservations.
	total, free int
	// available is how many of the free ones the project can allocate, and reserved how many it
	// cannot, since they are reserved for other projects.
	available, reserved int
	// reservationsUnknown: available and reserved are not known, unless nothing is free.
	reservationsUnknown bool
}

func (o *Offers) left(project, partition, size string, reservations []*metal.Reservation) left {
	capacity, known := o.Capacities.Capacity(partition, size)
	if !known {
		capacity = metal.Capacity{Partition: partition, Size: size}
	}
	l := left{size: size, partition: partition, total: capacity.Total, free: capacity.Free}
	l.available, l.reserved = capacity.AvailableTo(project, reservations, func(project string) int {
		return o.Capacities.AllocatedOf(project, partition, size)
	})
	return l
}

// String says it in numbers. The text changes with nothing but the numbers.
func (l left) String() string {
	switch {
	case l.total == 0:
		return fmt.Sprintf("there is no %s in %s", l.size, l.partition)
	case l.reservationsUnknown && l.free > 0:
		return fmt.Sprintf("%d of %d %s in %s are free; how many of them are reserved for other projects is not known", l.free, l.total, l.size, l.partition)
	}
	return fmt.Sprintf("%d of %d %s in %s are available (free: %d, reserved for other projects: %d)", l.available, l.total, l.size, l.partition, l.free, l.reserved)
}

const (
	// maxReservationAge is how old reservations may be of which a refusal says numbers: twice
	// the longest pause between two attempts.
	maxReservationAge = 10 * time.Minute
	// reservationsTimeout is how long the read of reservations may take that follows a refusal.
	reservationsTimeout = 3 * time.Second
)

// noMachineAvailable is the refusal of an allocation by size for which no machine is left; numbers
// may follow.
var noMachineAvailable = regexp.MustCompile(`^refused by the metal-api: no machine available($|: )`)

// withNumbers adds to the metal-api's refusal how many machines there are, as far as that is
// known: it reads nothing, since the refusal is not recorded yet.
func (a *machineAllocator) withNumbers(err error) error {
	r, refused := errors.AsType[*refusal](err)
	offers, partition, size := a.p.opts.Offers, a.plan.partition, a.claim.machineType
	if !refused || offers == nil || a.plan.machineID != "" || !noMachineAvailable.MatchString(r.message) {
		return err
	}
	if _, known := offers.Capacities.Capacity(partition, size); !known {
		return err
	}
	reservations, read := offers.Catalogue.CachedReservations()
	l := offers.left(a.plan.project, partition, size, reservations)
	l.reservationsUnknown = a.p.clock.Since(read) > maxReservationAge
	explained := *r
	explained.message += ": " + l.String()
	if l.available > 0 && !l.reservationsUnknown {
		// The metal-api knows better.
		explained.message += ", as they were last observed"
	}
	return &explained
}

// readReservations reads the reservations after a refusal of which they would have explained
// something: the next one says more. The list is read once for all that are refused at a time.
func (a *machineAllocator) readReservations(ctx context.Context, err error) {
	r, refused := errors.AsType[*refusal](err)
	if !refused || a.p.opts.Offers == nil || a.plan.machineID != "" || !noMachineAvailable.MatchString(r.message) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reservationsTimeout)
	defer cancel()
	if _, err := a.p.opts.Offers.Catalogue.CurrentReservations(ctx); err != nil {
		klog.FromContext(ctx).V(1).Info("Failed to read the reservations", "err", err)
	}
}
