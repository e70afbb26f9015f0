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

// maxParallel is how many allocations by size are under way in a partition at
// a time. The metal-api serialises them, 0.2 to 1 s each, behind a lock that it
// waits for 10 s (docs/metal-api.md, Q42). Whoever waits may get it next, so of
// several that wait one is overtaken until it is sent away: of six, one in
// twelve was. One that holds the lock and one that looks, and then waits, keep
// it busy.
const maxParallel = 2

// partitionLimiter keep allocations from hurting each other, a gate for each partition.
type partitionLimiter struct {
	clock clock.Clock

	mu     sync.Mutex
	limits map[string]*partitionLimit
}

// A gate stays open for the first failures in a row: three did no harm, six
// did (docs/metal-api.md, Q36). Then it shuts for shut, doubled with each further one up to
// maxShut: one tenant's mistakes must not stop the others for long.
const (
	toleratedFailures = 2
	initialPause      = 2 * time.Second
	maxPause          = 30 * time.Second
)

// partitionLimit is that of one partition.
type partitionLimit struct {
	slots *semaphore.Weighted
	// failures in a row that came from behind the choice of a machine, and
	// until when the gate is shut because of them.
	failures    int
	pausedUntil time.Time
}

func newPartitionLimiter(clock clock.Clock) *partitionLimiter {
	return &partitionLimiter{clock: clock, limits: map[string]*partitionLimit{}}
}

func (g *partitionLimiter) of(partition string) *partitionLimit {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.limits[partition] == nil {
		g.limits[partition] = &partitionLimit{slots: semaphore.NewWeighted(maxParallel)}
	}
	return g.limits[partition]
}

// acquire waits for a place in a partition. A machine that is named by its id is
// allocated alone: an allocation by size could choose the same one, and of two
// that meet on one machine the loser's roll-back takes the winner's addresses.
func (g *partitionLimiter) acquire(ctx context.Context, partition string, named bool) (leave func(), err error) {
	one := g.of(partition)
	weight := int64(1)
	if named {
		weight = maxParallel
	}
	if err := one.slots.Acquire(ctx, weight); err != nil {
		return nil, errInterrupted
	}
	g.mu.Lock()
	wait := one.pausedUntil.Sub(g.clock.Now())
	g.mu.Unlock()
	if wait > 0 {
		one.slots.Release(weight)
		return nil, &refusal{
			code: http.StatusConflict, retryAfter: wait,
			message: fmt.Sprintf("backing off: allocations in partition %q were refused, and the metal-api is cleaning up", partition),
		}
	}
	return func() { one.slots.Release(weight) }, nil
}

// recordFailure counts a failure from behind the choice of a machine. Late clean-ups of a burst of failures take the addresses of a success that
// follows (docs/metal-api.md, Q36), whichever objects they were for.
func (g *partitionLimiter) recordFailure(partition string) {
	one := g.of(partition)
	g.mu.Lock()
	defer g.mu.Unlock()
	if one.failures++; one.failures > toleratedFailures {
		one.pausedUntil = g.clock.Now().Add(exponential(initialPause, one.failures-toleratedFailures, maxPause))
	}
}

func (g *partitionLimiter) recordSuccess(partition string) {
	one := g.of(partition)
	g.mu.Lock()
	defer g.mu.Unlock()
	one.failures = 0
}

// exponential is first, doubled with each of n after the first, and at most most.
func exponential(first time.Duration, n int, most time.Duration) time.Duration {
	d := first
	for range n - 1 {
		if d *= 2; d >= most {
			return most
		}
	}
	return min(d, most)
}
