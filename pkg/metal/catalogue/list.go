// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
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

	mu           sync.Mutex
	cached       []*T
	loaded       time.Time // when what is cached was asked for; zero: never
	tried        time.Time // when the last read ended
	took         time.Duration
	failed       error
	failingSince time.Time     // since when reads fail
	reading      chan struct{} // closed when the read in flight has ended; nil: none
	began        time.Time     // when that was begun
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
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.IndexFunc(l.cached, func(e *T) bool { return l.id(e) == id }); i >= 0 {
		return l.cached[i]
	}
	return nil
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
	reading := l.read()
	if reading == nil {
		return l.cached, l.unknown(wanted, l.failed)
	}
	l.mu.Unlock()
	late := l.clock.NewTimer(lookupTimeout)
	defer late.Stop()
	var err error
	select {
	case <-reading:
	case <-ctx.Done():
		err = ctx.Err()
	case <-late.C():
		err = metal.ErrTimeout
	}
	l.mu.Lock()
	if err == nil {
		err = l.failed
	}
	return l.cached, l.unknown(wanted, err)
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
	if l.loaded.IsZero() || l.clock.Since(l.loaded) >= refreshInterval {
		l.read()
	}
}

// minInterval is the least time from the end of one read to the begin of the next.
func (l *listCache[T]) minInterval() time.Duration {
	if l.failed != nil {
		return retryGap
	}
	return max(minGap, quietFactor*l.took)
}

// read begins a read, or joins the one in flight; nil within the gap. One that
// hangs, as reads do that an outage has caught, is not joined for long.
func (l *listCache[T]) read() (done <-chan struct{}) {
	if l.reading != nil && l.clock.Since(l.began) < lookupTimeout {
		return l.reading
	}
	if l.reading == nil && !l.tried.IsZero() && l.clock.Since(l.tried) < l.minInterval() {
		return nil
	}
	reading, began := make(chan struct{}), l.clock.Now()
	l.reading, l.began = reading, began
	go func() {
		// The request that asked first may end first.
		entries, err := l.load(context.Background())
		l.mu.Lock()
		if began.Before(l.loaded) {
			// A later one has succeeded meanwhile.
			l.mu.Unlock()
			close(reading)
			return
		}
		if err == nil && l.changed != nil && !reflect.DeepEqual(entries, l.cached) {
			defer l.changed()
		}
		defer l.mu.Unlock()
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
