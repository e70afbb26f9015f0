// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"sync"
	"time"

	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
)

// The backoff after a refusal is doubled with each one.
const (
	minBackoff = 2 * time.Second
	maxBackoff = 2 * time.Minute
	// cacheSyncDelay is how long an object is not reconciled after a success, since
	// the cache may still show its former state.
	cacheSyncDelay = time.Second
)

// A memory keeps what is only good manners, so that a restart may lose it:
// which waits were told already, and how long to leave the server in peace
// after a refusal.
type backoff struct {
	clock clock.Clock

	mu      sync.Mutex
	objects map[ctrl.Request]*backoffEntry
}

type backoffEntry struct {
	lastEvents map[string]string
	delay      time.Duration
	retryAt    time.Time
	// cacheSyncedAt is when the cache has certainly seen the last success.
	cacheSyncedAt time.Time
}

func newBackoff(clock clock.Clock) *backoff {
	return &backoff{clock: clock, objects: map[ctrl.Request]*backoffEntry{}}
}

func (m *backoff) entry(request ctrl.Request) *backoffEntry {
	if m.objects[request] == nil {
		m.objects[request] = &backoffEntry{}
	}
	return m.objects[request]
}

// isNewEvent returns whether what differs from what was told last of the object on
// that topic.
func (m *backoff) isNewEvent(request ctrl.Request, topic, what string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.entry(request)
	if was, told := o.lastEvents[topic]; told && was == what {
		return false
	}
	if o.lastEvents == nil {
		o.lastEvents = map[string]string{}
	}
	o.lastEvents[topic] = what
	return true
}

// recordRefusal returns when to retry after a refusal: not before atLeast, and later
// with every refusal.
func (m *backoff) recordRefusal(request ctrl.Request, atLeast time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.entry(request)
	o.delay = min(max(2*o.delay, minBackoff), maxBackoff)
	pause := max(o.delay, atLeast)
	o.retryAt = m.clock.Now().Add(pause)
	return pause
}

// recordSuccess resets the backoff.
func (m *backoff) recordSuccess(request ctrl.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects[request] = &backoffEntry{cacheSyncedAt: m.clock.Now().Add(cacheSyncDelay)}
}

// cacheDelay returns for how long the cache may still show what was before.
func (m *backoff) cacheDelay(request ctrl.Request) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o := m.objects[request]; o != nil {
		return max(0, o.cacheSyncedAt.Sub(m.clock.Now()))
	}
	return 0
}

// remaining returns the remaining backoff.
func (m *backoff) remaining(request ctrl.Request) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o := m.objects[request]; o != nil {
		return max(0, o.retryAt.Sub(m.clock.Now()))
	}
	return 0
}

// reset forgets an object that made progress or is gone.
func (m *backoff) reset(request ctrl.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, request)
}
