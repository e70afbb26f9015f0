// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"
)

// wallClock is the real clock, put forward: what takes the metal-api minutes
// to notice need not take a test minutes.
type wallClock struct {
	clock.RealClock
	ahead atomic.Int64
}

func (c *wallClock) Now() time.Time                  { return c.RealClock.Now().Add(time.Duration(c.ahead.Load())) }
func (c *wallClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// Later puts the metal-api's clock forward.
func (s *Site) Later(d time.Duration) {
	s.clock.ahead.Add(int64(d))
	s.Metal.Sim.Advance()
	s.Metal.Sim.RunLiveliness()
}
