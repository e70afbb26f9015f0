// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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
	loads        *prometheus.CounterVec

	mu           sync.Mutex
	entries      map[string]*entityEntry[T]
	failingSince time.Time // since when gets fail
}

type entityEntry[T any] struct {
	found   *T // nil: not known
	answers bool
	tried   time.Time
	failed  error
	reading chan struct{}
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
func (b *entityCache[T]) lookup(ctx context.Context, id string) (*T, error) {
	if id == "" {
		return nil, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entry(id)
	reading, err := b.read(ctx, id, e)
	if reading == nil {
		return b.answer(id, e, err)
	}
	e.waiting++
	b.mu.Unlock()
	late := b.clock.NewTimer(lookupTimeout)
	defer late.Stop()
	select {
	case <-reading:
	case <-ctx.Done():
		err = ctx.Err()
	case <-late.C():
		// The next lookup will have the answer.
		err = metal.ErrTimeout
	}
	b.mu.Lock()
	if e.reading == reading {
		// It goes on without waiters: the next lookup has the answer. It ends when
		// the requests of all waiters have ended.
		if e.waiting--; e.waiting == 0 && ctx.Err() != nil {
			e.cancel()
			e.reading = nil
		}
	}
	return b.answer(id, e, err)
}

func (b *entityCache[T]) answer(id string, e *entityEntry[T], err error) (*T, error) {
	if err == nil {
		err = e.failed
	}
	if err == nil && e.answers {
		return e.found, nil
	}
	return e.found, unavailable(b.entity, id, b.failingSince, err)
}

// entry returns what is cached of an id, or a new entry, which is not cached yet:
// ids whose get is refused must not take room from others.
func (b *entityCache[T]) entry(id string) *entityEntry[T] {
	if e := b.entries[id]; e != nil {
		return e
	}
	return &entityEntry[T]{}
}

// store caches an entry.
func (b *entityCache[T]) store(id string, e *entityEntry[T]) {
	if b.entries[id] == nil && len(b.entries) >= maxEntries {
		b.evict()
	}
	b.entries[id] = e
}

// evict makes room, from what is oldest in effect: whatever is past its time.
func (b *entityCache[T]) evict() {
	for id, e := range b.entries {
		if e.reading == nil && b.clock.Since(e.tried) >= b.ttl {
			delete(b.entries, id)
		}
	}
}

// read begins a get, or joins the one in flight; nil if there is an answer
// that is new enough, or none may begin, which the error then says. The get
// goes on while a lookup waits for it, and at most for as long as gets may take.
func (b *entityCache[T]) read(ctx context.Context, id string, e *entityEntry[T]) (done chan struct{}, err error) {
	if e.reading != nil {
		return e.reading, nil
	}
	age := b.missTTL
	switch {
	case e.failed != nil:
		age = min(age, retryGap)
	case e.found != nil:
		age = b.ttl
	}
	if !e.tried.IsZero() && b.clock.Since(e.tried) < age {
		return nil, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := b.limits.acquire(ctx); err != nil {
		b.count("limited")
		return nil, err
	}
	b.store(id, e)
	done = make(chan struct{})
	getting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e.reading, e.waiting, e.cancel = done, 0, cancel
	began := b.clock.Now()
	go func() {
		defer cancel()
		found, err := b.get(getting, id)
		b.mu.Lock()
		defer b.mu.Unlock()
		defer close(done)
		if e.reading != done {
			return // It was cancelled, which says nothing of the metal-api.
		}
		e.reading = nil
		b.count(metrics.Outcome(metal.KindOf(err)))
		e.tried = b.clock.Now()
		if metal.IsNotFound(err) {
			found, err = nil, nil
		}
		if e.failed = err; err == nil {
			e.found, e.answers, b.failingSince = found, true, time.Time{}
		} else if b.failingSince.IsZero() {
			b.failingSince = began
		}
	}()
	return done, nil
}

func (b *entityCache[T]) count(outcome string) {
	if b.loads != nil {
		b.loads.WithLabelValues(b.entity, outcome).Inc()
	}
}
