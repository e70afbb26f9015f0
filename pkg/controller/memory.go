package controller

import (
	"sync"
	"time"

	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
)

// The first pause after a refusal, doubled with each one up to the longest.
const (
	firstPause   = 2 * time.Second
	longestPause = 2 * time.Minute
	// catchUp is how long to leave an object alone after a success, in which
	// the cache may still show its state before.
	catchUp = time.Second
)

// A memory keeps what is only good manners, so that a restart may lose it:
// which waits were told already, and how long to leave the server in peace
// after a refusal.
type memory struct {
	clock clock.Clock

	mu      sync.Mutex
	objects map[ctrl.Request]*remembered
}

type remembered struct {
	told  map[string]string
	pause time.Duration
	until time.Time
	// caughtUp is when the cache has certainly seen the last success.
	caughtUp time.Time
}

func newMemory(clock clock.Clock) *memory {
	return &memory{clock: clock, objects: map[ctrl.Request]*remembered{}}
}

func (m *memory) of(request ctrl.Request) *remembered {
	if m.objects[request] == nil {
		m.objects[request] = &remembered{}
	}
	return m.objects[request]
}

// news returns whether what differs from what was told last of the object on
// that topic.
func (m *memory) news(request ctrl.Request, topic, what string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.of(request)
	if was, told := o.told[topic]; told && was == what {
		return false
	}
	if o.told == nil {
		o.told = map[string]string{}
	}
	o.told[topic] = what
	return true
}

// refused notes a refusal and returns for how long not to ask again: at least
// atLeast, and longer with every refusal.
func (m *memory) refused(request ctrl.Request, atLeast time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.of(request)
	o.pause = min(max(2*o.pause, firstPause), longestPause)
	pause := max(o.pause, atLeast)
	o.until = m.clock.Now().Add(pause)
	return pause
}

// done notes a success.
func (m *memory) done(request ctrl.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects[request] = &remembered{caughtUp: m.clock.Now().Add(catchUp)}
}

// catchingUp returns for how long the cache may still show what was before.
func (m *memory) catchingUp(request ctrl.Request) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o := m.objects[request]; o != nil {
		return max(0, o.caughtUp.Sub(m.clock.Now()))
	}
	return 0
}

// patience returns how long the server is to be left in peace.
func (m *memory) patience(request ctrl.Request) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o := m.objects[request]; o != nil {
		return max(0, o.until.Sub(m.clock.Now()))
	}
	return 0
}

// forget is for objects that have got on, or are gone.
func (m *memory) forget(request ctrl.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, request)
}
