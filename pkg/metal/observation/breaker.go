// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"math/rand/v2"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// circuitBreaker remembers that the metal-api does not answer, and how often it may be
// asked nevertheless.
type circuitBreaker struct {
	clock clock.WithTicker

	mu       sync.Mutex
	cause    error
	failures int
	// suspect is true if the last answer was a proxy's instead of the
	// metal-api's.
	suspect bool
	retryAt time.Time
	// closedAt is when the metal-api last answered after it had not.
	closedAt time.Time
}

// recordSuccess notes an answer; it returns true if there was none before it.
func (c *circuitBreaker) recordSuccess() (back bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if back = c.cause != nil; back {
		c.closedAt = c.clock.Now()
	}
	c.cause, c.failures, c.suspect = nil, 0, false
	return back
}

// recordFailureStatus notes an answer with a status that says that there is none, such
// as a proxy's 502. The first after an answer is no outage: it can be one of several
// backends of the proxy, or its restart, while other calls succeed.
func (c *circuitBreaker) recordFailureStatus(err error) {
	c.mu.Lock()
	first := c.cause == nil && !c.suspect
	c.suspect = true
	c.mu.Unlock()
	if !first {
		c.recordFailure(err)
	}
}

// recordFailure notes that there was none.
func (c *circuitBreaker) recordFailure(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil || !c.clock.Now().Before(c.retryAt) {
		c.retryAt = c.clock.Now().Add(c.nextBackoff())
	}
	c.cause = err
}

func (c *circuitBreaker) nextBackoff() time.Duration {
	d := min(minBackoff<<min(c.failures, 8), maxBackoff)
	c.failures++
	return scale(d, 1-jitter+2*jitter*rand.Float64())
}

// allow returns nil if an observation may begin: always while the metal-api answers;
// while it does not, one each backoff. Otherwise it returns why not.
func (c *circuitBreaker) allow() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		return nil
	}
	if now := c.clock.Now(); !now.Before(c.retryAt) {
		c.retryAt = now.Add(c.nextBackoff())
		return nil
	}
	return c.cause
}

// retryAfter is how long it takes until pass lets one through.
func (c *circuitBreaker) retryAfter() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		return 0
	}
	return max(0, c.retryAt.Sub(c.clock.Now()))
}

// lastError is why the metal-api does not answer; nil if it is not.
func (c *circuitBreaker) lastError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// isOpen reports whether the metal-api does not answer.
func (c *circuitBreaker) isOpen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause != nil
}

// wasOpenSince reports whether the metal-api did not answer at any time after t.
func (c *circuitBreaker) wasOpenSince(t time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause != nil || c.closedAt.After(t)
}
