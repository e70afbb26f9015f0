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
	retryAt  time.Time
	// closedAt is when the metal-api last answered after it had not.
	closedAt time.Time
}

// recordSuccess notes an answer; it returns true if there was none before it.
func (a *circuitBreaker) recordSuccess() (back bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if back = a.cause != nil; back {
		a.closedAt = a.clock.Now()
	}
	a.cause, a.failures = nil, 0
	return back
}

// recordFailure notes that there was none.
func (a *circuitBreaker) recordFailure(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cause == nil || !a.clock.Now().Before(a.retryAt) {
		a.retryAt = a.clock.Now().Add(a.nextBackoff())
	}
	a.cause = err
}

func (a *circuitBreaker) nextBackoff() time.Duration {
	d := min(minBackoff<<min(a.failures, 8), maxBackoff)
	a.failures++
	return scale(d, 1-jitter+2*jitter*rand.Float64())
}

// allow returns nil if an observation may begin: always while the metal-api answers;
// while it does not, one each backoff. Otherwise it returns why not.
func (a *circuitBreaker) allow() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cause == nil {
		return nil
	}
	if now := a.clock.Now(); !now.Before(a.retryAt) {
		a.retryAt = now.Add(a.nextBackoff())
		return nil
	}
	return a.cause
}

// retryAfter is how long it takes until pass lets one through.
func (a *circuitBreaker) retryAfter() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cause == nil {
		return 0
	}
	return max(0, a.retryAt.Sub(a.clock.Now()))
}

// lastError is why the metal-api does not answer; nil if it is not.
func (a *circuitBreaker) lastError() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cause
}

// isOpen reports whether the metal-api does not answer.
func (a *circuitBreaker) isOpen() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cause != nil
}

// wasOpenSince reports whether the metal-api did not answer at any time after t.
func (a *circuitBreaker) wasOpenSince(t time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cause != nil || a.closedAt.After(t)
}
