package allocation

import (
	"context"
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

// gates keep allocations from hurting each other, a gate for each partition.
type gates struct {
	clock clock.Clock

	mu   sync.Mutex
	gate map[string]*gate
}

// A gate stays open for the first failures in a row: three did no harm, six did
// (docs/metal-api.md, Q36). Then it shuts for shut, doubled with each further one up to
// maxShut: one tenant's mistakes must not stop the others for long.
const (
	harmless = 2
	shut     = 2 * time.Second
	maxShut  = 30 * time.Second
)

// gate is that of one partition.
type gate struct {
	slots *semaphore.Weighted
	// failures in a row that came from behind the choice of a machine, and
	// until when the gate is shut because of them.
	failures int
	until    time.Time
}

func newGates(clock clock.Clock) *gates {
	return &gates{clock: clock, gate: map[string]*gate{}}
}

func (g *gates) of(partition string) *gate {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gate[partition] == nil {
		g.gate[partition] = &gate{slots: semaphore.NewWeighted(maxParallel)}
	}
	return g.gate[partition]
}

// enter waits for a place in a partition. A machine that is named by its id is
// allocated alone: an allocation by size could choose the same one, and of two
// that meet on one machine the loser's roll-back takes the winner's addresses.
func (g *gates) enter(ctx context.Context, partition string, named bool) (leave func(), err error) {
	one := g.of(partition)
	weight := int64(1)
	if named {
		weight = maxParallel
	}
	if err := one.slots.Acquire(ctx, weight); err != nil {
		return nil, errInterrupted
	}
	g.mu.Lock()
	wait := one.until.Sub(g.clock.Now())
	g.mu.Unlock()
	if wait > 0 {
		one.slots.Release(weight)
		return nil, &refusal{
			code: http.StatusConflict, after: wait,
			words: "allocations in the partition pause after refusals, until the metal-api has cleaned up behind them",
		}
	}
	return func() { one.slots.Release(weight) }, nil
}

// failed counts a failure from behind the choice of a machine. Late clean-ups of a burst of failures take the addresses of a success that
// follows (docs/metal-api.md, Q36), whichever objects they were for.
func (g *gates) failed(partition string) {
	one := g.of(partition)
	g.mu.Lock()
	defer g.mu.Unlock()
	if one.failures++; one.failures > harmless {
		one.until = g.clock.Now().Add(doubled(shut, one.failures-harmless, maxShut))
	}
}

func (g *gates) succeeded(partition string) {
	one := g.of(partition)
	g.mu.Lock()
	defer g.mu.Unlock()
	one.failures = 0
}

// doubled is first, doubled with each of n after the first, and at most most.
func doubled(first time.Duration, n int, most time.Duration) time.Duration {
	d := first
	for range n - 1 {
		if d *= 2; d >= most {
			return most
		}
	}
	return min(d, most)
}
