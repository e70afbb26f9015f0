package faults_test

import (
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"
)

// A nodeClock is the clock of a node: it is off by something, and steps. Timers
// run as ever.
type nodeClock struct {
	clock.RealClock
	off atomic.Int64
}

func newClock(off time.Duration) *nodeClock {
	c := &nodeClock{}
	c.step(off)
	return c
}

func (c *nodeClock) step(off time.Duration) { c.off.Store(int64(off)) }

// Now implements clock.PassiveClock.
func (c *nodeClock) Now() time.Time { return time.Now().Add(time.Duration(c.off.Load())) }

// Since implements clock.PassiveClock.
func (c *nodeClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }
