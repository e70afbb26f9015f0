// SPDX-License-Identifier: Apache-2.0

package replicas_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	informers "metal-stack.io/infrastructure-apiserver/generated/informers/externalversions"
	api "metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

// load is clients that never rest, each as client-go makes them: they repeat
// what a server says may be repeated, and nothing else.
type load struct {
	w    *environment
	wg   sync.WaitGroup
	stop context.CancelFunc

	mu       sync.Mutex
	failures []error
	requests int
	longest  time.Duration
	written  map[string]string // the step that was acknowledged last, by name
	watched  []cache.SharedIndexInformer
}

// stepLabel counts the writes of an object.
const stepLabel = "step"

func (env *environment) load(writers, readers, watchers int) *load {
	env.t.Helper()
	ctx, cancel := context.WithCancel(env.t.Context())
	l := &load{w: env, stop: cancel, written: map[string]string{}}
	env.t.Cleanup(l.rest)
	for i := range watchers {
		l.watch(env.t.Context(), i)
	}
	for i := range writers {
		l.wg.Go(func() { l.write(ctx, "load-"+strconv.Itoa(i)) })
	}
	for range readers {
		l.wg.Go(func() { l.read(ctx) })
	}
	l.awaitWrites(1)
	l.wg.Go(func() { l.kubectl(ctx, "load-0") })
	return l
}

// rest ends the load, and returns when all requests have been answered. The
// watchers go on until the test ends.
func (l *load) rest() {
	l.stop()
	l.wg.Wait()
}

// do makes a request, which must not fail.
func (l *load) do(what string, request func(ctx context.Context) error) bool {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	began := time.Now()
	err := request(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	l.longest = max(l.longest, time.Since(began))
	if err != nil {
		l.failures = append(l.failures, fmt.Errorf("%s, after %s: %w (%s)", what, time.Since(began), err, apierrors.ReasonForError(err)))
	}
	return err == nil
}

// fail notes that something is not as it has to be.
func (l *load) fail(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, fmt.Errorf(format, args...))
}

// write changes one object again and again, and requires to read what was
// acknowledged.
func (l *load) write(ctx context.Context, name string) {
	machines := l.w.as(l.w.Admin()).MetalStackMachines(team)
	var last uint64
	newer := func(m *api.MetalStackMachine) {
		if revision := revisionOf(l.w.t, m.ResourceVersion); revision < last {
			l.fail("%s is at resource version %d after %d", name, revision, last)
		} else {
			last = revision
		}
	}
	for step := 0; ctx.Err() == nil; step++ {
		value := strconv.Itoa(step)
		acknowledged := l.do("write "+name, func(ctx context.Context) error {
			var m *api.MetalStackMachine
			var err error
			if step == 0 {
				claim := objects.Machine(name)
				claim.Labels = map[string]string{stepLabel: value}
				m, err = machines.Create(ctx, claim, metav1.CreateOptions{})
			} else {
				patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, stepLabel, value)
				m, err = machines.Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
			}
			if err == nil {
				newer(m)
			}
			return err
		})
		if !acknowledged {
			return
		}
		l.mu.Lock()
		l.written[name] = value
		l.mu.Unlock()
		l.do("get "+name, func(ctx context.Context) error {
			m, err := machines.Get(ctx, name, metav1.GetOptions{})
			if err == nil {
				newer(m)
				if got := m.Labels[stepLabel]; got != value {
					l.fail("%s is at step %s after step %s was acknowledged", name, got, value)
				}
			}
			return err
		})
	}
}

// read lists again and again.
func (l *load) read(ctx context.Context) {
	machines := l.w.as(l.w.Admin()).MetalStackMachines(team)
	var last uint64
	for ctx.Err() == nil {
		l.do("list", func(ctx context.Context) error {
			list, err := machines.List(ctx, metav1.ListOptions{})
			if err != nil {
				return err
			}
			if revision := revisionOf(l.w.t, list.ResourceVersion); revision < last {
				l.fail("a list is at resource version %d after %d", revision, last)
			} else {
				last = revision
			}
			return nil
		})
	}
}

// kubectl runs kubectl again and again, to read and to write.
func (l *load) kubectl(ctx context.Context, name string) {
	for i := 0; ctx.Err() == nil; i++ {
		args := []string{"-n", team, "get", "msm"}
		if i%2 == 1 {
			args = []string{"-n", team, "annotate", "--overwrite", "msm", name, "kubectl=" + strconv.Itoa(i)}
		}
		l.do("kubectl "+args[2], func(context.Context) error {
			_, stderr, err := l.w.Kubectl(l.w.t, l.w.Admin(), args...)
			if err != nil {
				return fmt.Errorf("%w: %s", err, stderr)
			}
			return nil
		})
	}
}

// watch runs an informer, which must not see anything go, nor go back.
func (l *load) watch(ctx context.Context, i int) {
	l.w.t.Helper()
	factory := informers.NewSharedInformerFactory(l.w.Metalstack(l.w.t, l.w.Admin()), 0)
	informer := factory.Infrastructure().V1alpha4().MetalStackMachines().Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(old, now any) {
			before, after := old.(*api.MetalStackMachine), now.(*api.MetalStackMachine)
			if before.UID != after.UID {
				l.fail("watcher %d: %s became another object", i, after.Name)
			}
			was, _ := strconv.Atoi(before.Labels[stepLabel])
			is, _ := strconv.Atoi(after.Labels[stepLabel])
			if is < was || revisionOf(l.w.t, after.ResourceVersion) < revisionOf(l.w.t, before.ResourceVersion) {
				l.fail("watcher %d: %s went from step %d at %s to step %d at %s", i, after.Name, was, before.ResourceVersion, is, after.ResourceVersion)
			}
		},
		DeleteFunc: func(obj any) { l.fail("watcher %d: something was deleted: %v", i, obj) },
	})
	require.NoError(l.w.t, err)
	factory.Start(ctx.Done())
	require.True(l.w.t, cache.WaitForCacheSync(l.w.context().Done(), informer.HasSynced))
	l.watched = append(l.watched, informer)
}

// acknowledged is how many writes were by now.
func (l *load) acknowledged() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, value := range l.written {
		step, _ := strconv.Atoi(value)
		n += step + 1
	}
	return n
}

// awaitWrites waits until n more writes were acknowledged.
func (l *load) awaitWrites(n int) {
	l.w.t.Helper()
	want := l.acknowledged() + n
	l.w.await(fmt.Sprintf("%d writes", n), func(context.Context) error {
		l.mu.Lock()
		failed := len(l.failures) > 0
		l.mu.Unlock()
		if now := l.acknowledged(); now < want && !failed {
			return fmt.Errorf("%d of %d", now, want)
		}
		return nil
	})
}

// requireUnharmed requires that nothing has failed, and that all clients see
// what was written.
func (l *load) requireUnharmed() {
	l.w.t.Helper()
	l.mu.Lock()
	failures := l.failures
	l.mu.Unlock()
	for _, failure := range failures {
		l.w.t.Error(failure)
	}
	for name, want := range l.written {
		m, err := l.w.as(l.w.Admin()).MetalStackMachines(team).Get(l.w.context(), name, metav1.GetOptions{})
		require.NoError(l.w.t, err)
		require.Equal(l.w.t, want, m.Labels[stepLabel], "an acknowledged write of %s was lost", name)
		for i, informer := range l.watched {
			l.w.await(fmt.Sprintf("watcher %d to see %s at step %s", i, name, want), func(context.Context) error {
				obj, found, err := informer.GetStore().GetByKey(team + "/" + name)
				if err != nil || !found {
					return fmt.Errorf("it is there: %t, %w", found, err)
				}
				if got := obj.(*api.MetalStackMachine).Labels[stepLabel]; got != want {
					return fmt.Errorf("it is at step %s", got)
				}
				return nil
			})
		}
	}
	l.w.t.Logf("%d requests, %d acknowledged writes; the longest took %s", l.requests, l.acknowledged(), l.longest.Round(time.Millisecond))
}
