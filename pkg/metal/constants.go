package metal

import "time"

// Defaults of ObserverOptions.
const (
	DefaultBudget        = 0.05
	DefaultSweepInterval = 10 * time.Second
	DefaultFocusInterval = time.Second
	DefaultReadLimit     = time.Second
	DefaultParallel      = 100
)

// How looks share the budget. Reads and focus live on one account, sweeps on
// the other; what one does not need goes to the other.
const (
	// sweepShare is the part of the income that sweeps are sure of.
	sweepShare = 0.5
	// burstTime is for how long reads can save: 30 s of looks at 5 %, about a
	// hundred reads of a namespace of a hundred machines.
	burstTime = 10 * time.Minute
	// focusReserve is what focus leaves of the savings to reads, at most a
	// quarter of what can be saved.
	focusReserve = 500 * time.Millisecond
	// cheapFind is the cost up to which a read of a project is a find, which
	// also discovers, although gets would cost less.
	cheapFind = 25 * time.Millisecond
	// hasteCost is how many times the cost of the cheapest look may be spent on
	// one that is sooner done.
	hasteCost = 3
	// leastExtras is what a sweep may spend on networks and IPs, and again on
	// suspects, if its list cost less.
	leastExtras = 250 * time.Millisecond
)

// When machines are looked at closely.
const (
	// silentAfter is how long a machine that phones home every minute may have
	// been silent before it is watched; silentUntil is when it is given up: the
	// metal-api notices after five minutes.
	silentAfter = 150 * time.Second
	silentUntil = 15 * time.Minute
	// focusDecay stretches the interval of a machine of which nothing moves: one
	// that did not change for ten minutes is looked at every ten seconds.
	focusDecay = 60
	// forgetAfter is how long a machine is remembered that nobody holds or names.
	forgetAfter = 5 * time.Minute
)

// How calls are repeated while the metal-api is away.
const (
	// The longest pause is short, because a read that comes within it is told
	// what was known before, although the metal-api may be back.
	leastBackoff = time.Second
	mostBackoff  = 3 * time.Second
	jitter       = 0.25
)
