// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// span is a part of the history that one watcher saw without a gap.
type span struct {
	after, until uint64
	events       map[uint64]string
}

// watcher is an informer: it lists, watches, goes on from where it was when its
// watch ends, and lists again when that is refused.
type watcher struct {
	env      *environment
	resource string
	// patience is after how long it hangs up and resumes.
	patience time.Duration

	mu    sync.Mutex
	known map[types.UID]string // revisions
	last  uint64
	spans []*span
}

// follow watches until the environment ends.
func (w *watcher) follow(ctx context.Context) {
	listed := false
	for ctx.Err() == nil {
		if !listed {
			listed = w.list()
		}
		if listed {
			listed = w.watch(ctx)
		}
		w.env.sleep(ctx, time.Second)
	}
}

func (w *watcher) list() bool {
	list, err := w.env.list(w.resource, "0")
	if err != nil {
		return false
	}
	m, err := meta.ListAccessor(list)
	if err != nil {
		return false
	}
	known := map[types.UID]string{}
	_ = meta.EachListItem(list, func(item runtime.Object) error {
		obj := item.(metav1.Object)
		known[obj.GetUID()] = obj.GetResourceVersion()
		return nil
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.known = known
	w.last, _ = strconv.ParseUint(m.GetResourceVersion(), 10, 64)
	w.spans = append(w.spans, &span{after: w.last, until: w.last, events: map[uint64]string{}})
	return true
}

// watch goes on from the last revision; it is false if only a list can.
func (w *watcher) watch(ctx context.Context) (resumable bool) {
	s := w.env.active()
	if s == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(asClient(ctx), w.patience)
	defer cancel()
	stream, err := s.main(w.resource).Store.Watch(ctx, &metainternalversion.ListOptions{
		ResourceVersion: strconv.FormatUint(w.last, 10), Watch: true, AllowWatchBookmarks: true,
	})
	if err != nil {
		return true
	}
	defer stream.Stop()
	for {
		select {
		case <-ctx.Done():
			return true
		case <-s.ctx.Done():
			return true
		case e, open := <-stream.ResultChan():
			switch {
			case !open:
				return true
			case e.Type == watch.Error:
				return false
			}
			w.take(e)
		}
	}
}

// take applies an event, and checks that it can follow what is known.
func (w *watcher) take(e watch.Event) {
	obj, err := meta.Accessor(e.Object)
	if err != nil {
		w.env.journal.complain("a watch of %s shows %v", w.resource, e)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	at, _ := strconv.ParseUint(obj.GetResourceVersion(), 10, 64)
	current := w.spans[len(w.spans)-1]
	if e.Type == watch.Bookmark {
		if at < w.last {
			w.env.journal.complain("a watch of %s shows the bookmark %d after the event %d", w.resource, at, w.last)
		}
		w.last, current.until = at, at
		return
	}
	what := fmt.Sprintf("%s %s %d", e.Type, obj.GetName(), at)
	w.env.secrets.search("the event "+what, fmt.Appendf(nil, "%+v", e.Object.(runtime.CacheableObject).GetObject()))
	if at <= w.last {
		w.env.journal.complain("a watch of %s shows %s after %d", w.resource, what, w.last)
	}
	_, known := w.known[obj.GetUID()]
	if known == (e.Type == watch.Added) {
		w.env.journal.complain("a watch of %s shows %s of what was known: %v", w.resource, what, known)
	}
	if e.Type == watch.Deleted {
		delete(w.known, obj.GetUID())
	} else {
		w.known[obj.GetUID()] = obj.GetResourceVersion()
	}
	w.last, current.until = at, at
	current.events[at] = what
}

// differs returns in what a watcher's state differs from a list.
func (w *watcher) differs(list runtime.Object) string {
	shown := map[types.UID]string{}
	_ = meta.EachListItem(list, func(item runtime.Object) error {
		obj := item.(metav1.Object)
		shown[obj.GetUID()] = obj.GetResourceVersion()
		return nil
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	if maps.Equal(shown, w.known) {
		return ""
	}
	return fmt.Sprintf("a watcher of %s knows %v, and a list shows %v", w.resource, w.known, shown)
}
