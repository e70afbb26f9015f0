// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"context"
	"fmt"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	toolswatch "k8s.io/client-go/tools/watch"

	informers "metal-stack.io/infrastructure-apiserver/generated/informers/externalversions"
	api "metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// inform runs an informer, which must not see anything go, nor go back.
func (l *Traffic) inform(ctx context.Context, i int) {
	l.t.Helper()
	factory := informers.NewSharedInformerFactoryWithOptions(l.c.Metalstack(l.t, l.config), 0, informers.WithNamespace(l.o.Namespace))
	informer := factory.Infrastructure().V1alpha4().MetalStackMachines().Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(old, now any) {
			before, after := old.(*api.MetalStackMachine), now.(*api.MetalStackMachine)
			if before.UID != after.UID {
				l.fail("watcher %d: %s became another object", i, after.Name)
			}
			if was, is := stepOf(before), stepOf(after); is < was || l.revision(after.ResourceVersion) < l.revision(before.ResourceVersion) {
				l.fail("watcher %d: %s went from step %d at %s to step %d at %s", i, after.Name, was, before.ResourceVersion, is, after.ResourceVersion)
			}
		},
		DeleteFunc: func(obj any) { l.fail("watcher %d: something was deleted: %v", i, obj) },
	})
	require.NoError(l.t, err)
	factory.Start(ctx.Done())
	require.True(l.t, cache.WaitForCacheSync(ctx.Done(), informer.HasSynced))
	l.watched = append(l.watched, informer)
}

// resumes is what became of the watch that resumes.
type resumes struct{ begun, bookmarks, expired int }

func (r resumes) String() string {
	return fmt.Sprintf("begun %d times, %d expired; %d bookmarks", r.begun, r.expired, r.bookmarks)
}

// resume watches as client-go's RetryWatcher does, which begins again where a watch
// ended, and requires to see each step of each object in order. Where a watch cannot
// resume, and says so (410), it lists.
func (l *Traffic) resume(ctx context.Context) {
	began := make(chan struct{})
	l.wg.Go(func() {
		seen := map[string]int{}
		for first := true; ctx.Err() == nil; first = false {
			from := ""
			if !l.do("list to watch", func(ctx context.Context) error {
				list, err := l.machines.List(ctx, metav1.ListOptions{})
				if err != nil {
					return err
				}
				from = list.ResourceVersion
				for i := range list.Items {
					seen[list.Items[i].Name] = stepOf(&list.Items[i])
				}
				return nil
			}) {
				return
			}
			if first {
				close(began)
			}
			l.resumeFrom(ctx, from, seen)
		}
	})
	select {
	case <-began:
	case <-l.t.Context().Done():
	}
}

func (l *Traffic) resumeFrom(ctx context.Context, revision string, seen map[string]int) {
	watcher, err := toolswatch.NewRetryWatcherWithContext(ctx, revision, &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.AllowWatchBookmarks = true
			w, err := l.machines.Watch(ctx, o)
			if err != nil {
				return nil, err
			}
			l.note(func(r *resumes) { r.begun++ })
			return watch.Filter(w, func(e watch.Event) (watch.Event, bool) {
				if e.Type == watch.Bookmark {
					l.note(func(r *resumes) { r.bookmarks++ })
				}
				return e, true
			}), nil
		},
	})
	if err != nil {
		l.fail("the watch from %s: %w", revision, err)
		l.stop()
		return
	}
	for event := range watcher.ResultChan() {
		switch event.Type {
		case watch.Added, watch.Modified:
			m := event.Object.(*api.MetalStackMachine)
			was, known := seen[m.Name]
			if !known {
				was = stepOf(m) - 1
			}
			if is := stepOf(m); is >= 0 && is != was && is != was+1 {
				l.fail("the watch that resumes: %s went from step %d to step %d at %s", m.Name, was, is, m.ResourceVersion)
			}
			seen[m.Name] = stepOf(m)
		case watch.Error:
			if err := apierrors.FromObject(event.Object); apierrors.IsGone(err) || apierrors.IsResourceExpired(err) {
				l.note(func(r *resumes) { r.expired++ })
			} else {
				l.fail("the watch that resumes: %w", err)
			}
		}
	}
}

func (l *Traffic) note(what func(*resumes)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	what(&l.resumes)
}
