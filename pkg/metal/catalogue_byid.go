package metal

import (
	"context"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// byID caches entities that are looked up one by one, because there are too
// many to list.
type byID[T any] struct {
	clock  clock.WithTicker
	entity string
	get    func(context.Context, string) (*T, error)
	// ttl and gap are how old an answer may be: that it is there, and that it
	// is not.
	ttl, gap time.Duration

	mu      sync.Mutex
	entries map[string]*byIDEntry[T]
	since   time.Time // since when gets fail
}

type byIDEntry[T any] struct {
	found   *T // nil: not known
	answers bool
	tried   time.Time
	failed  error
	reading chan struct{}
}

func newByID[T any](c clock.WithTicker, entity string, get func(context.Context, string) (*T, error)) *byID[T] {
	return &byID[T]{
		clock: c, entity: entity, get: get, ttl: catalogueTTL, gap: catalogueGap, entries: map[string]*byIDEntry[T]{},
	}
}

// lookup returns the entity, or nil if the metal-api does not know it. What
// was found once is found while the metal-api is away, with an error that says
// so.
func (b *byID[T]) lookup(ctx context.Context, id string) (*T, error) {
	if id == "" {
		return nil, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entry(id)
	reading := b.read(id, e)
	if reading == nil {
		return b.answer(id, e, nil)
	}
	b.mu.Unlock()
	late := b.clock.NewTimer(catalogueWait)
	defer late.Stop()
	var err error
	select {
	case <-reading:
	case <-ctx.Done():
		err = ctx.Err()
	case <-late.C():
		err = ErrTooSlow
	}
	b.mu.Lock()
	return b.answer(id, e, err)
}

func (b *byID[T]) answer(id string, e *byIDEntry[T], err error) (*T, error) {
	if err == nil {
		err = e.failed
	}
	if err == nil && e.answers {
		return e.found, nil
	}
	return e.found, unreachable(b.entity, id, b.since, err)
}

func (b *byID[T]) entry(id string) *byIDEntry[T] {
	e := b.entries[id]
	if e == nil {
		if len(b.entries) >= catalogueMostIDs {
			b.forget()
		}
		e = &byIDEntry[T]{}
		b.entries[id] = e
	}
	return e
}

// forget makes room, from what is oldest in effect: whatever is past its time.
func (b *byID[T]) forget() {
	for id, e := range b.entries {
		if e.reading == nil && b.clock.Since(e.tried) >= b.ttl {
			delete(b.entries, id)
		}
	}
}

// read begins a get, or joins the one under way; nil if there is an answer
// that is new enough.
func (b *byID[T]) read(id string, e *byIDEntry[T]) (done <-chan struct{}) {
	if e.reading != nil {
		return e.reading
	}
	age := b.gap
	switch {
	case e.failed != nil:
		age = min(age, catalogueRetry)
	case e.found != nil:
		age = b.ttl
	}
	if !e.tried.IsZero() && b.clock.Since(e.tried) < age {
		return nil
	}
	e.reading = make(chan struct{})
	began := b.clock.Now()
	go func() {
		found, err := b.get(context.Background(), id)
		b.mu.Lock()
		defer b.mu.Unlock()
		e.tried = b.clock.Now()
		if IsNotFound(err) {
			found, err = nil, nil
		}
		if e.failed = err; err == nil {
			e.found, e.answers, b.since = found, true, time.Time{}
		} else if b.since.IsZero() {
			b.since = began
		}
		close(e.reading)
		e.reading = nil
	}()
	return e.reading
}
