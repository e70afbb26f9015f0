// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"math"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// callKind is a kind of call whose cost is known by a law.
type callKind int

const (
	callGet callKind = iota
	callFind
	callList
	callNetworkGet
	callNetworkFind
	callIPGet
	callIPFind
	numCallKinds
)

// costModel estimates what calls cost the metal-api: the laws of
// docs/metal-api.md, Q63, times what this metal-api was measured to take of them.
type costModel struct {
	clock clock.WithTicker

	mu        sync.Mutex
	fleetSize int
	kinds     [numCallKinds]costEstimate
	// answered is when a call was last answered.
	answered time.Time
}

// costEstimate is what calls of one kind cost, in multiples of the law.
type costEstimate struct {
	// measured is the present cost as of the time at, base the cost without load.
	measured, unloaded float64
	measuredAt         time.Time
	// halfLife is the time in which half of what now is above base is forgotten.
	halfLife time.Duration
	// answered is when the last call was answered, newest when the newest of
	// those that were answered began.
	answered, newestAnswered time.Time
	// inFlight are the calls in flight.
	inFlight map[*time.Time]struct{}
}

const (
	// unloadedFall is the weight of a measurement below the cost without load, and
	// unloadedRise by what one above it raises that at most: a metal-api that has got
	// slower for good is known to be so after some hundred observations.
	unloadedFall, unloadedRise = 0.5, 1.005
	// minRatio keeps an estimate from vanishing.
	minRatio = 1.0 / 50
	// defaultFleetSize is how many machines there are until a list has counted them.
	defaultFleetSize = 1000
)

func newCostModel(c clock.WithTicker) *costModel {
	s := &costModel{clock: c, fleetSize: defaultFleetSize}
	for k := range s.kinds {
		s.kinds[k] = costEstimate{measured: 1, unloaded: 1, halfLife: minHalfLife, inFlight: map[*time.Time]struct{}{}}
	}
	return s
}

// baselineCost is the cost in a fleet of n machines with so many hits.
func baselineCost(k callKind, n, hits int) time.Duration {
	const us = time.Microsecond
	switch k {
	case callGet:
		return 3500 * us
	case callFind:
		return 3000*us + time.Duration(n)*90*us + time.Duration(hits)*450*us
	case callList:
		return 3000*us + time.Duration(n)*500*us
	case callNetworkGet:
		return 2500 * us
	case callNetworkFind:
		return 2000*us + time.Duration(hits)*1600*us
	case callIPGet:
		return 1500 * us
	default:
		return 10_000 * us
	}
}

// cost is what a call costs now, as far as is known.
func (c *costModel) cost(k callKind, hits int) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return scale(baselineCost(k, c.fleetSize, hits), c.loadFactor(k))
}

// latency is how long it takes now until a call is answered: no less than the
// calls of the kind that are in flight have taken, if none was answered since
// they began.
func (c *costModel) latency(k callKind, hits int) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &c.kinds[k]
	longest := scale(baselineCost(k, c.fleetSize, hits), c.loadFactor(k))
	for began := range e.inFlight {
		if !began.Before(e.answered) {
			longest = max(longest, c.clock.Since(*began))
		}
	}
	return longest
}

func (c *costModel) loadFactor(k callKind) float64 {
	now := c.clock.Now()
	e, get := &c.kinds[k], &c.kinds[callGet]
	f := e.current(now)
	if get.measuredAt.After(e.measuredAt) {
		// A metal-api that is busy is so for calls of every kind.
		f = max(f, e.unloaded*get.current(now)/get.unloaded)
	}
	return f
}

func (e *costEstimate) current(now time.Time) float64 {
	if e.measured <= e.unloaded {
		return e.measured
	}
	return e.unloaded + (e.measured-e.unloaded)*math.Exp2(-now.Sub(e.measuredAt).Seconds()/e.halfLife.Seconds())
}

// start notes that a call begins.
func (c *costModel) start(k callKind) (began *time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now()
	c.kinds[k].inFlight[&now] = struct{}{}
	return &now
}

// finish notes that a call has ended, and returns whether it is an exception: one
// that began later was answered before it.
func (c *costModel) finish(k callKind, began *time.Time, answered bool) (exception bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &c.kinds[k]
	delete(e.inFlight, began)
	exception = e.newestAnswered.After(*began)
	if answered {
		c.answered = c.clock.Now()
		e.answered = c.answered
		if began.After(e.newestAnswered) {
			e.newestAnswered = *began
		}
	}
	return exception
}

// answeredSince reports whether a call of any kind was answered after t.
func (c *costModel) answeredSince(t time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answered.After(t)
}

// longestUnanswered is for how long the calls in flight have waited for an answer, of
// whatever kind.
func (c *costModel) longestUnanswered() (longest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range c.kinds {
		for began := range c.kinds[k].inFlight {
			if !began.Before(c.answered) {
				longest = max(longest, c.clock.Since(*began))
			}
		}
	}
	return longest
}

// setFleetSize records how many machines a list has shown.
func (c *costModel) setFleetSize(machines int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fleetSize = machines
}

// answerTime is for how long the metal-api worked on a call: what was waited for
// without the delay in this process, which is an estimate; no less than without load.
func (c *costModel) answerTime(k callKind, hits int, wait *metal.AnswerTime) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	waited := wait.Total()
	return max(waited-wait.Delay(), min(waited, scale(baselineCost(k, c.fleetSize, hits), c.kinds[k].unloaded)))
}

// recordCost records what a call cost, or one of many that ran concurrently.
func (c *costModel) recordCost(k callKind, hits int, cost time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now()
	e := &c.kinds[k]
	ratio := max(float64(cost)/float64(baselineCost(k, c.fleetSize, hits)), minRatio)
	expected := e.current(now)
	switch {
	case ratio > 2*expected:
		e.halfLife = min(2*e.halfLife, maxHalfLife)
	case ratio < expected/2:
		e.halfLife = minHalfLife
	}
	e.measured, e.measuredAt = ratio, now
	if ratio < e.unloaded {
		e.unloaded += unloadedFall * (ratio - e.unloaded)
	} else {
		e.unloaded = min(ratio, e.unloaded*unloadedRise)
	}
}

// recordTimeout records that a call was abandoned after waiting for so long: it costs
// that, and more.
func (c *costModel) recordTimeout(k callKind, hits int, waited time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &c.kinds[k]
	ratio := float64(waited) / float64(baselineCost(k, c.fleetSize, hits))
	if now := c.clock.Now(); ratio > e.current(now) {
		e.measured, e.measuredAt, e.halfLife = ratio, now, min(2*e.halfLife, maxHalfLife)
	}
}

// isSlow reports whether a call of the kind that took so long was slow.
func (c *costModel) isSlow(k callKind, hits int, took time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return took > scale(baselineCost(k, c.fleetSize, hits), slowFactor*c.kinds[k].unloaded)+slowMargin
}

// probeDue reports whether gets were slow when one was last measured, which is
// long ago.
func (c *costModel) probeDue() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &c.kinds[callGet]
	now := c.clock.Now()
	return len(e.inFlight) == 0 && e.measured > slowFactor*e.unloaded && now.Sub(e.measuredAt) >= probeInterval
}

// isConcurrent reports whether calls of the kind are made many at a time.
func (k callKind) isConcurrent() bool { return k == callGet || k == callNetworkGet || k == callIPGet }
