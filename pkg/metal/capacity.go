// SPDX-License-Identifier: Apache-2.0

package metal

import "slices"

// Capacity is how many machines of one size there are in one partition. Total is the sum of the
// others.
type Capacity struct {
	Partition, Size string
	Total           int
	Allocated       int
	// Free is how many are Allocatable.
	Free int
	// Faulty is how many are not allocated, and cannot be until they were repaired: dead, in a
	// crash loop, or not reclaimed.
	Faulty int
	// Unavailable is how many others are not allocated: they boot, or are locked or reserved.
	Unavailable int
}

// Add counts a machine, whose size and partition are those of the capacity.
func (c *Capacity) Add(m *Machine) {
	c.Total++
	switch {
	case m.Allocation != nil:
		c.Allocated++
	case m.Allocatable() && !m.CrashLoop && !m.FailedMachineReclaim:
		c.Free++
	case m.CrashLoop, m.FailedMachineReclaim, m.Liveliness == LivelinessDead:
		c.Faulty++
	default:
		c.Unavailable++
	}
}

// AvailableTo returns how many of the free machines a project can allocate, one after another,
// by size, and how many it cannot, since they are reserved for other projects. A project without
// reservations is "". All are the reservations of all sizes and partitions, and allocated is how
// many machines and firewalls of the size and in the partition a project has.
//
// A project gets machines up to its largest reservation whatever is reserved for others, and
// beyond that what the others' reservations leave. If a project has several, they do not add up
// (docs/metal-api.md, Q72).
func (c Capacity) AvailableTo(project string, all []*Reservation, allocated func(project string) int) (available, reserved int) {
	own, others := 0, 0
	for _, r := range all {
		if r.Size != c.Size || !slices.Contains(r.Partitions, c.Partition) {
			continue
		}
		left := max(r.Amount-allocated(r.Project), 0)
		if r.Project == project {
			own = max(own, left)
		} else {
			others += left
		}
	}
	own = min(own, c.Free)
	available = own + max(c.Free-own-others, 0)
	return available, c.Free - available
}

// Reservation keeps machines of a size, in each of some partitions, for a project.
type Reservation struct {
	ID, Size, Project string
	Partitions        []string
	Amount            int
}
