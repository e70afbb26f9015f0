package observation

import (
	"math"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// call is a kind of call whose cost is known by a law.
type call int

const (
	callGet call = iota
	callFind
	callList
	callNetworkGet
	callNetworkFind
	callIPGet
	callIPFind
	calls
)

// costs estimates what calls cost the metal-api: the laws of
// docs/metal-api.md, Q63, times what this metal-api was measured to take of them.
type costs struct {
	clock clock.WithTicker

	mu    sync.Mutex
	fleet int
	kinds [calls]estimate
	// answered is when a call was last answered.
	answered time.Time
}

// estimate is what calls of one kind cost, in multiples of the law.
type estimate struct {
	// now is the present cost as of the time at, base the cost without load.
	now, base float64
	at        time.Time
	// memory is the time in which half of what now is above base is forgotten.
	memory time.Duration
	// answered is when the last call was answered, newest when the newest of
	// those that were answered began.
	answered, newest time.Time
	// under are the calls under way.
	under map[*time.Time]struct{}
}

const (
	// baseFall is the weight of a measurement below the cost without load, and
	// baseRise by what one above it raises that at most: a metal-api that has got
	// slower for good is known to be so after some hundred looks.
	baseFall, baseRise = 0.5, 1.005
	// leastScale keeps an estimate from vanishing.
	leastScale = 1.0 / 50
	// fleetGuess is how many machines there are until a list has counted them.
	fleetGuess = 1000
)

func newCosts(c clock.WithTicker) *costs {
	s := &costs{clock: c, fleet: fleetGuess}
	for k := range s.kinds {
		s.kinds[k] = estimate{now: 1, base: 1, memory: leastMemory, under: map[*time.Time]struct{}{}}
	}
	return s
}

// law is the cost in a fleet of n machines with so many hits.
func law(k call, n, hits int) time.Duration {
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
		return 10_000 * us
	case callIPGet:
		return 1500 * us
	default:
		return 10_000 * us
	}
}

// of is what a call costs now, as far as is known.
func (c *costs) of(k call, hits int) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return scale(law(k, c.fleet, hits), c.factor(k))
}

// takes is how long it takes now until a call is answered: no less than the
// calls of the kind that are under way have taken, if none was answered since
// they began.
func (c *costs) takes(k call, hits int) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &c.kinds[k]
	longest := scale(law(k, c.fleet, hits), c.factor(k))
	for began := range e.under {
		if !began.Before(e.answered) {
			longest = max(longest, c.clock.Since(*began))
		}
	}
	return longest
}

func (c *costs) factor(k call) float64 {
	now := c.clock.Now()
	e, get := &c.kinds[k], &c.kinds[callGet]
	f := e.present(now)
	if get.at.After(e.at) {
		// A metal-api that is busy is so for calls of every kind.
		f = max(f, e.base*get.present(now)/get.base)
	}
	return f
}

func (e *estimate) present(now time.Time) float64 {
	if e.now <= e.base {
		return e.now
	}
	return e.base + (e.now-e.base)*math.Exp2(-now.Sub(e.at).Seconds()/e.memory.Seconds())
}

// begin notes that a call begins.
func (c *costs) begin(k call) (began *time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now()
	c.kinds[k].under[&now] = struct{}{}
	return &now
}

// end notes that a call has ended, and returns whether it is an exception: one
// that began later was answered before it.
func (c *costs) end(k call, began *time.Time, answered bool) (exception bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &c.kinds[k]
	delete(e.under, began)
	exception = e.newest.After(*began)
	if answered {
		c.answered = c.clock.Now()
		e.answered = c.answered
		if began.After(e.newest) {
			e.newest = *began
		}
	}
	return exception
}

// answeredSince tells whether a call of any kind was answered after t.
func (c *costs) answeredSince(t time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answered.After(t)
}

// unanswered is for how long the calls under way have waited for an answer, of
// whatever kind.
func (c *costs) unanswered() (longest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range c.kinds {
		for began := range c.kinds[k].under {
			if !began.Before(c.answered) {
				longest = max(longest, c.clock.Since(*began))
			}
		}
	}
	return longest
}

// counted takes in how many machines a list showed.
func (c *costs) counted(machines int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fleet = machines
}

// learn takes in what a call cost, or one of many that ran side by side.
func (c *costs) learn(k call, hits int, cost time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now()
	e := &c.kinds[k]
	ratio := max(float64(cost)/float64(law(k, c.fleet, hits)), leastScale)
	expected := e.present(now)
	switch {
	case ratio > 2*expected:
		e.memory = min(2*e.memory, mostMemory)
	case ratio < expected/2:
		e.memory = leastMemory
	}
	e.now, e.at = ratio, now
	if ratio < e.base {
		e.base += baseFall * (ratio - e.base)
	} else {
		e.base = min(ratio, e.base*baseRise)
	}
}

// missed takes in that a call was given up after waiting for so long: it costs
// that, and more.
func (c *costs) missed(k call, hits int, waited time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &c.kinds[k]
	ratio := float64(waited) / float64(law(k, c.fleet, hits))
	if now := c.clock.Now(); ratio > e.present(now) {
		e.now, e.at, e.memory = ratio, now, min(2*e.memory, mostMemory)
	}
}

// slow tells whether a call of the kind that took so long was slow.
func (c *costs) slow(k call, hits int, took time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return took > scale(law(k, c.fleet, hits), slowness*c.kinds[k].base)+slack
}

// probeDue tells whether gets were slow when one was last measured, which is
// long ago.
func (c *costs) probeDue() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &c.kinds[callGet]
	now := c.clock.Now()
	return len(e.under) == 0 && e.now > slowness*e.base && now.Sub(e.at) >= probeInterval
}

// sideBySide tells whether calls of the kind are made many at a time.
func (k call) sideBySide() bool { return k == callGet || k == callNetworkGet || k == callIPGet }
