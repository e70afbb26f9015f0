// SPDX-License-Identifier: Apache-2.0

package inflight

import "sync"

// slots are the concurrent requests of a share; the capacity is its limit.
type slots chan struct{}

func (s slots) tryAcquire() bool {
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s slots) release() { <-s }

// keyedLimit limits concurrent requests for each key.
type keyedLimit struct {
	limit int
	mu    sync.Mutex
	n     map[string]int
}

func (c *keyedLimit) tryAcquire(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	if c.n[key] >= c.limit {
		return false
	}
	c.n[key]++
	return true
}

func (c *keyedLimit) release(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n[key]--; c.n[key] == 0 {
		delete(c.n, key)
	}
}

// reservation is the slot of one request, with a reference count. The handlers of the
// generic server return when the client disconnects, though what they began continues;
// so each part that works for the request retains the slot, and the last one to
// release it frees it.
type reservation struct {
	mu          sync.Mutex
	references  int
	releaseSlot func()
	rejected    bool
}

// newReservation returns a reservation with one reference.
func newReservation(release func()) *reservation {
	return &reservation{references: 1, releaseSlot: release}
}

// retain adds a reference; it returns false if the slot has been freed.
func (r *reservation) retain() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.references == 0 {
		return false
	}
	r.references++
	return true
}

func (r *reservation) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.references--; r.references == 0 {
		r.releaseSlot()
	}
}

// transfer exchanges the slot for one of another share. acquire returns the function
// that releases that one, or nil if there is none: then the request keeps its slot and
// is rejected.
func (r *reservation) transfer(acquire func() (release func())) {
	r.mu.Lock()
	defer r.mu.Unlock()
	release := acquire()
	if release == nil {
		r.rejected = true
		return
	}
	r.releaseSlot()
	r.releaseSlot = release
}

func (r *reservation) isRejected() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rejected
}
