// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"context"
	"sync"
	"time"
)

// limiter bounds how many calls run concurrently. The bound follows the time
// that answers take: it rises by and by while they are fast, and is halved when
// one is slow (additive increase, multiplicative decrease).
type limiter struct {
	max int

	mu       sync.Mutex
	current  float64
	inFlight int
	queue    []chan struct{}
	// halvedAt is when the limit was last halved: calls that began before say nothing of
	// the new one.
	halvedAt time.Time
}

// concurrencyStep is by how much a fast answer raises the bound.
const concurrencyStep = 0.25

// newLimiter returns a limiter that begins with a bound, of most at most.
func newLimiter(most, bound int) *limiter {
	return &limiter{max: most, current: float64(min(most, bound))}
}

// limit is how many calls may run concurrently at present.
func (l *limiter) limit() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int(l.current)
}

// acquire waits until one more call may begin, or ctx ends.
func (l *limiter) acquire(ctx context.Context) error {
	l.mu.Lock()
	if l.inFlight < int(l.current) {
		l.inFlight++
		l.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	l.queue = append(l.queue, turn)
	l.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, t := range l.queue {
		if t == turn {
			l.queue = append(l.queue[:i], l.queue[i+1:]...)
			return ctx.Err()
		}
	}
	// Its turn came at the same time.
	l.inFlight--
	l.grantLocked()
	return ctx.Err()
}

// release ends a call that began at a time, and was slow or not.
func (l *limiter) release(began, now time.Time, slow bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight--
	switch {
	case !slow:
		l.current = min(float64(l.max), l.current+concurrencyStep)
	case !began.Before(l.halvedAt):
		l.current = max(min(minConcurrent, float64(l.max)), l.current/2)
		l.halvedAt = now
	}
	l.grantLocked()
}

func (l *limiter) grantLocked() {
	for len(l.queue) > 0 && l.inFlight < int(l.current) {
		close(l.queue[0])
		l.queue = l.queue[1:]
		l.inFlight++
	}
}
