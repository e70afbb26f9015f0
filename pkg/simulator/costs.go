// SPDX-License-Identifier: Apache-2.0

package simulator

import "time"

// The cost table of docs/metal-api.md, Q63. N is the number of
// machines in the fleet.
const (
	costMachineGet     = 3500 * time.Microsecond
	costFindBase       = 7500 * time.Microsecond
	costFindPerMachine = 90 * time.Microsecond  // every find reads the whole fleet's events
	costFindPerHit     = 450 * time.Microsecond // and encodes what it found
	costListPerMachine = 410 * time.Microsecond // with the former 0.5 ms
	costIssuesPer      = 4 * time.Millisecond

	costNetworkBase   = 2 * time.Millisecond
	costNetworkPerHit = 1600 * time.Microsecond
	costNetworkGet    = 2500 * time.Microsecond
	costIPFindBase    = time.Millisecond
	costIPFindPer     = 900 * time.Nanosecond

	// defaultLag is how long the clean-up of one machine's addresses takes:
	// a burst of six failures is still being cleaned up when the next
	// allocation has its addresses, one failure is not (345, 501).
	defaultLag = 13500 * time.Microsecond
)

// Phases of an allocation by size: what a caller who leaves after so many
// milliseconds leaves behind (346-358). Machine allocate: nothing up to 8 ms;
// the partition's lock from 12 to 25; nothing at 30; the machine from 35 on.
const (
	costAllocateSpec      = 6 * time.Millisecond
	costAllocateProject   = 2 * time.Millisecond
	costAllocateLayout    = 2 * time.Millisecond
	costAllocateLock      = 1 * time.Millisecond
	costAllocateCandidate = 15 * time.Millisecond
	costAllocateGather    = 2 * time.Millisecond
	costAllocateNetworks  = 6 * time.Millisecond
	costAllocateCommit    = 2 * time.Millisecond
	costAllocateAnswer    = 15 * time.Millisecond

	// Of a network allocate (360-370): nothing up to 8 ms, the network from 10
	// on, and the answer before 14, with one address family.
	costNetworkProject = 3 * time.Millisecond
	costNetworkSpec    = 3 * time.Millisecond
	costNetworkPrefix  = 3 * time.Millisecond // each
	costNetworkStore   = 2 * time.Millisecond
	costNetworkUsage   = 2 * time.Millisecond

	// Of an IP allocate (361-371): nothing up to 6 ms, the answer before 10.
	costIPProject = 3 * time.Millisecond
	costIPAcquire = 4 * time.Millisecond
	costIPStore   = 1500 * time.Microsecond

	// costLockHandover is how much later than the release of a partition's
	// lock the next one waiting has it (342).
	costLockHandover = 60 * time.Millisecond
)

// flatCost is the cost of endpoints that do not grow with anything.
func flatCost(name string) time.Duration {
	if d, ok := flatCosts[name]; ok {
		return d
	}
	return time.Millisecond
}

var flatCosts = map[string]time.Duration{
	"machine-get":             costMachineGet,
	"machine-ipmi-get":        costMachineGet,
	"firewall-get":            costMachineGet,
	"machine-update":          6 * time.Millisecond,
	"machine-state":           6 * time.Millisecond,
	"machine-power":           6 * time.Millisecond,
	"machine-reinstall":       15 * time.Millisecond,
	"machine-consolepassword": 1500 * time.Microsecond,
	"machine-delete":          10 * time.Millisecond,
	"machine-ipmi-report":     10 * time.Millisecond,
	"network-get":             costNetworkGet,
	"network-update":          7 * time.Millisecond,
	"network-delete":          10 * time.Millisecond,
	"ip-update":               3 * time.Millisecond,
	"project-get":             3500 * time.Microsecond,
	"project-create":          2 * time.Millisecond,
	"project-update":          3 * time.Millisecond,
	"project-delete":          7 * time.Millisecond,
	"health":                  5 * time.Millisecond,
	"version":                 500 * time.Microsecond,
	"user-me":                 500 * time.Microsecond,
	"switch-list":             6 * time.Millisecond,
}

// lag is how long after an answer the work behind it is done.
func (s *Simulator) lag() time.Duration {
	switch {
	case s.cfg.Lag > 0:
		return s.cfg.Lag
	case s.costs:
		return defaultLag
	}
	return 0
}

// noticeDelay is how long after its allocation the machine's waiting call
// returns: now and then after the answer, so that a free right after it can
// collide (272).
func (s *Simulator) noticeDelay() time.Duration {
	return time.Duration(float64(s.lag()) * (0.5 + 0.9*s.rng.Float64()))
}
