// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"
	apistorage "k8s.io/apiserver/pkg/storage"
	utilflowcontrol "k8s.io/apiserver/pkg/util/flowcontrol"
	"k8s.io/utils/clock"
)

const (
	// watchBuffer is how many events a watcher may be ahead of its client,
	// beyond what waits in the ring.
	watchBuffer = 32
	// watchBatch is how many events are read from the ring at a time.
	watchBatch = 64
	// bookmarkBeforeEnd is how long before a watch times out it gets its last
	// bookmark.
	bookmarkBeforeEnd = 2 * time.Second
)

// watcher is one watch. It reads the ring with a cursor of its own: nothing
// waits for it, and it holds no events back but the few in its channel.
type watcher struct {
	ctx        context.Context
	cancel     context.CancelFunc
	store      *Store
	key        string
	recursive  bool
	pred       apistorage.SelectionPredicate
	all        bool // pred selects everything
	filter     namespaceFilter
	records    bool            // and nothing that is discovered
	visibility Visibility      // nil if it never ends
	invisible  <-chan struct{} // closed when the visibility has ended
	bookmarks  bool
	results    chan watch.Event

	initial     *tree // what is there; nil if it is not to be sent
	endBookmark bool  // after it
	failed      error // why the watch ends before it began
	revision    uint64
	position    uint64 // in the ring
	epoch       uint64 // of the view, when the watch began
	progress    uint64 // the last request for progress that was answered

	stopWatching func() // called when the watch has ended
}

func newWatcher(ctx context.Context, s *Store, key string, opts apistorage.ListOptions) *watcher {
	// Read before the filter: a change in between ends the watch.
	epoch := s.view.currentEpoch()
	w := &watcher{
		epoch:     epoch,
		store:     s,
		key:       key,
		recursive: opts.Recursive,
		pred:      opts.Predicate,
		filter:    s.namespaceFilter(ctx),
		records:   s.leavesOutDiscovered(ctx),
		all:       opts.Predicate.Empty() && (opts.Predicate.ShardSelector == nil || opts.Predicate.ShardSelector.Empty()),
		bookmarks: opts.Predicate.AllowWatchBookmarks || opts.ProgressNotify,
		results:   make(chan watch.Event, watchBuffer),
		progress:  s.progress.requested.Load(),
	}
	if w.visibility = visibilityOf(ctx); w.visibility != nil {
		w.invisible = w.visibility.Done()
	}
	w.ctx, w.cancel = context.WithCancel(ctx)
	return w
}

// Stop implements watch.Interface.
func (w *watcher) Stop() { w.cancel() }

// ResultChan implements watch.Interface.
func (w *watcher) ResultChan() <-chan watch.Event { return w.results }

func (w *watcher) run() {
	defer w.store.watches.Add(-1)
	defer w.stopWatching()
	defer close(w.results)
	defer w.cancel()
	if err := w.serve(); err != nil && w.ctx.Err() == nil {
		w.send(errorEvent(err))
	}
}

// serve sends events until the watch ends, and returns why it does, unless that is
// the client's doing.
func (w *watcher) serve() error {
	if w.failed != nil {
		return w.failed
	}
	if w.sendInitial() {
		utilflowcontrol.WatchInitialized(w.ctx)
		if err := w.follow(); err != nil {
			return err
		}
	}
	if w.visibilityEnded() {
		return w.visibility.Err()
	}
	return nil
}

func (w *watcher) visibilityEnded() bool {
	select {
	case <-w.invisible:
		return true
	default:
		return false
	}
}

func (w *watcher) sendInitial() bool {
	if w.initial != nil {
		sent := true
		visit := func(e *entry) bool {
			if w.selects(e) && w.filter.shows(e.key) {
				event := e.cacheable(w.store.backend.encodings)
				event.kept.Store(true)
				sent = w.sendObject(watch.Added, event)
			}
			return sent
		}
		if w.recursive {
			ascend(w.initial, w.key, "", visit)
		} else if e, found := w.initial.Get(&entry{key: w.key}); found {
			visit(e)
		}
		w.initial = nil
		if !sent {
			return false
		}
	}
	return !w.endBookmark || w.sendBookmark(w.revision, true)
}

// follow sends what happens, as it happens, and bookmarks while nothing does. It
// returns an error if there is more that it cannot send.
func (w *watcher) follow() error {
	v := &w.store.view
	bookmark := w.bookmarkTimer()
	if bookmark != nil {
		defer bookmark.Stop()
	}
	var batch [watchBatch]*event
	due := false // a bookmark is
	for {
		changed := v.changed.wait()
		v.mu.RLock()
		sameEpoch := v.epoch == w.epoch
		n, ok := v.ring.read(w.position, batch[:])
		if n == 0 && ok {
			// All events up to here were sent, see view.
			w.revision = w.store.backend.revisions.last.Load()
		}
		v.mu.RUnlock()
		if !sameEpoch {
			return epochEndedError()
		}
		if !ok {
			watchersCutOff.WithLabelValues(w.store.resource.Resource).Inc()
			return apierrors.NewResourceExpired(fmt.Sprintf("the watch fell behind: events after resource version %d are no longer available: relist", w.revision))
		}
		for _, e := range batch[:n] {
			if !w.deliver(e) {
				return nil
			}
		}
		w.position += uint64(n)
		if n > 0 {
			w.revision = batch[n-1].revision
			clear(batch[:n])
			continue
		}
		if requested := w.store.progress.requested.Load(); requested != w.progress {
			w.progress = requested
			due = w.bookmarks
		}
		if due && !w.sendBookmark(w.revision, false) {
			return nil
		}
		due = false
		select {
		case <-changed:
		case <-timerChannel(bookmark):
			due = true
			bookmark.Reset(w.untilBookmark())
		case <-w.invisible:
			return nil
		case <-w.ctx.Done():
			return nil
		case <-w.store.backend.ctx.Done():
			return nil
		}
	}
}

// deliver sends what a change means to those who see only what is selected.
func (w *watcher) deliver(e *event) bool {
	if w.recursive && !strings.HasPrefix(e.key, w.key) || !w.recursive && e.key != w.key {
		return true
	}
	was := e.prev != nil && w.selects(e.prev)
	is := e.next != nil && w.selects(e.next)
	switch {
	case !was && !is || !w.filter.shows(e.key):
		return true
	case was && is:
		return w.sendObject(watch.Modified, e.next.cacheable(w.store.backend.encodings))
	case is:
		return w.sendObject(watch.Added, e.next.cacheable(w.store.backend.encodings))
	}
	return w.sendObject(watch.Deleted, e.asDeleted(w.store.versioned, w.store.backend.encodings))
}

func (w *watcher) selects(e *entry) bool {
	if w.records && e.rec == nil {
		return false
	}
	if w.all {
		return true
	}
	matched, err := w.pred.Matches(e.obj)
	return err == nil && matched
}

// sendObject sends nothing that was selected without a visibility.
func (w *watcher) sendObject(typ watch.EventType, obj *cachingEvent) bool {
	return !w.visibilityEnded() && w.send(watch.Event{Type: typ, Object: obj})
}

func (w *watcher) send(e watch.Event) bool {
	select {
	case w.results <- e:
		return true
	default:
	}
	select {
	case w.results <- e:
		return true
	case <-w.ctx.Done():
		return false
	case <-w.store.backend.ctx.Done():
		return false
	}
}

func (w *watcher) sendBookmark(revision uint64, initialEventsEnd bool) bool {
	obj := w.store.newFunc()
	w.store.setVersion(obj, revision)
	if initialEventsEnd {
		if err := apistorage.AnnotateInitialEventsEndBookmark(obj); err != nil {
			return w.send(errorEvent(err)) && false
		}
	}
	return w.send(watch.Event{Type: watch.Bookmark, Object: obj})
}

func (w *watcher) bookmarkTimer() clock.Timer {
	if !w.bookmarks {
		return nil
	}
	return w.store.backend.clock.NewTimer(w.untilBookmark())
}

// untilBookmark spreads bookmarks, so that a thousand watchers that began
// together are not served together for ever; and times the last one.
func (w *watcher) untilBookmark() time.Duration {
	interval := w.store.backend.bookmarkInterval
	interval += time.Duration(rand.Float64() * float64(interval) / 4)
	if deadline, ok := w.ctx.Deadline(); ok {
		if last := time.Until(deadline) - bookmarkBeforeEnd; last > 0 {
			return min(interval, last)
		}
	}
	return interval
}

func timerChannel(t clock.Timer) <-chan time.Time {
	if t == nil {
		return nil
	}
	return t.C()
}
