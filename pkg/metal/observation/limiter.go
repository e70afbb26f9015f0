package observation

import (
	"context"
	"sync"
	"time"
)

// limiter bounds how many calls run side by side. The bound follows the time
// that answers take: it rises by and by while they are fast, and is halved when
// one is slow (additive increase, multiplicative decrease).
type limiter struct {
	most int

	mu    sync.Mutex
	bound float64
	under int
	queue []chan struct{}
	// halved is when the bound last was: calls that began before tell nothing of
	// the new one.
	halved time.Time
}

// limitRise is by how much a fast answer raises the bound.
const limitRise = 0.25

// newLimiter returns a limiter that begins with a bound, of most at most.
func newLimiter(most, bound int) *limiter {
	return &limiter{most: most, bound: float64(min(most, bound))}
}

// limit is how many calls may run side by side at present.
func (l *limiter) limit() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int(l.bound)
}

// acquire waits until one more call may begin, or ctx ends.
func (l *limiter) acquire(ctx context.Context) error {
	l.mu.Lock()
	if l.under < int(l.bound) {
		l.under++
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
	l.under--
	l.admit()
	return ctx.Err()
}

// release ends a call that began at a time, and was slow or not.
func (l *limiter) release(began, now time.Time, slow bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.under--
	switch {
	case !slow:
		l.bound = min(float64(l.most), l.bound+limitRise)
	case !began.Before(l.halved):
		l.bound = max(min(leastParallel, float64(l.most)), l.bound/2)
		l.halved = now
	}
	l.admit()
}

func (l *limiter) admit() {
	for len(l.queue) > 0 && l.under < int(l.bound) {
		close(l.queue[0])
		l.queue = l.queue[1:]
		l.under++
	}
}
