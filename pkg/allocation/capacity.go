// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// left is what is left of the machines of a size in a partition: sums only.
type left struct {
	size, partition string
	total           int
	// available is how many the project can allocate, reserved how many it cannot, since they
	// are reserved for other projects.
	available, reserved int
}

func (o *Offers) left(project, partition, size string, reservations []*metal.Reservation) left {
	capacity, known := o.Capacities.Capacity(partition, size)
	if !known {
		capacity = metal.Capacity{Partition: partition, Size: size}
	}
	l := left{size: size, partition: partition, total: capacity.Total}
	l.available, l.reserved = capacity.AvailableTo(project, reservations, func(project string) int {
		return o.Capacities.AllocatedOf(project, partition, size)
	})
	return l
}

// String says it in numbers.
func (l left) String() string {
	text := fmt.Sprintf("%d of %d %s in %s are free", l.available, l.total, l.size, l.partition)
	if l.total == 0 {
		text = fmt.Sprintf("there is no %s in %s", l.size, l.partition)
	}
	switch l.reserved {
	case 0:
		return text
	case 1:
		return text + "; 1 is reserved for other projects"
	}
	return fmt.Sprintf("%s; %d are reserved for other projects", text, l.reserved)
}

// numbersTimeout is how long the numbers of a refusal may be waited for.
const numbersTimeout = 3 * time.Second

var (
	noMachineAvailable = regexp.MustCompile(`^refused by the metal-api: no machine available$`)
	quotaReached       = regexp.MustCompile(`^refused by the metal-api: project quota for machines reached max:(\d+)$`)
)

// withNumbers adds to the metal-api's refusal how many machines there are, as far as that is
// known: of the last observation, and of lists that were read just now, or are read for all refusals at once.
func (a *machineAllocator) withNumbers(ctx context.Context, err error) error {
	r, refused := errors.AsType[*refusal](err)
	offers := a.p.opts.Offers
	if !refused || offers == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, numbersTimeout)
	defer cancel()
	numbers := ""
	if noMachineAvailable.MatchString(r.message) {
		numbers = a.capacityNumbers(ctx)
	} else if limit := quotaReached.FindStringSubmatch(r.message); limit != nil {
		numbers = a.quotaNumbers(ctx, limit[1])
	}
	if numbers == "" {
		return err
	}
	explained := *r
	explained.message += ": " + numbers
	return &explained
}

func (a *machineAllocator) capacityNumbers(ctx context.Context) string {
	offers, partition, size := a.p.opts.Offers, a.plan.partition, a.claim.machineType
	if _, known := offers.Capacities.Capacity(partition, size); !known || a.plan.machineID != "" {
		return ""
	}
	reservations, err := offers.Catalogue.CurrentReservations(ctx)
	if err != nil {
		reservations = nil
	}
	l := offers.left(a.plan.project, partition, size, reservations)
	if l.available > 0 {
		// The metal-api knows better.
		return fmt.Sprintf("%s, as they were last observed", l)
	}
	return l.String()
}

func (a *machineAllocator) quotaNumbers(ctx context.Context, limit string) string {
	catalogue := a.p.opts.Offers.Catalogue
	if err := catalogue.RefreshProject(ctx, a.plan.project); err != nil {
		return ""
	}
	if p := catalogue.Project(a.plan.project); p != nil && p.Machines.Used != nil {
		return fmt.Sprintf("%d of %s used", *p.Machines.Used, limit)
	}
	return ""
}
