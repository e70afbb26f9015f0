// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"slices"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// account names an account that saves first and spends then.
type account int

const (
	// readAccount pays for the observations that consistent reads wait for, and for
	// nothing else.
	readAccount account = iota
	// focusAccount pays for the observations of what is in transition.
	focusAccount
	numAccounts
)

// String is the value of the label account of MetricBudgetBalance.
func (a account) String() string { return [numAccounts]string{"reads", "focus"}[a] }

// accountState are seconds of the metal-api's time.
type accountState struct {
	balance, burst, floor time.Duration
	// queue are the costs that observations wait for.
	queue []time.Duration
}

// budget keeps the metal-api from being busy with our observations for more than a
// part of the time. Busy is the sum of the durations of our calls, also of
// those that run in parallel.
//
// Reads and focus have an account each, from floor to burst, below zero only if
// an observation took longer than expected. The floor bounds how long an overrun is paid
// off. Sweeps spend first, because they cannot be small: their account is zero
// or less, and the next sweep waits until it is zero.
type budget struct {
	clock clock.WithTicker

	mu           sync.Mutex
	rate         float64
	accounts     [numAccounts]accountState
	sweepBalance time.Duration
	refilledAt   time.Time
	busy         time.Duration
	// raised is closed, and replaced, when an account rises by more than income.
	raised chan struct{}
}

func newBudget(c clock.WithTicker, rate float64) *budget {
	b := &budget{clock: c, refilledAt: c.Now(), raised: make(chan struct{})}
	b.setRate(rate)
	return b
}

func scale(d time.Duration, f float64) time.Duration { return time.Duration(float64(d) * f) }

// setRate changes the part of the time from now on. What is more to be saved is
// given at once: another replica has saved it, which does not observe any more.
func (b *budget) setRate(rate float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	b.rate = rate
	for p, t := range [numAccounts]struct{ burst, debt time.Duration }{{readBurstTime, readDebtTime}, {focusBurstTime, focusDebtTime}} {
		a := &b.accounts[p]
		before := a.burst
		a.burst, a.floor = scale(t.burst, rate), -scale(t.debt, rate)
		a.balance = min(a.burst, a.balance+max(0, a.burst-before))
	}
	b.broadcastRaise()
}

// part is the part of the time that observations may take at present.
func (b *budget) part() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rate
}

// broadcastRaise wakes what waits for an account to rise.
func (b *budget) broadcastRaise() {
	close(b.raised)
	b.raised = make(chan struct{})
}

// refill books the income since the last time: sweeps in debt and accounts that
// are not full get the shares that they are sure of, reads and focus what is left
// then, and sweeps the rest.
func (b *budget) refill() {
	now := b.clock.Now()
	income := scale(now.Sub(b.refilledAt), b.rate)
	if income <= 0 {
		return
	}
	b.refilledAt = now
	left := income
	give := func(most time.Duration, to *time.Duration, room time.Duration) {
		part := max(0, min(most, room, left))
		*to += part
		left -= part
	}
	reads, focus := &b.accounts[readAccount], &b.accounts[focusAccount]
	give(scale(income, sweepShare), &b.sweepBalance, -b.sweepBalance)
	give(scale(income, focusShare), &focus.balance, focus.burst-focus.balance)
	give(left, &reads.balance, reads.burst-reads.balance)
	give(left, &focus.balance, focus.burst-focus.balance)
	give(left, &b.sweepBalance, -b.sweepBalance)
}

// incomeRate is the part of the time that an account gets at present.
func (b *budget) incomeRate(p account) float64 {
	part := 1.0
	if b.sweepBalance < 0 {
		part -= sweepShare
	}
	reads, focus := b.accounts[readAccount], b.accounts[focusAccount]
	switch {
	case p == readAccount && focus.balance < focus.burst:
		part -= focusShare
	case p == focusAccount && reads.balance < reads.burst:
		part = focusShare
	}
	return part * b.rate
}

// reserve takes cost from an account if it is there. Otherwise it returns how
// long that takes with what the account earns at present.
func (b *budget) reserve(p account, cost time.Duration) (ok bool, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	wait = b.tryReserve(p, cost, 0)
	return wait == 0, wait
}

// tryReserve is reserve, leaving so much to others.
func (b *budget) tryReserve(p account, cost, ahead time.Duration) (wait time.Duration) {
	b.refill()
	a := &b.accounts[p]
	// An observation that costs more than the capacity takes all of it.
	cost = min(cost, a.burst)
	missing := cost + ahead - a.balance
	if missing <= 0 {
		a.balance -= cost
		return 0
	}
	return max(scale(missing, 1/b.incomeRate(p)), time.Millisecond)
}

// balance is what an account holds.
func (b *budget) balance(p account) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	return b.accounts[p].balance
}

// remainder is what an observation of a read leaves in the account to those that cost
// less: as much as it costs, or a part of the capacity if that is less.
func (a *accountState) remainder(cost time.Duration) time.Duration {
	return min(cost, scale(a.burst, remainderShare))
}

// affordable is what an observation of a read may cost at most after a time, and which
// part of the capacity is saved at present.
func (b *budget) affordable(p account, after time.Duration) (most time.Duration, saved float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	a := &b.accounts[p]
	balance := min(a.burst, a.balance+scale(after, b.incomeRate(p)))
	remainder := scale(a.burst, remainderShare)
	return max(min(balance/2, remainder), balance-remainder), float64(max(0, a.balance)) / float64(a.burst)
}

// reserveWithin reserves cost if it is there within limit besides what is left to
// others, waiting for it. If it will not be, it returns ErrBudgetExceeded at once. Who
// needs less goes first.
func (b *budget) reserveWithin(p account, cost, limit time.Duration) error {
	deadline := b.clock.Now().Add(limit)
	b.mu.Lock()
	defer b.mu.Unlock()
	a := &b.accounts[p]
	remainder := a.remainder(cost)
	if cost+remainder > a.burst {
		return metal.ErrBudgetExceeded
	}
	ahead := remainder
	for _, c := range a.queue {
		if c <= cost {
			ahead += c
		}
	}
	wait := b.tryReserve(p, cost, ahead)
	if wait == 0 {
		return nil
	}
	if wait > limit {
		return metal.ErrBudgetExceeded
	}
	a.queue = append(a.queue, cost)
	defer func() { a.queue = slices.Delete(a.queue, slices.Index(a.queue, cost), slices.Index(a.queue, cost)+1) }()
	for {
		b.waitForRaise(min(wait, deadline.Sub(b.clock.Now())))
		if wait = b.tryReserve(p, cost, remainder); wait == 0 {
			return nil
		}
		if wait > deadline.Sub(b.clock.Now()) {
			return metal.ErrBudgetExceeded
		}
	}
}

// waitForRaise waits, or until an account rises, without the lock.
func (b *budget) waitForRaise(d time.Duration) {
	risen := b.raised
	b.mu.Unlock()
	defer b.mu.Lock()
	timer := b.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
	case <-risen:
	}
}

// commit corrects a reservation of cost by what the observation really took.
func (b *budget) commit(p account, cost, took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	a := &b.accounts[p]
	cost = min(cost, a.burst)
	a.balance = min(a.burst, max(a.floor, a.balance+cost-took))
	b.busy += took
	if took < cost {
		b.broadcastRaise()
	}
}

// chargeSweep books what a sweep took.
func (b *budget) chargeSweep(took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	b.sweepBalance = max(b.sweepBalance-took, -scale(sweepDebtTime, b.rate))
	b.busy += took
}

// sweepDelay is how long the next sweep has to wait at least.
func (b *budget) sweepDelay() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	if b.sweepBalance >= 0 {
		return 0
	}
	return max(scale(-b.sweepBalance, 1/b.rate), time.Millisecond)
}

// balances returns the accounts and the busyness so far.
func (b *budget) balances() (saved [numAccounts]time.Duration, sweep, busy time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	for p, a := range b.accounts {
		saved[p] = a.balance
	}
	return saved, b.sweepBalance, b.busy
}
