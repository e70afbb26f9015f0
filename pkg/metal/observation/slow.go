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
func (b *slowBackoff) record(key string, late bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !late {
		delete(b.keys, key)
		return
	}
	now := b.clock.Now()
	for other, k := range b.keys {
		if now.Sub(k.deadline) > maxSlowBackoff {
			delete(b.keys, other)
		}
	}
	pause := min(max(minSlowBackoff, 2*b.keys[key].pause), maxSlowBackoff)
	b.keys[key] = slowKey{now.Add(pause), pause}
}

// blocked reports whether the observation of key has to wait.
func (b *slowBackoff) blocked(key string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.clock.Now().Before(b.keys[key].deadline)
}
