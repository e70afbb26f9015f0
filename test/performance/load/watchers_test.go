// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// watcher is a client that watches a namespace, or all of them, and what it
// believes to be there. It complains of what no watch may do: show a revision
// that is not higher than the last one, add what is there, change or delete
// what is not.
type watcher struct {
	name, namespace string
	client          versioned.Interface
	deliveries      *deliveries

	mu        sync.Mutex
	state     map[string]uint64 // revision by namespace/name
	last      uint64
	resumes   int
	relists   int
	complains []string
}

func (w *watcher) complain(format string, args ...any) {
	if len(w.complains) < 10 {
		w.complains = append(w.complains, w.name+": "+fmt.Sprintf(format, args...))
	}
}

// replace is the beginning: a list, or the initial events of a watch.
func (w *watcher) replace(state map[string]uint64, revision uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state != nil {
		w.relists++
	}
	w.state, w.last = state, revision
}

// event takes in what a watch says.
func (w *watcher) event(typ watch.EventType, m *v1alpha4.MetalStackMachine) {
	revision, _ := strconv.ParseUint(m.ResourceVersion, 10, 64)
	w.mu.Lock()
	defer w.mu.Unlock()
	if typ == watch.Bookmark {
		w.last = max(w.last, revision)
		return
	}
	key := m.Namespace + "/" + m.Name
	before, there := w.state[key]
	switch {
	case revision <= w.last:
		w.complain("%s of %s at %d after %d", typ, key, revision, w.last)
	case there == (typ == watch.Added):
		w.complain("%s of %s at %d, which was at %d", typ, key, revision, before)
	}
	w.last = revision
	if typ == watch.Deleted {
		delete(w.state, key)
	} else {
		w.state[key] = revision
	}
	w.deliveries.saw(revision)
}

// compare returns how the state differs from a list of all namespaces.
func (w *watcher) compare(all map[string]uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for key, revision := range all {
		if w.namespace != "" && !strings.HasPrefix(key, w.namespace+"/") {
			continue
		}
		if n++; w.state[key] != revision {
			return fmt.Errorf("%s: %s is at %d, and at %d in a list", w.name, key, w.state[key], revision)
		}
	}
	if n != len(w.state) {
		return fmt.Errorf("%s: %d objects, and %d in a list", w.name, len(w.state), n)
	}
	return nil
}

// begun is whether the watcher knows what is there.
func (w *watcher) begun() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state != nil
}

// resumeAfter is how many events a watch gets before the watcher ends it and
// goes on with another one from where it was.
const resumeAfter = 500

// resume lists once, and then watches, over and over from the revision that it
// saw last.
func (w *watcher) resume(ctx context.Context) {
	machines := w.client.InfrastructureV1alpha4().MetalStackMachines(w.namespace)
	list, err := machines.List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		w.fail(ctx, "list", err)
		return
	}
	revision, _ := strconv.ParseUint(list.ResourceVersion, 10, 64)
	w.replace(revisions(list), revision)
	for ctx.Err() == nil {
		w.mu.Lock()
		from := strconv.FormatUint(w.last, 10)
		w.mu.Unlock()
		events, err := machines.Watch(ctx, metav1.ListOptions{ResourceVersion: from, AllowWatchBookmarks: true})
		if err != nil {
			w.fail(ctx, "watch", err)
			return
		}
		w.follow(ctx, events)
		events.Stop()
	}
}

func (w *watcher) follow(ctx context.Context, events watch.Interface) {
	for range resumeAfter {
		e, open := <-events.ResultChan()
		if !open {
			break
		}
		if e.Type == watch.Error {
			w.fail(ctx, "watch", apierrors.FromObject(e.Object))
			return
		}
		w.event(e.Type, e.Object.(*v1alpha4.MetalStackMachine))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.resumes++
}

func (w *watcher) fail(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.complain("%s: %v", what, err)
}

// reflect watches with client-go's reflector, as informers do.
func (w *watcher) reflect(ctx context.Context) {
	machines := w.client.InfrastructureV1alpha4().MetalStackMachines(w.namespace)
	cache.NewReflector(cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return machines.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return machines.Watch(ctx, o)
		},
	}, w.client), &v1alpha4.MetalStackMachine{}, &reflected{w}, 0).RunWithContext(ctx)
}

// reflected is where a reflector puts what it sees.
type reflected struct{ *watcher }

var (
	_ cache.ReflectorStore         = &reflected{}
	_ cache.ReflectorBookmarkStore = &reflected{}
)

// Add implements cache.ReflectorStore.
func (r *reflected) Add(obj any) error { return r.take(watch.Added, obj) }

// Update implements cache.ReflectorStore.
func (r *reflected) Update(obj any) error { return r.take(watch.Modified, obj) }

// Delete implements cache.ReflectorStore.
func (r *reflected) Delete(obj any) error { return r.take(watch.Deleted, obj) }

func (r *reflected) take(typ watch.EventType, obj any) error {
	r.event(typ, obj.(*v1alpha4.MetalStackMachine))
	return nil
}

// Replace implements cache.ReflectorStore.
func (r *reflected) Replace(all []any, version string) error {
	list := &v1alpha4.MetalStackMachineList{}
	for _, obj := range all {
		list.Items = append(list.Items, *obj.(*v1alpha4.MetalStackMachine))
	}
	revision, err := strconv.ParseUint(version, 10, 64)
	r.replace(revisions(list), revision)
	return err
}

// Resync implements cache.ReflectorStore.
func (r *reflected) Resync() error { return nil }

// Bookmark implements cache.ReflectorBookmarkStore.
func (r *reflected) Bookmark(version string) error {
	revision, err := strconv.ParseUint(version, 10, 64)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = max(r.last, revision)
	return err
}

func revisions(list *v1alpha4.MetalStackMachineList) map[string]uint64 {
	state := make(map[string]uint64, len(list.Items))
	for i := range list.Items {
		m := &list.Items[i]
		state[m.Namespace+"/"+m.Name], _ = strconv.ParseUint(m.ResourceVersion, 10, 64)
	}
	return state
}
