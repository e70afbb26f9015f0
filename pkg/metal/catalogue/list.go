// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metrics"
)

// listCache caches one of the metal-api's lists as a whole.
type listCache[T any] struct {
	clock  clock.WithTicker
	entity string
	load   func(context.Context) ([]*T, error)
	id     func(*T) string
	loads  *prometheus.CounterVec
	// changed is called when other entries were read than before; may be nil.
	changed func()
	// onDemand: it is kept fresh only for a while after its last use.
	onDemand bool

	mu           sync.Mutex
	cached       []*T
	loaded       time.Time // when what is cached was asked for; zero: never
	tried        time.Time // when the last read ended
	took         time.Duration
	failed       error
	failingSince time.Time     // since when reads fail
	reading      chan struct{} // closed when the read in flight has ended; nil: none
	began        time.Time     // when that was begun
	used         time.Time     // when it was used last, of one that is read on demand
	watchers     int           // how many use it until they say so
}

func newListCache[T any](c clock.WithTicker, entity string, load func(context.Context) ([]*T, error), id func(*T) string) *listCache[T] {
	return &listCache[T]{clock: c, entity: entity, load: load, id: id}
}

// lookup returns the entry, or nil and all ids.
func (l *listCache[T]) lookup(ctx context.Context, id string) (*T, []string, error) {
	find := func(entries []*T) *T {
		if i := slices.IndexFunc(entries, func(e *T) bool { return l.id(e) == id }); i >= 0 {
			return entries[i]
		}
		return nil
	}
	entries, err := l.entries(ctx, id, func(entries []*T) bool { return find(entries) != nil })
	if found := find(entries); found != nil {
		return found, nil, nil
	}
	all := make([]string, 0, len(entries))
	for _, e := range entries {
		all = append(all, l.id(e))
	}
	slices.Sort(all)
	return nil, all, err
}

// get returns the entry if it is cached.
func (l *listCache[T]) get(id string) *T {
	entry, _ := l.getAt(id)
	return entry
}

// getAt returns the entry if it is cached, and when what is cached was asked for.
func (l *listCache[T]) getAt(id string) (*T, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return find(l.cached, id, l.id), l.loaded
}

// all returns what is cached.
func (l *listCache[T]) all() []*T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cached
}

// entries returns what is cached if it is enough; otherwise it reads the list
// again, once for all that wait and not more often than the gap allows. The
// error says why the entries may not be the newest.
func (l *listCache[T]) entries(ctx context.Context, wanted string, enough func([]*T) bool) ([]*T, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if enough(l.cached) {
		return l.cached, nil
	}
	reading := l.read(retryGap)
	if reading == nil {
		return l.cached, l.unknown(wanted, l.failed)
	}
	err := l.await(ctx, reading)
	return l.cached, l.unknown(wanted, err)
}

// await waits for a read, with l.mu held before and after.
func (l *listCache[T]) await(ctx context.Context, reading <-chan struct{}) error {
	l.mu.Unlock()
	defer l.mu.Lock()
	late := l.clock.NewTimer(lookupTimeout)
	defer late.Stop()
	select {
	case <-reading:
	case <-ctx.Done():
		return ctx.Err()
	case <-late.C():
		return metal.ErrTimeout
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// refresh reads the list again unless that was done within the minimal interval; while reads
// fail, more and more seldom, because reads of what is shown are repeated by themselves. The
// error is a *metal.StaleError.
func (l *listCache[T]) refresh(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used = l.clock.Now()
	err := l.failed
	if reading := l.read(min(max(minRetryInterval, l.tried.Sub(l.failingSince)), maxRetryInterval)); reading != nil {
		err = l.await(ctx, reading)
	}
	if err == nil {
		return nil
	}
	return &metal.StaleError{Since: l.loaded, Cause: err}
}

// recent returns what is cached if it is as fresh as a list that is in use; otherwise it reads it
// again. The error says why there is nothing, not that it is old.
func (l *listCache[T]) recent(ctx context.Context) ([]*T, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used = l.clock.Now()
	if !l.loaded.IsZero() && l.clock.Since(l.loaded) < refreshInterval+refreshTick {
		return l.cached, nil
	}
	err := l.failed
	if reading := l.read(retryGap); reading != nil {
		err = l.await(ctx, reading)
	}
	if l.loaded.IsZero() {
		return nil, &metal.StaleError{Cause: err}
	}
	return l.cached, nil
}

// watch keeps the list in use until stop is called.
func (l *listCache[T]) watch() (stop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watchers++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.watchers--
		l.used = l.clock.Now()
	})
}

// isLoaded reports whether the list was read once.
func (l *listCache[T]) isLoaded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.loaded.IsZero()
}

// unknown explains that wanted cannot be looked up because of cause.
func (l *listCache[T]) unknown(wanted string, cause error) error {
	if cause == nil {
		return nil
	}
	return unavailable(l.entity, wanted, l.failingSince, cause)
}

func unavailable(entity, wanted string, since time.Time, cause error) error {
	message := fmt.Sprintf("cannot look up %s %q: %v", entity, wanted, cause)
	if !since.IsZero() {
		message += " (unavailable since " + since.UTC().Format(time.RFC3339) + ")"
	}
	return &metal.Error{Kind: metal.Unavailable, Op: entity + " lookup", Message: message, Err: cause}
}

// refreshIfDue begins a read if it is time for one.
func (l *listCache[T]) refreshIfDue() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.onDemand && l.watchers == 0 && (l.used.IsZero() || l.clock.Since(l.used) >= usedInterval) {
		return
	}
	if l.loaded.IsZero() || l.clock.Since(l.loaded) >= refreshInterval {
		l.read(retryGap)
	}
}

// minInterval is the least time from the end of one read to the begin of the next, which is retry
// if that has failed.
func (l *listCache[T]) minInterval(retry time.Duration) time.Duration {
	if l.failed != nil {
		return retry
	}
	return max(minGap, quietFactor*l.took)
}

// read begins a read, or joins the one in flight; nil within the gap. One that
// hangs, as reads do that an outage has caught, is not joined for long.
func (l *listCache[T]) read(retry time.Duration) (done <-chan struct{}) {
	if l.reading != nil && l.clock.Since(l.began) < lookupTimeout {
		return l.reading
	}
	if l.reading == nil && !l.tried.IsZero() && l.clock.Since(l.tried) < l.minInterval(retry) {
		return nil
	}
	reading, began := make(chan struct{}), l.clock.Now()
	l.reading, l.began = reading, began
	go func() {
		// The request that asked first may end first.
		entries, err := l.load(context.Background())
		// The metal-api's order is arbitrary.
		slices.SortFunc(entries, func(a, b *T) int { return cmp.Compare(l.id(a), l.id(b)) })
		l.mu.Lock()
		if began.Before(l.loaded) {
			// A later one has succeeded meanwhile.
			l.mu.Unlock()
			close(reading)
			return
		}
		same := err == nil && !l.loaded.IsZero() && reflect.DeepEqual(entries, l.cached)
		if err == nil && !same && l.changed != nil {
			defer l.changed()
		}
		defer l.mu.Unlock()
		if same {
			entries = l.cached
		}
		l.tried, l.took, l.failed = l.clock.Now(), 0, err
		if err == nil {
			l.cached, l.loaded, l.took, l.failingSince = entries, began, l.clock.Since(began), time.Time{}
		} else if l.failingSince.IsZero() {
			l.failingSince = began
		}
		if l.loads != nil {
			l.loads.WithLabelValues(l.entity, metrics.Outcome(metal.KindOf(err))).Inc()
		}
		close(reading)
		if l.reading == reading {
			l.reading = nil
		}
	}()
	return reading
}
