// SPDX-License-Identifier: Apache-2.0

package metal

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

// Reservation keeps machines of a size, in each of some partitions, for a project.
type Reservation struct {
	ID, Size, Project string
	Partitions        []string
	Amount            int
}
