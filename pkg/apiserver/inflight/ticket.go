package inflight

import "sync"

// slots are a share: as many requests as it has room for are served at a time.
type slots chan struct{}

func (s slots) take() bool {
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s slots) give() { <-s }

// counts bounds how many requests there are for each key.
type counts struct {
	limit int
	mu    sync.Mutex
	n     map[string]int
}

func (c *counts) enter(key string) bool {
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

func (c *counts) leave(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n[key]--; c.n[key] == 0 {
		delete(c.n, key)
	}
}

// ticket is the slot of one request. The handlers of the generic server return
// when the client goes away, though what they began goes on; so each part that
// works for the request enters and leaves, and the last one that leaves gives
// the slot back.
type ticket struct {
	mu      sync.Mutex
	inside  int
	give    func()
	refused bool
}

// newTicket returns a ticket that is entered once.
func newTicket(give func()) *ticket { return &ticket{inside: 1, give: give} }

// enter is false if the slot was given back.
func (t *ticket) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.inside == 0 {
		return false
	}
	t.inside++
	return true
}

func (t *ticket) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.inside--; t.inside == 0 {
		t.give()
	}
}

// move exchanges the slot for one of another share, which take takes; it returns
// what gives it back, or nil if there is none. Then the request keeps its slot
// and is to be refused.
func (t *ticket) move(take func() (give func())) {
	t.mu.Lock()
	defer t.mu.Unlock()
	give := take()
	if give == nil {
		t.refused = true
		return
	}
	t.give()
	t.give = give
}

func (t *ticket) isRefused() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.refused
}
