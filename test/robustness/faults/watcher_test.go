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
func (f *watcher) follow(ctx context.Context) {
	listed := false
	for ctx.Err() == nil {
		if !listed {
			listed = f.list()
		}
		if listed {
			listed = f.watch(ctx)
		}
		f.env.sleep(ctx, time.Second)
	}
}

func (f *watcher) list() bool {
	list, err := f.env.list(f.resource, "0")
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
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known = known
	f.last, _ = strconv.ParseUint(m.GetResourceVersion(), 10, 64)
	f.spans = append(f.spans, &span{after: f.last, until: f.last, events: map[uint64]string{}})
	return true
}

// watch goes on from the last revision; it is false if only a list can.
func (f *watcher) watch(ctx context.Context) (resumable bool) {
	s := f.env.active()
	if s == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(asClient(ctx), f.patience)
	defer cancel()
	stream, err := s.main(f.resource).Store.Watch(ctx, &metainternalversion.ListOptions{
		ResourceVersion: strconv.FormatUint(f.last, 10), Watch: true, AllowWatchBookmarks: true,
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
			f.take(e)
		}
	}
}

// take applies an event, and checks that it can follow what is known.
func (f *watcher) take(e watch.Event) {
	obj, err := meta.Accessor(e.Object)
	if err != nil {
		f.env.journal.complain("a watch of %s shows %v", f.resource, e)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	at, _ := strconv.ParseUint(obj.GetResourceVersion(), 10, 64)
	current := f.spans[len(f.spans)-1]
	if e.Type == watch.Bookmark {
		if at < f.last {
			f.env.journal.complain("a watch of %s shows the bookmark %d after the event %d", f.resource, at, f.last)
		}
		f.last, current.until = at, at
		return
	}
	what := fmt.Sprintf("%s %s %d", e.Type, obj.GetName(), at)
	f.env.secrets.search("the event "+what, fmt.Appendf(nil, "%+v", e.Object))
	if at <= f.last {
		f.env.journal.complain("a watch of %s shows %s after %d", f.resource, what, f.last)
	}
	_, known := f.known[obj.GetUID()]
	if known == (e.Type == watch.Added) {
		f.env.journal.complain("a watch of %s shows %s of what was known: %v", f.resource, what, known)
	}
	if e.Type == watch.Deleted {
		delete(f.known, obj.GetUID())
	} else {
		f.known[obj.GetUID()] = obj.GetResourceVersion()
	}
	f.last, current.until = at, at
	current.events[at] = what
}

// differs returns in what a watcher's state differs from a list.
func (f *watcher) differs(list runtime.Object) string {
	shown := map[types.UID]string{}
	_ = meta.EachListItem(list, func(item runtime.Object) error {
		obj := item.(metav1.Object)
		shown[obj.GetUID()] = obj.GetResourceVersion()
		return nil
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	if maps.Equal(shown, f.known) {
		return ""
	}
	return fmt.Sprintf("a watcher of %s knows %v, and a list shows %v", f.resource, f.known, shown)
}
