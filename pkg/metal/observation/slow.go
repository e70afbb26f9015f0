// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// slowBackoff remembers which observations took longer than reads wait for them, so
// that they are not made again at once.
type slowBackoff struct {
	clock clock.PassiveClock

	mu   sync.Mutex
	keys map[string]slowKey
}

// focusKeyPrefix begins the keys of focus, which no key of a read begins with.
const focusKeyPrefix = "focus "

type slowKey struct {
	deadline time.Time
	pause    time.Duration
}

func newSlowBackoff(c clock.PassiveClock) *slowBackoff {
	return &slowBackoff{clock: c, keys: map[string]slowKey{}}
}

// record records whether the observation of key was slow: the next one has to wait then,
// twice as long each time.
func (l *slowBackoff) record(key string, late bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !late {
		delete(l.keys, key)
		return
	}
	now := l.clock.Now()
	for other, k := range l.keys {
		if now.Sub(k.deadline) > maxSlowBackoff {
			delete(l.keys, other)
		}
	}
	pause := min(max(minSlowBackoff, 2*l.keys[key].pause), maxSlowBackoff)
	l.keys[key] = slowKey{now.Add(pause), pause}
}

// blocked reports whether the observation of key has to wait.
func (l *slowBackoff) blocked(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clock.Now().Before(l.keys[key].deadline)
}
