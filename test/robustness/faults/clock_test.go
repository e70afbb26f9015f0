// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"
)

// A nodeClock is the clock of a node: its time of day is off by something, and
// steps. What has passed since a time that it read itself does not, as with the
// monotonic clock of a process; and timers run as ever.
type nodeClock struct {
	clock.RealClock
	off atomic.Pointer[offset]
}

// offset is how much a clock is off, and a zone by which times are known that
// read then.
type offset struct {
	by   time.Duration
	zone *time.Location
}

func newClock(off time.Duration) *nodeClock {
	c := &nodeClock{}
	c.step(off)
	return c
}

func (c *nodeClock) step(off time.Duration) {
	c.off.Store(&offset{off, time.FixedZone(off.String(), 0)})
}

// Now implements clock.PassiveClock.
func (c *nodeClock) Now() time.Time {
	off := c.off.Load()
	return time.Now().Add(off.by).In(off.zone)
}

// Since implements clock.PassiveClock.
func (c *nodeClock) Since(t time.Time) time.Duration {
	name, _ := t.Zone()
	if read, err := time.ParseDuration(name); err == nil {
		return time.Since(t.Add(-read))
	}
	return c.Now().Sub(t)
}

func TestClock_StepsAndStopwatchDoesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClock(-time.Minute)
		began := c.Now()
		time.Sleep(time.Second)
		c.step(time.Hour)
		if since := c.Since(began); since != time.Second {
			t.Errorf("%v have passed", since)
		}
		if since := c.Since(began.UTC()); since != time.Hour+time.Minute+time.Second {
			t.Errorf("by the time of day %v have passed", since)
		}
		if ahead := time.Until(c.Now()); ahead != time.Hour {
			t.Errorf("it is ahead by %v", ahead)
		}
	})
}
