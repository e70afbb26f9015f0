// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"sort"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	// DefaultHistory is how many events are kept per resource, however old.
	DefaultHistory = 4096
	// historyAge is how long events are kept beyond that: longer than a client
	// takes that lists, loses its watch and comes back.
	historyAge = 75 * time.Second
	// historyBurst bounds what historyAge adds, as a multiple of the count.
	historyBurst = 8
)

// event is one change of one object. It is shared by all watchers.
type event struct {
	revision uint64
	at       time.Time
	typ      watch.EventType
	key      string
	prev     *entry // before, nil for Added
	next     *entry // after, nil for Deleted
	// obj is what a watcher gets that sees all objects.
	obj runtime.Object

	deletedOnce    sync.Once
	deleted        runtime.Object
	deletedCaching cachingRef
}

// asDeleted is the object as it was shown last, for watches that it left.
func (e *event) asDeleted(versioned func(runtime.Object, uint64) runtime.Object, cache *encodingCache) *cachingEvent {
	e.deletedOnce.Do(func() {
		if e.deleted = e.obj; e.typ != watch.Deleted {
			e.deleted = versioned(e.prev.obj, e.revision)
		}
	})
	return e.deletedCaching.eventOf(e.deleted, cache)
}

// ring keeps the recent events of one resource, in the order of revisions.
// Positions in it count from the first event ever; they are the cursors of
// watchers.
type ring struct {
	history int
	events  []*event // the first one is at position start
	start   uint64
	// floor: every event after this revision is in the ring.
	floor uint64
	// compacted is the floor if it was ever raised.
	compacted uint64
}

func (r *ring) end() uint64 { return r.start + uint64(len(r.events)) }

func (r *ring) append(e *event) {
	r.events = append(r.events, e)
	drop := 0
	for n := len(r.events); n-drop > r.history; drop++ {
		if old := r.events[drop]; n-drop <= r.history*historyBurst && e.at.Sub(old.at) < historyAge {
			break
		}
	}
	r.drop(drop)
}

// drop forgets the n oldest events.
func (r *ring) drop(n int) {
	if n == 0 {
		return
	}
	r.floor = r.events[n-1].revision
	r.compacted = r.floor
	clear(r.events[:n])
	r.events = r.events[n:]
	r.start += uint64(n)
}

// compact forgets the events up to revision.
func (r *ring) compact(revision uint64) {
	r.drop(r.count(revision))
	r.floor = max(r.floor, revision)
	r.compacted = r.floor
}

// count is how many events in the ring are not after revision.
func (r *ring) count(revision uint64) int {
	return sort.Search(len(r.events), func(i int) bool { return r.events[i].revision > revision })
}

// listFresh returns the position of the first event after revision. It is false if
// that event may be forgotten.
func (r *ring) after(revision uint64) (position uint64, ok bool) {
	return r.start + uint64(r.count(revision)), revision >= r.floor
}

// read copies events from position on into batch. It is false if the event at
// position is forgotten.
func (r *ring) read(position uint64, batch []*event) (n int, ok bool) {
	if position < r.start {
		return 0, false
	}
	return copy(batch, r.events[position-r.start:]), true
}
