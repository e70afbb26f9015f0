package observation

import (
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// lateness remembers which looks took longer than anybody waits for them, so
// that they are not made again at once.
type lateness struct {
	clock clock.PassiveClock

	mu   sync.Mutex
	keys map[string]lateKey
}

// lateFocus begins the keys of focus, which no key of a read begins with.
const lateFocus = "focus "

type lateKey struct {
	until time.Time
	pause time.Duration
}

func newLateness(c clock.PassiveClock) *lateness {
	return &lateness{clock: c, keys: map[string]lateKey{}}
}

// note takes in whether the look at key was late: the next one has to wait then,
// twice as long each time.
func (l *lateness) note(key string, late bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !late {
		delete(l.keys, key)
		return
	}
	now := l.clock.Now()
	for other, k := range l.keys {
		if now.Sub(k.until) > mostLate {
			delete(l.keys, other)
		}
	}
	pause := min(max(leastLate, 2*l.keys[key].pause), mostLate)
	l.keys[key] = lateKey{now.Add(pause), pause}
}

// blocked tells whether the look at key has to wait.
func (l *lateness) blocked(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clock.Now().Before(l.keys[key].until)
}
