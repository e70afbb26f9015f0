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

// backoff keeps, for each object, which Events were recorded last, and when to
// retry after a refusal. It is in memory only: a restart may lose it.
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

func (b *backoff) entry(request ctrl.Request) *backoffEntry {
	if b.objects[request] == nil {
		b.objects[request] = &backoffEntry{}
	}
	return b.objects[request]
}

// isNewEvent returns whether what differs from the last event of the object on that
// topic.
func (b *backoff) isNewEvent(request ctrl.Request, topic, what string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.entry(request)
	if was, recorded := o.lastEvents[topic]; recorded && was == what {
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
func (b *backoff) recordRefusal(request ctrl.Request, atLeast time.Duration) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.entry(request)
	o.delay = min(max(2*o.delay, minBackoff), maxBackoff)
	pause := max(o.delay, atLeast)
	o.retryAt = b.clock.Now().Add(pause)
	return pause
}

// recordSuccess resets the backoff.
func (b *backoff) recordSuccess(request ctrl.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.objects[request] = &backoffEntry{cacheSyncedAt: b.clock.Now().Add(cacheSyncDelay)}
}

// cacheDelay returns for how long the cache may still show what was before.
func (b *backoff) cacheDelay(request ctrl.Request) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o := b.objects[request]; o != nil {
		return max(0, o.cacheSyncedAt.Sub(b.clock.Now()))
	}
	return 0
}

// remaining returns the remaining backoff.
func (b *backoff) remaining(request ctrl.Request) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o := b.objects[request]; o != nil {
		return max(0, o.retryAt.Sub(b.clock.Now()))
	}
	return 0
}

// reset forgets an object that made progress or is gone.
func (b *backoff) reset(request ctrl.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.objects, request)
}
