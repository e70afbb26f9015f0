// SPDX-License-Identifier: Apache-2.0

package observation

import "time"

// Defaults of Options.
const (
	DefaultBudget         = 0.05
	DefaultSweepInterval  = 10 * time.Second
	DefaultFocusInterval  = time.Second
	DefaultRefreshTimeout = time.Second
	DefaultMaxConcurrent  = 100
)

// How observations share the budget. Reads, focus and sweeps have an account each; what
// one does not need goes to the others.
const (
	// sweepShare is the part of the income that sweeps are sure of, focusShare
	// that of focus, and the rest that of reads.
	sweepShare = 0.4
	focusShare = 0.3
	// readBurstTime is for how long reads can save: 30 s of observations at 5 %, about a
	// hundred reads of a namespace of a hundred machines. focusBurstTime is for
	// how long focus can: 10 s, half a minute of a hundred machines in transition.
	readBurstTime  = 10 * time.Minute
	focusBurstTime = 200 * time.Second
	// readDebtTime, focusDebtTime and sweepDebtTime limit what an account can owe
	// after observations that took longer than expected, as the time in which the whole
	// budget earns it. What is owed beyond that is let off.
	readDebtTime  = 2 * time.Second
	focusDebtTime = 10 * time.Second
	sweepDebtTime = 10 * time.Minute
	// maxRoundCost is how much of the metal-api's time one round of focus may take.
	maxRoundCost = time.Second
	// probeBulkCost is the cost from which a find or list of focus is preceded by a get.
	probeBulkCost = 100 * time.Millisecond
	// firstBatch is how many calls of a read begin concurrently before the first
	// of them has shown how long they take now.
	firstBatch = 16
	// cheapFindCost is the cost up to which a read of a project is a find, which
	// also discovers, although gets would cost less.
	cheapFindCost = 25 * time.Millisecond
	// maxCostRatio is how many times the cost of the cheapest observation may be spent on
	// one that is sooner done. For reads it falls to 1 as their savings do.
	maxCostRatio = 3
	// remainderShare is the part of the capacity that an observation of a read leaves at
	// most to those that cost less.
	remainderShare = 0.1
	// minSweepExtraCost is what a sweep may spend on networks and IPs, and again on
	// pending verifications, if its list cost less.
	minSweepExtraCost = 250 * time.Millisecond
)

// When machines are observed by focus.
const (
	// silentAfter is how long a machine that phones home every minute may have
	// been silent before it is watched; silentLimit is when focus on it ends: the
	// metal-api notices after five minutes.
	silentAfter = 150 * time.Second
	silentLimit = 15 * time.Minute
	// focusDecayFactor stretches the interval of a machine of which nothing moves: one
	// that did not change for ten minutes is observed every ten seconds.
	focusDecayFactor = 60
	// referencesInterval is how often all that records reference is taken over, and not only
	// what changed.
	referencesInterval = time.Minute
	// forgetAfter is how long a machine is remembered that is neither allocated nor referenced.
	forgetAfter = 5 * time.Minute
)

// How observations follow the time that answers take.
const (
	// slowFactor is how many times as long as without load a call takes that counts
	// as slow, slowMargin what it may take more in any case: concurrent calls wait
	// for our own processor, too.
	slowFactor = 4
	slowMargin = 25 * time.Millisecond
	// longCallDuration is what no call waits for others that run concurrently with it.
	longCallDuration = time.Second
	// minConcurrent is how many calls may always run concurrently.
	minConcurrent = 4
	// maxBulkConcurrent is how many calls that read the whole fleet may run concurrently,
	// initialBulkConcurrent how many before any was answered.
	maxBulkConcurrent     = 16
	initialBulkConcurrent = 8
	// probeInterval is how long after the last get one more is made, whatever it
	// is expected to cost, to learn whether the metal-api is still slow.
	probeInterval = 5 * time.Second
	// minHalfLife and maxHalfLife limit the time in which half of what was
	// measured is forgotten.
	minHalfLife = 5 * time.Second
	maxHalfLife = time.Minute
	// maxUnbatched is how many observations of reads at single objects may begin one by one
	// within batchWindow. Those that arrive meanwhile become one observation together.
	maxUnbatched = 4
	batchWindow  = 10 * time.Millisecond
	// minSlowBackoff and maxSlowBackoff limit for how long a read of what took longer than
	// the refresh timeout is answered without another observation.
	minSlowBackoff = 2 * time.Second
	maxSlowBackoff = time.Minute
)

// How calls are repeated while the metal-api does not answer.
const (
	// The longest pause is short, because a read that comes within it is answered with
	// what was known before, although the metal-api may be back.
	minBackoff = time.Second
	maxBackoff = 3 * time.Second
	jitter     = 0.25

	// How often the log says that sweeps fail.
	failedSweepLogInterval = time.Minute
)
