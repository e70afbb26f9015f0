// SPDX-License-Identifier: Apache-2.0

package replica

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/storage"
)

// Fence knows until when this server certainly holds the Lease. It makes no calls: it
// knows when successful renewals began, and a clock that does not step (time.Time's
// monotonic one).
//
// Nothing begins any more once the renew deadline has passed without a renewal. No
// other server can hold the Lease before its whole duration has passed, counted from
// the same time: others count it from when they saw the renewal, which is later. The
// time in between is for what is in flight to end.
//
// A fence opens once, and once shut it stays shut.
type Fence struct {
	clock clock.PassiveClock
	// renewDeadline and leaseDuration are those of the Lease.
	renewDeadline, leaseDuration time.Duration
	// active is the holder of the Lease as far as is known, for messages.
	active func() string

	mu      sync.RWMutex
	renewed time.Time // when the last renewal began; zero: there was none
	lapsed  bool
	shut    bool
}

var _ storage.Fence = &Fence{}

// Errors of Check and CheckExclusive.
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

// CheckExclusive implements storage.Fence. Once the Lease
// is released, it always fails.
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

// isExclusive returns whether no other server can hold the Lease.
func (f *Fence) isExclusive() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return !f.renewed.IsZero() && f.clock.Since(f.renewed) < f.leaseDuration
}

// renew notes that a renewal succeeded that began at that time. It returns false if it
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

// Shut shuts the fence for good, before the Lease is released.
func (f *Fence) Shut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shut = true
	leaseHeld.Set(0)
}

// remaining is how long the fence stays open without another renewal.
func (f *Fence) remaining() time.Duration {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.shut || f.lapsed {
		return 0
	}
	return f.renewDeadline - f.clock.Since(f.renewed)
}
