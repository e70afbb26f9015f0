package metal

import (
	"sync"
	"time"
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

// costs estimates what calls cost the metal-api: the laws of the README ("What
// calls cost"), times what this metal-api was measured to take of them.
type costs struct {
	mu    sync.Mutex
	fleet int
	scale [calls]float64
}

const (
	// costLearning is the weight of the newest measurement.
	costLearning = 0.2
	// Gets run side by side by the dozen, and wait for each other and for us.
	// What the metal-api does for one of them shows in those that waited least:
	// their estimate falls fast and rises slowly.
	getsFall, getsRise = 0.5, 0.005
	// costBound is how many times its estimate a call is taken to have cost at
	// most, and costFloor what it may cost in any case: one that hung, and was
	// answered at last, kept the metal-api waiting, not busy. If calls do get
	// dearer, the estimates follow within a few of them.
	costBound = 4.0
	costFloor = 20 * time.Millisecond
	// leastScale keeps an estimate from vanishing.
	leastScale = 1.0 / 50
	// fleetGuess is how many machines there are until a list has counted them.
	fleetGuess = 1000
)

func newCosts() *costs {
	c := &costs{fleet: fleetGuess}
	for i := range c.scale {
		c.scale[i] = 1
	}
	return c
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

func (c *costs) of(k call, hits int) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return scale(law(k, c.fleet, hits), c.scale[k])
}

// measured takes in that a call took so long, and returns what it cost.
func (c *costs) measured(k call, hits int, took time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k == callList {
		c.fleet = hits
	}
	one := law(k, c.fleet, hits)
	cost := min(took, max(scale(one, costBound*c.scale[k]), costFloor))
	ratio := max(float64(cost)/float64(one), leastScale)
	weight := costLearning
	if k.sideBySide() {
		weight = getsRise
		if ratio < c.scale[k] {
			weight = getsFall
		}
	}
	c.scale[k] += weight * (ratio - c.scale[k])
	if k.sideBySide() {
		cost = min(cost, scale(one, c.scale[k]))
	}
	return cost
}

// sideBySide tells whether calls of the kind are made many at a time.
func (k call) sideBySide() bool { return k == callGet || k == callNetworkGet || k == callIPGet }
