package replica

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/storage"
)

// Fence says until when this server surely holds the Lease. It asks nobody: all
// that it knows is when renewals began that succeeded, and a clock that does not
// step (time.Time's monotonic one).
//
// Nothing begins any more once the renew deadline has passed without a renewal.
// Nobody else can hold the Lease before its whole duration has passed, counted
// from the same moment: they count it from when they saw the renewal, which is
// later. What lies between is for what has begun to end.
//
// A fence opens once, and once shut it stays so.
type Fence struct {
	clock clock.PassiveClock
	// renewDeadline and sure are the renew deadline and the duration of the Lease.
	renewDeadline, leaseDuration time.Duration
	// active is who holds the Lease as far as is known, for the words.
	active func() string

	mu      sync.RWMutex
	renewed time.Time // when the last renewal began; zero: there was none
	lapsed  bool
	shut    bool
}

var _ storage.Fence = &Fence{}

// errNeverHeld and errShut are why nothing may begin.
var (
	errStandby        = errors.New("this server is not active")
	errNoLongerActive = errors.New("this server is no longer active")
)

// Check implements storage.Fence.
func (f *Fence) Check() error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	switch {
	case f.renewed.IsZero():
		return f.withHolder(errStandby)
	case f.shut || f.lapsed || f.clock.Since(f.renewed) >= f.renewDeadline:
		return f.withHolder(errNoLongerActive)
	}
	return nil
}

// CheckExclusive implements storage.Fence. Once the Lease is given back, nothing is sure.
func (f *Fence) CheckExclusive() error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.shut || f.renewed.IsZero() || f.clock.Since(f.renewed) >= f.leaseDuration {
		return f.withHolder(errNoLongerActive)
	}
	return nil
}

func (f *Fence) withHolder(err error) error {
	if active := f.active(); active != "" {
		return fmt.Errorf("%w: the active server is %q", err, active)
	}
	return err
}

// isExclusive is whether nobody else can hold the Lease.
func (f *Fence) isExclusive() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return !f.renewed.IsZero() && f.clock.Since(f.renewed) < f.leaseDuration
}

// renew takes in that a renewal succeeded that began then. It is false if it
// came too late.
func (f *Fence) renew(began time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.renewed.IsZero() && f.clock.Since(f.renewed) >= f.renewDeadline {
		f.lapsed = true
	}
	if f.lapsed || f.shut || f.clock.Since(began) >= f.renewDeadline {
		return false
	}
	f.renewed = began
	leaseHeld.Set(1)
	return true
}

// Shut shuts the fence for good, before the Lease is given back.
func (f *Fence) Shut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shut = true
	leaseHeld.Set(0)
}

// remaining is for how long the fence stays open without another renewal.
func (f *Fence) remaining() time.Duration {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.shut || f.lapsed {
		return 0
	}
	return f.renewDeadline - f.clock.Since(f.renewed)
}
