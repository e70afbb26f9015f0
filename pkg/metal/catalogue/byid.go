// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metrics"
)

// entityCache caches entities that are looked up one by one, because there are too
// many to list.
type entityCache[T any] struct {
	clock  clock.WithTicker
	entity string
	get    func(context.Context, string) (*T, error)
	// ttl and missTTL are how old an answer may be: that it exists, and that it
	// does not.
	ttl, missTTL time.Duration
	limits       *lookupLimits
	// rate bounds all gets, also those of requests without an allowance; may be nil.
	rate  *rate.Limiter
	loads *prometheus.CounterVec
	// changed is called after each get that was answered; may be nil.
	changed func(id string)

	mu           sync.Mutex
	entries      map[string]*entityEntry[T]
	failingSince time.Time // since when gets fail
}

type entityEntry[T any] struct {
	found *T // nil: not known
	// answered is when the last get began that the metal-api has answered, tried when the last one
	// ended.
	answered, tried time.Time
	failed          error
	reading         chan struct{}
	// waiting is how many lookups wait for the get in flight, which is cancelled
	// when none does any more.
	waiting int
	cancel  context.CancelFunc
}

func newEntityCache[T any](c clock.WithTicker, entity string, get func(context.Context, string) (*T, error)) *entityCache[T] {
	return &entityCache[T]{
		clock: c, entity: entity, get: get, ttl: entryTTL, missTTL: minGap, entries: map[string]*entityEntry[T]{},
	}
}

// lookup returns the entity, or nil if the metal-api does not know it. What
// was found once is found while the metal-api does not answer, with an error that
// says so.
func (c *entityCache[T]) lookup(ctx context.Context, id string) (*T, error) {
	if id == "" {
		return nil, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entry(id)
	reading, err := c.read(ctx, id, e)
	if reading == nil {
		return c.answer(id, e, err)
	}
	e.waiting++
	c.mu.Unlock()
	late := c.clock.NewTimer(lookupTimeout)
	defer late.Stop()
	select {
	case <-reading:
	case <-ctx.Done():
		err = ctx.Err()
	case <-late.C():
		// The next lookup will have the answer.
		err = metal.ErrTimeout
	}
	c.mu.Lock()
	if e.reading == reading {
		// It goes on without waiters: the next lookup has the answer. It ends when
		// the requests of all waiters have ended.
		if e.waiting--; e.waiting == 0 && ctx.Err() != nil {
			e.cancel()
			e.reading = nil
		}
	}
	return c.answer(id, e, err)
}

// cached returns what is cached of an id, and when it was asked for: never if at is zero.
func (c *entityCache[T]) cached(id string) (found *T, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[id]
	if e == nil {
		return nil, time.Time{}
	}
	return e.found, e.answered
}

func (c *entityCache[T]) answer(id string, e *entityEntry[T], err error) (*T, error) {
	if err == nil {
		err = e.failed
	}
	if err == nil && !e.answered.IsZero() {
		return e.found, nil
	}
	return e.found, unavailable(c.entity, id, c.failingSince, err)
}

// entry returns what is cached of an id, or a new entry, which is not cached yet:
// ids whose get is refused must not take room from others.
func (c *entityCache[T]) entry(id string) *entityEntry[T] {
	if e := c.entries[id]; e != nil {
		return e
	}
	return &entityEntry[T]{}
}

// store caches an entry.
func (c *entityCache[T]) store(id string, e *entityEntry[T]) {
	if c.entries[id] == nil && len(c.entries) >= maxEntries {
		c.evict()
	}
	c.entries[id] = e
}

// evict makes room, from what is oldest in effect: whatever is past its time.
func (c *entityCache[T]) evict() {
	for id, e := range c.entries {
		if e.reading == nil && c.clock.Since(e.tried) >= c.ttl {
			delete(c.entries, id)
		}
	}
}

// read begins a get, or joins the one in flight; nil if there is an answer
// that is new enough, or none may begin, which the error then says. The get
// goes on while a lookup waits for it, and at most for as long as gets may take.
func (c *entityCache[T]) read(ctx context.Context, id string, e *entityEntry[T]) (done chan struct{}, err error) {
	if e.reading != nil {
		return e.reading, nil
	}
	age := c.missTTL
	switch {
	case e.failed != nil:
		age = min(age, retryGap)
	case e.found != nil:
		age = c.ttl
	}
	if !e.tried.IsZero() && c.clock.Since(e.tried) < age {
		return nil, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := c.acquire(ctx); err != nil {
		return nil, err
	}
	c.store(id, e)
	done = make(chan struct{})
	getting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e.reading, e.waiting, e.cancel = done, 0, cancel
	began := c.clock.Now()
	go func() {
		defer cancel()
		found, err := c.get(getting, id)
		report := func() {}
		defer func() { report() }()
		c.mu.Lock()
		defer c.mu.Unlock()
		defer close(done)
		if e.reading != done {
			return // It was cancelled, which says nothing of the metal-api.
		}
		e.reading = nil
		c.count(metrics.Outcome(metal.KindOf(err)))
		e.tried = c.clock.Now()
		if metal.IsNotFound(err) {
			found, err = nil, nil
		}
		if e.failed = err; err == nil {
			e.found, e.answered, c.failingSince = found, began, time.Time{}
			if c.changed != nil {
				report = func() { c.changed(id) }
			}
		} else if c.failingSince.IsZero() {
			c.failingSince = began
		}
	}()
	return done, nil
}

// acquire takes a token for one get.
func (c *entityCache[T]) acquire(ctx context.Context) error {
	err := c.limits.acquire(ctx)
	if err == nil && c.rate != nil && !c.rate.AllowN(c.clock.Now(), 1) {
		err = errServerLimit
	}
	if err != nil {
		c.count("limited")
	}
	return err
}

func (c *entityCache[T]) count(outcome string) {
	if c.loads != nil {
		c.loads.WithLabelValues(c.entity, outcome).Inc()
	}
}
