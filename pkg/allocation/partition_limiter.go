// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"k8s.io/utils/clock"
)

// maxParallel is how many allocations by size are in flight in a partition at a
// time. The metal-api serialises them, 0.2 to 1 s each, behind a lock that it
// waits for 10 s (docs/metal-api.md, Q42). Any waiter may get it next, so of
// several one is overtaken until it times out: of six, one in twelve was. One
// that holds the lock and one that reads, and then waits, keep it busy.
const maxParallel = 2

// partitionLimiter limits how many allocations are in flight in each partition,
// and pauses them after failures.
type partitionLimiter struct {
	clock clock.Clock

	mu     sync.Mutex
	limits map[string]*partitionLimit
}

// The first failures in a row are tolerated: three did no harm, six did
// (docs/metal-api.md, Q36). Then allocations pause, twice as long after each
// further one, but not for long: one tenant's mistakes must not stop the others.
const (
	toleratedFailures = 2
	initialPause      = 2 * time.Second
	maxPause          = 30 * time.Second
)

// partitionLimit is that of one partition.
type partitionLimit struct {
	slots *semaphore.Weighted
	// failures are those in a row that came after the choice of a machine.
	failures    int
	pausedUntil time.Time
}

func newPartitionLimiter(clock clock.Clock) *partitionLimiter {
	return &partitionLimiter{clock: clock, limits: map[string]*partitionLimit{}}
}

func (l *partitionLimiter) of(partition string) *partitionLimit {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.limits[partition] == nil {
		l.limits[partition] = &partitionLimit{slots: semaphore.NewWeighted(maxParallel)}
	}
	return l.limits[partition]
}

// acquire waits for a slot in a partition. A machine that is named by its id is
// allocated alone: an allocation by size could choose the same one, and of two
// that meet on one machine the loser's roll-back takes the winner's addresses.
func (l *partitionLimiter) acquire(ctx context.Context, partition string, named bool) (release func(), err error) {
	limit := l.of(partition)
	weight := int64(1)
	if named {
		weight = maxParallel
	}
	if err := limit.slots.Acquire(ctx, weight); err != nil {
		return nil, errInterrupted
	}
	if err := l.checkPause(partition); err != nil {
		limit.slots.Release(weight)
		return nil, err
	}
	return func() { limit.slots.Release(weight) }, nil
}

// checkPause refuses allocations in a partition during its pause.
func (l *partitionLimiter) checkPause(partition string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	limit := l.limits[partition]
	if limit == nil {
		return nil
	}
	wait := limit.pausedUntil.Sub(l.clock.Now())
	if wait <= 0 {
		return nil
	}
	return &refusal{
		code: http.StatusConflict, retryAfter: wait,
		message: fmt.Sprintf("backing off: allocations in partition %q were refused, and the metal-api is cleaning up", partition),
	}
}

// recordFailure counts a failure after the choice of a machine. Late clean-ups of
// a burst of failures take the addresses of a success that follows
// (docs/metal-api.md, Q36), whichever objects they were for.
func (l *partitionLimiter) recordFailure(partition string) {
	limit := l.of(partition)
	l.mu.Lock()
	defer l.mu.Unlock()
	if limit.failures++; limit.failures > toleratedFailures {
		limit.pausedUntil = l.clock.Now().Add(exponential(initialPause, limit.failures-toleratedFailures, maxPause))
	}
}

func (l *partitionLimiter) recordSuccess(partition string) {
	limit := l.of(partition)
	l.mu.Lock()
	defer l.mu.Unlock()
	limit.failures = 0
}

// exponential is the n-th backoff: first, doubled with each one, and at most most.
func exponential(first time.Duration, n int, most time.Duration) time.Duration {
	d := first
	for range n - 1 {
		if d *= 2; d >= most {
			return most
		}
	}
	return min(d, most)
}
