// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"sync"
	"time"

	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
)

// The first pause after a refusal, doubled with each one up to the longest.
const (
	minBackoff = 2 * time.Second
	maxBackoff = 2 * time.Minute
	// cacheSyncDelay is how long to leave an object alone after a success, in which
	// the cache may still show its state before.
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

// recordRefusal notes a refusal and returns for how long not to ask again: at least
// atLeast, and longer with every refusal.
func (m *backoff) recordRefusal(request ctrl.Request, atLeast time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.entry(request)
	o.delay = min(max(2*o.delay, minBackoff), maxBackoff)
	pause := max(o.delay, atLeast)
	o.retryAt = m.clock.Now().Add(pause)
	return pause
}

// recordSuccess notes a success.
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

// remaining returns how long the server is to be left in peace.
func (m *backoff) remaining(request ctrl.Request) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o := m.objects[request]; o != nil {
		return max(0, o.retryAt.Sub(m.clock.Now()))
	}
	return 0
}

// reset is for objects that have got on, or are gone.
func (m *backoff) reset(request ctrl.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, request)
}
