// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"errors"
	"sync"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/storage"
)

// The times of the Lease, as of artifacts/deploy.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// lease is the Lease by which one of the servers is the active one.
type lease struct {
	mu     sync.Mutex
	holder string
	until  time.Time
	// cut is who does not reach it, and until when.
	cut map[string]time.Time
}

// claim acquires or renews it for a server.
func (l *lease) claim(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Before(l.cut[name]) || (l.holder != name && now.Before(l.until)) {
		return false
	}
	l.holder, l.until = name, now.Add(leaseDuration)
	return true
}

// giveBack lets another server have it at once.
func (l *lease) giveBack(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holder == name {
		l.holder, l.until = "", time.Time{}
	}
}

// cutOff keeps a server from it for some time.
func (l *lease) cutOff(name string, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut[name] = time.Now().Add(d)
}

func (l *lease) clearFaults() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.cut)
}

func (l *lease) heldBy() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holder
}

// fence is that of one server, by the rules of replica.Fence: nothing begins
// after the renew deadline, and nothing is sure after the Lease's duration.
type fence struct {
	mu      sync.Mutex
	renewed time.Time
	shut    bool
}

var (
	_       storage.Fence = &fence{}
	errShut               = errors.New("this server is not the active one")
)

func (f *fence) within(d time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shut || f.renewed.IsZero() || time.Since(f.renewed) >= d {
		return errShut
	}
	return nil
}

// Check implements storage.Fence.
func (f *fence) Check() error { return f.within(renewDeadline) }

// Sure implements storage.Fence.
func (f *fence) CheckExclusive() error { return f.within(leaseDuration) }

// renew opens the fence for as long as the Lease is held. One that has lapsed
// stays shut.
func (f *fence) renew(began time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.renewed.IsZero() && time.Since(f.renewed) >= renewDeadline {
		f.shut = true
	}
	if !f.shut {
		f.renewed = began
	}
	return !f.shut
}

func (f *fence) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shut = true
}
