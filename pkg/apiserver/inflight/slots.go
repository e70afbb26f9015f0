package inflight

import "sync"

// slots are a share: as many requests as it has room for are served at a time.
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

// keyedLimit bounds how many requests there are for each key.
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

// reservation is the slot of one request. The handlers of the generic server return
// when the client goes away, though what they began goes on; so each part that
// works for the request enters and leaves, and the last one that leaves gives
// the slot back.
type reservation struct {
	mu          sync.Mutex
	references  int
	releaseSlot func()
	rejected    bool
}

// newReservation returns a ticket that is entered once.
func newReservation(give func()) *reservation { return &reservation{references: 1, releaseSlot: give} }

// retain is false if the slot was given back.
func (t *reservation) retain() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.references == 0 {
		return false
	}
	t.references++
	return true
}

func (t *reservation) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.references--; t.references == 0 {
		t.releaseSlot()
	}
}

// transfer exchanges the slot for one of another share, which take takes; it returns
// what gives it back, or nil if there is none. Then the request keeps its slot
// and is to be refused.
func (t *reservation) transfer(take func() (give func())) {
	t.mu.Lock()
	defer t.mu.Unlock()
	give := take()
	if give == nil {
		t.rejected = true
		return
	}
	t.releaseSlot()
	t.releaseSlot = give
}

func (t *reservation) isRejected() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rejected
}
