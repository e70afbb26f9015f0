package observation

import (
	"slices"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// purse names an account that saves first and spends then.
type purse int

const (
	// forReads pays for the looks that consistent reads wait for, and for
	// nothing else.
	forReads purse = iota
	// forFocus pays for the looks at what is in transition.
	forFocus
	purses
)

// String is the value of the label account of MetricBudgetBalance.
func (p purse) String() string { return [purses]string{"reads", "focus"}[p] }

// savings are seconds of the metal-api's time.
type savings struct {
	balance, burst, floor time.Duration
	// queue are the costs that looks wait for.
	queue []time.Duration
}

// budget keeps the metal-api from being busy with our looks for more than a
// part of the time. Busy is the sum of the durations of our calls, also of
// those that run in parallel.
//
// Reads and focus have an account each, from floor to burst, below zero only if
// a look took longer than expected. The floor bounds how long an overrun is paid
// off. Sweeps spend first, because they cannot be small: their account is zero
// or less, and the next sweep waits until it is zero.
type budget struct {
	clock clock.WithTicker

	mu    sync.Mutex
	rate  float64
	saved [purses]savings
	sweep time.Duration
	at    time.Time
	busy  time.Duration
	// risen is closed, and replaced, when an account rises by more than income.
	risen chan struct{}
}

func newBudget(c clock.WithTicker, rate float64) *budget {
	b := &budget{clock: c, at: c.Now(), risen: make(chan struct{})}
	b.setRate(rate)
	return b
}

func scale(d time.Duration, f float64) time.Duration { return time.Duration(float64(d) * f) }

// setRate changes the part of the time from now on. What is more to be saved is
// given at once: somebody else has saved it, who does not look any more.
func (b *budget) setRate(rate float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	b.rate = rate
	for p, t := range [purses]struct{ burst, debt time.Duration }{{burstTime, readDebtTime}, {focusBurstTime, focusDebtTime}} {
		a := &b.saved[p]
		before := a.burst
		a.burst, a.floor = scale(t.burst, rate), -scale(t.debt, rate)
		a.balance = min(a.burst, a.balance+max(0, a.burst-before))
	}
	b.rise()
}

// rise wakes who waits for an account to rise.
func (b *budget) rise() {
	close(b.risen)
	b.risen = make(chan struct{})
}

// most is how much of a look's cost can be saved.
func (b *budget) most(p purse) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.saved[p].burst
}

// refill books the income since the last time: sweeps in debt and accounts that
// are not full get the shares that they are sure of, reads and focus what is left
// then, and sweeps the rest.
func (b *budget) refill() {
	now := b.clock.Now()
	income := scale(now.Sub(b.at), b.rate)
	if income <= 0 {
		return
	}
	b.at = now
	left := income
	give := func(most time.Duration, to *time.Duration, room time.Duration) {
		part := max(0, min(most, room, left))
		*to += part
		left -= part
	}
	reads, focus := &b.saved[forReads], &b.saved[forFocus]
	give(scale(income, sweepShare), &b.sweep, -b.sweep)
	give(scale(income, focusShare), &focus.balance, focus.burst-focus.balance)
	give(left, &reads.balance, reads.burst-reads.balance)
	give(left, &focus.balance, focus.burst-focus.balance)
	give(left, &b.sweep, -b.sweep)
}

// earning is the part of the time that an account gets at present.
func (b *budget) earning(p purse) float64 {
	part := 1.0
	if b.sweep < 0 {
		part -= sweepShare
	}
	reads, focus := b.saved[forReads], b.saved[forFocus]
	switch {
	case p == forReads && focus.balance < focus.burst:
		part -= focusShare
	case p == forFocus && reads.balance < reads.burst:
		part = focusShare
	}
	return part * b.rate
}

// reserve takes cost from an account if it is there. Otherwise it returns how
// long that takes with what the account earns at present.
func (b *budget) reserve(p purse, cost time.Duration) (ok bool, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	wait = b.take(p, cost, 0)
	return wait == 0, wait
}

// take is reserve, leaving so much to others.
func (b *budget) take(p purse, cost, ahead time.Duration) (wait time.Duration) {
	b.refill()
	a := &b.saved[p]
	// A look that is dearer than all savings takes them all.
	cost = min(cost, a.burst)
	missing := cost + ahead - a.balance
	if missing <= 0 {
		a.balance -= cost
		return 0
	}
	return max(scale(missing, 1/b.earning(p)), time.Millisecond)
}

// spare is what an account holds.
func (b *budget) spare(p purse) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	return b.saved[p].balance
}

// await reserves cost if it is there within limit, waiting for it. If it will
// not be, it returns ErrOverBudget at once. Who needs less goes first.
func (b *budget) await(p purse, cost, limit time.Duration) error {
	until := b.clock.Now().Add(limit)
	b.mu.Lock()
	defer b.mu.Unlock()
	a := &b.saved[p]
	ahead := func() (sum time.Duration) {
		for _, c := range a.queue {
			if c <= cost {
				sum += c
			}
		}
		return sum
	}
	wait := b.take(p, cost, ahead())
	if wait == 0 {
		return nil
	}
	if wait > limit {
		return metal.ErrOverBudget
	}
	a.queue = append(a.queue, cost)
	defer func() { a.queue = slices.Delete(a.queue, slices.Index(a.queue, cost), slices.Index(a.queue, cost)+1) }()
	for {
		b.pause(min(wait, until.Sub(b.clock.Now())))
		if wait = b.take(p, cost, 0); wait == 0 {
			return nil
		}
		if wait > until.Sub(b.clock.Now()) {
			return metal.ErrOverBudget
		}
	}
}

// pause waits, or until an account rises, without the lock.
func (b *budget) pause(d time.Duration) {
	risen := b.risen
	b.mu.Unlock()
	defer b.mu.Lock()
	timer := b.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
	case <-risen:
	}
}

// within is how much an account will hold after a time.
func (b *budget) within(p purse, d time.Duration) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	return b.saved[p].balance + scale(d, b.earning(p))
}

// settle corrects a reservation of cost by what the look really took.
func (b *budget) settle(p purse, cost, took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	a := &b.saved[p]
	cost = min(cost, a.burst)
	a.balance = min(a.burst, max(a.floor, a.balance+cost-took))
	b.busy += took
	if took < cost {
		b.rise()
	}
}

// swept books what a sweep took.
func (b *budget) swept(took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	b.sweep = max(b.sweep-took, -scale(sweepDebtTime, b.rate))
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

// balances returns the accounts and the busyness so far.
func (b *budget) balances() (saved [purses]time.Duration, sweep, busy time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	for p, a := range b.saved {
		saved[p] = a.balance
	}
	return saved, b.sweep, b.busy
}
