package observation

import (
	"math/rand/v2"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// away remembers that the metal-api does not answer, and how often it may be
// asked nevertheless.
type away struct {
	clock clock.WithTicker

	mu    sync.Mutex
	cause error
	tries int
	next  time.Time
	// back is when the metal-api last answered after it had not.
	back time.Time
}

// reached notes an answer; it returns true if there was none before it.
func (a *away) reached() (back bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if back = a.cause != nil; back {
		a.back = a.clock.Now()
	}
	a.cause, a.tries = nil, 0
	return back
}

// missed notes that there was none.
func (a *away) missed(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cause == nil || !a.clock.Now().Before(a.next) {
		a.next = a.clock.Now().Add(a.backoff())
	}
	a.cause = err
}

func (a *away) backoff() time.Duration {
	d := min(leastBackoff<<min(a.tries, 8), mostBackoff)
	a.tries++
	return scale(d, 1-jitter+2*jitter*rand.Float64())
}

// pass returns nil if a look may begin: always while the metal-api answers;
// while it does not, one each backoff. Otherwise it returns why not.
func (a *away) pass() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cause == nil {
		return nil
	}
	if now := a.clock.Now(); !now.Before(a.next) {
		a.next = now.Add(a.backoff())
		return nil
	}
	return a.cause
}

// wait is how long it takes until pass lets one through.
func (a *away) wait() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cause == nil {
		return 0
	}
	return max(0, a.next.Sub(a.clock.Now()))
}

// why is why the metal-api is away; nil if it is not.
func (a *away) why() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cause
}

// gone tells whether the metal-api is away.
func (a *away) gone() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cause != nil
}

// since tells whether the metal-api was away at any time after t.
func (a *away) since(t time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cause != nil || a.back.After(t)
}
