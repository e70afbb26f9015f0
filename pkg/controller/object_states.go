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

// objectStates keep, for each object, what must survive between two reconciles: when
// to retry after a refusal, when the cache has seen the last success, and which
// Events were recorded last. They are in memory only: a restart may lose them.
type objectStates struct {
	clock clock.Clock

	mu      sync.Mutex
	objects map[ctrl.Request]*objectState
}

type objectState struct {
	// lastEvents is the content of the last Event of each topic.
	lastEvents map[string]string
	backoff    time.Duration
	retryAt    time.Time
	// cacheSyncedAt is when the cache has certainly seen the last success.
	cacheSyncedAt time.Time
}

func newObjectStates(clock clock.Clock) *objectStates {
	return &objectStates{clock: clock, objects: map[ctrl.Request]*objectState{}}
}

func (s *objectStates) entry(request ctrl.Request) *objectState {
	if s.objects[request] == nil {
		s.objects[request] = &objectState{}
	}
	return s.objects[request]
}

// markEvent remembers content as that of the object's last Event of a topic, and
// returns whether it differs from the one before.
func (s *objectStates) markEvent(request ctrl.Request, topic, content string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.entry(request)
	if was, recorded := o.lastEvents[topic]; recorded && was == content {
		return false
	}
	if o.lastEvents == nil {
		o.lastEvents = map[string]string{}
	}
	o.lastEvents[topic] = content
	return true
}

// recordRefusal returns when to retry after a refusal: not before atLeast, and later
// with every refusal.
func (s *objectStates) recordRefusal(request ctrl.Request, atLeast time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.entry(request)
	o.backoff = min(max(2*o.backoff, minBackoff), maxBackoff)
	pause := max(o.backoff, atLeast)
	o.retryAt = s.clock.Now().Add(pause)
	return pause
}

// recordSuccess resets the backoff and the Events, and begins the cache delay.
func (s *objectStates) recordSuccess(request ctrl.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[request] = &objectState{cacheSyncedAt: s.clock.Now().Add(cacheSyncDelay)}
}

// cacheDelay returns for how long the cache may still show what was before.
func (s *objectStates) cacheDelay(request ctrl.Request) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.objects[request]; o != nil {
		return max(0, o.cacheSyncedAt.Sub(s.clock.Now()))
	}
	return 0
}

// remainingBackoff returns the remaining backoff.
func (s *objectStates) remainingBackoff(request ctrl.Request) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.objects[request]; o != nil {
		return max(0, o.retryAt.Sub(s.clock.Now()))
	}
	return 0
}

// reset forgets all of an object that made progress or is gone.
func (s *objectStates) reset(request ctrl.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, request)
}
