package metal

import (
	"context"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// budget keeps the metal-api from being busy with our looks for more than a
// part of the time. Busy is the sum of the durations of our calls, also of
// those that run in parallel.
//
// There are two accounts, in seconds of busyness. Reads and focus save first
// and spend then: live is between zero and burst, below only if a look took
// longer than expected. Sweeps spend first, because they cannot be small: the
// account sweep is zero or less, and the next sweep waits until it is zero.
type budget struct {
	clock clock.WithTicker

	mu          sync.Mutex
	rate        float64
	burst       time.Duration
	live, sweep time.Duration
	at          time.Time
	busy        time.Duration
	// risen is closed, and replaced, when live rises by more than income.
	risen chan struct{}
}

func newBudget(c clock.WithTicker, rate float64) *budget {
	burst := scale(burstTime, rate)
	return &budget{clock: c, rate: rate, burst: burst, live: burst, at: c.Now(), risen: make(chan struct{})}
}

func scale(d time.Duration, f float64) time.Duration { return time.Duration(float64(d) * f) }

// setRate changes the part of the time from now on. What is more to be saved is
// given at once: somebody else has saved it, who does not look any more.
func (b *budget) setRate(rate float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	before := b.burst
	b.rate, b.burst = rate, scale(burstTime, rate)
	b.live = min(b.burst, b.live+max(0, b.burst-before))
	close(b.risen)
	b.risen = make(chan struct{})
}

// most is how much of live can be saved.
func (b *budget) most() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.burst
}

// refill books the income since the last time.
func (b *budget) refill() {
	now := b.clock.Now()
	income := scale(now.Sub(b.at), b.rate)
	if income <= 0 {
		return
	}
	b.at = now
	forSweep := min(scale(income, sweepShare), -b.sweep)
	forLive := min(income-forSweep, b.burst-b.live)
	b.live += forLive
	b.sweep = min(0, b.sweep+income-forLive)
}

// reserve takes cost from live if it is there, and keep remains of it.
// Otherwise it returns how long that will take at least.
func (b *budget) reserve(cost, keep time.Duration) (ok bool, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	// A look that is dearer than all savings takes them all.
	missing := min(cost+keep, b.burst) - b.live
	if missing <= 0 {
		b.live -= cost
		return true, 0
	}
	return false, max(scale(missing, 1/b.rate), time.Millisecond)
}

// spare is how much of live is there above keep.
func (b *budget) spare(keep time.Duration) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	return b.live - keep
}

// await reserves cost, waiting until it is there or ctx ends.
func (b *budget) await(ctx context.Context, cost time.Duration) error {
	for {
		b.mu.Lock()
		risen := b.risen
		b.mu.Unlock()
		ok, wait := b.reserve(cost, 0)
		if ok {
			return nil
		}
		timer := b.clock.NewTimer(wait)
		select {
		case <-timer.C():
		case <-risen:
		case <-ctx.Done():
			timer.Stop()
			return ErrOverBudget
		}
		timer.Stop()
	}
}

// settle corrects a reservation by what the look really took.
func (b *budget) settle(reserved, took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	b.live = min(b.burst, b.live+reserved-took)
	b.busy += took
	if took < reserved {
		close(b.risen)
		b.risen = make(chan struct{})
	}
}

// swept books what a sweep took.
func (b *budget) swept(took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	b.sweep -= took
	b.busy += took
}

// untilSweep is how long the next sweep has to wait at least.
func (b *budget) untilSweep() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	if b.sweep >= 0 {
		return 0
	}
	return max(scale(-b.sweep, 1/b.rate), time.Millisecond)
}

// balances returns both accounts and the busyness so far.
func (b *budget) balances() (live, sweep, busy time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	return b.live, b.sweep, b.busy
}
