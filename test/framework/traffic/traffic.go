// SPDX-License-Identifier: Apache-2.0

// Package traffic is clients that go on while servers come and go: they write, read
// and watch machines of one namespace through the kube-apiserver. Each is as client-go
// makes it: it repeats what a server says may be repeated, and nothing else, and so notes
// every request that a user would see fail.
package traffic

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	typed "metal-stack.io/infrastructure-apiserver/generated/clientset/versioned/typed/infrastructure/v1alpha4"
	api "metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

const (
	// limit ends whatever a client waits for.
	limit = time.Minute
	// stepLabel counts the writes of an object.
	stepLabel = "step"

	// Writers and readers pause between two requests, and kubectl between two runs. An
	// interruption lasts a second and more, so each client meets it; without pauses the
	// clients take the processors that servers need to start.
	requestPause = 40 * time.Millisecond
	kubectlPause = 250 * time.Millisecond
)

// Options say how many clients there are.
type Options struct {
	// Namespace is bound, and no other machine is deleted in it.
	Namespace string
	// Writers change a machine each. Readers list. Watchers run informers.
	Writers, Readers, Watchers int
}

// Traffic is clients at work. kubectl and a watch that resumes are always among them.
type Traffic struct {
	t        testing.TB
	c        *cluster.Cluster
	o        Options
	config   *rest.Config
	machines typed.MetalStackMachineInterface
	wg       sync.WaitGroup
	stop     context.CancelFunc
	watched  []cache.SharedIndexInformer

	mu       sync.Mutex
	failures []error
	requests int
	longest  time.Duration
	written  map[string]int // the step that was acknowledged last, by name
	answers  answers
	resumes  resumes
}

// Start starts clients, and returns when they have begun to write.
func Start(t testing.TB, c *cluster.Cluster, o Options) *Traffic {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &Traffic{t: t, c: c, o: o, config: c.Admin(), stop: cancel, written: map[string]int{}, answers: answers{}}
	l.config.Wrap(l.count)
	l.machines = c.Metalstack(t, l.config).InfrastructureV1alpha4().MetalStackMachines(o.Namespace)
	t.Cleanup(l.Stop)
	for i := range o.Watchers {
		l.inform(t.Context(), i)
	}
	l.resume(ctx)
	for i := range o.Writers {
		l.wg.Go(func() { l.write(ctx, "load-"+strconv.Itoa(i)) })
	}
	for range o.Readers {
		l.wg.Go(func() { l.read(ctx) })
	}
	l.AwaitWrites(1)
	l.wg.Go(func() { l.kubectl(ctx, "load-0") })
	return l
}

// Stop ends all clients but the informers, and returns when all requests have been
// answered. The informers go on until the test ends.
func (l *Traffic) Stop() {
	l.stop()
	l.wg.Wait()
}

// do makes a request, which must not fail.
func (l *Traffic) do(what string, request func(ctx context.Context) error) bool {
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
func (l *Traffic) fail(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, fmt.Errorf(format, args...))
}

// pause waits for the next request of a client.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// write changes one object again and again, and requires to read what was
// acknowledged.
func (l *Traffic) write(ctx context.Context, name string) {
	var last uint64
	newer := func(m *api.MetalStackMachine) {
		if revision := l.revision(m.ResourceVersion); revision < last {
			l.fail("%s is at resource version %d after %d", name, revision, last)
		} else {
			last = revision
		}
	}
	step, exists := l.last(name)
	for ; ctx.Err() == nil; step++ {
		value := strconv.Itoa(step)
		acknowledged := l.do("write "+name, func(ctx context.Context) error {
			var m *api.MetalStackMachine
			var err error
			if !exists {
				claim := objects.Machine(name)
				claim.Labels = map[string]string{stepLabel: value}
				m, err = l.machines.Create(ctx, claim, metav1.CreateOptions{})
			} else {
				patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, stepLabel, value)
				m, err = l.machines.Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
			}
			if err == nil {
				newer(m)
			}
			return err
		})
		if !acknowledged {
			return
		}
		exists = true
		l.mu.Lock()
		l.written[name] = step
		l.mu.Unlock()
		l.do("get "+name, func(ctx context.Context) error {
			m, err := l.machines.Get(ctx, name, metav1.GetOptions{})
			if err == nil {
				newer(m)
				if got := m.Labels[stepLabel]; got != value {
					l.fail("%s is at step %s after step %s was acknowledged", name, got, value)
				}
			}
			return err
		})
		pause(ctx, requestPause)
	}
}

// last is the step after the one at which an earlier Traffic left an object.
func (l *Traffic) last(name string) (next int, exists bool) {
	l.do("get "+name, func(ctx context.Context) error {
		m, err := l.machines.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err == nil {
			exists, next = true, stepOf(m)+1
		}
		return err
	})
	return next, exists
}

// read lists again and again.
func (l *Traffic) read(ctx context.Context) {
	var last uint64
	for ; ctx.Err() == nil; pause(ctx, requestPause) {
		l.do("list", func(ctx context.Context) error {
			list, err := l.machines.List(ctx, metav1.ListOptions{})
			if err != nil {
				return err
			}
			if revision := l.revision(list.ResourceVersion); revision < last {
				l.fail("a list is at resource version %d after %d", revision, last)
			} else {
				last = revision
			}
			return nil
		})
	}
}

// kubectl runs kubectl again and again, to read and to write.
func (l *Traffic) kubectl(ctx context.Context, name string) {
	for i := 0; ctx.Err() == nil; i++ {
		args := []string{"-n", l.o.Namespace, "get", "msm"}
		if i%2 == 1 {
			args = []string{"-n", l.o.Namespace, "annotate", "--overwrite", "msm", name, "kubectl=" + strconv.Itoa(i)}
		}
		l.do("kubectl "+args[2], func(context.Context) error {
			_, stderr, err := l.c.Kubectl(l.t, l.c.Admin(), args...)
			if err != nil {
				return fmt.Errorf("%w: %s", err, stderr)
			}
			return nil
		})
		pause(ctx, kubectlPause)
	}
}

// acknowledged is how many steps were by now.
func (l *Traffic) acknowledged() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, step := range l.written {
		n += step + 1
	}
	return n
}

// AwaitWrites waits until n more writes were acknowledged.
func (l *Traffic) AwaitWrites(n int) {
	l.t.Helper()
	want := l.acknowledged() + n
	framework.Eventually(l.t, limit, func(context.Context) error {
		l.mu.Lock()
		failed := len(l.failures) > 0
		l.mu.Unlock()
		if now := l.acknowledged(); now < want && !failed {
			return fmt.Errorf("%d of %d", now, want)
		}
		return nil
	}, "waited for %d writes", n)
}

// RequireUnharmed requires that nothing has failed, and that all clients see
// what was written. The clients have to be stopped.
func (l *Traffic) RequireUnharmed() {
	l.t.Helper()
	l.mu.Lock()
	failures, answered := l.failures, maps.Clone(l.answers) // the informers go on
	l.mu.Unlock()
	for _, failure := range failures {
		l.t.Error(failure)
	}
	for name, want := range l.written {
		m, err := l.machines.Get(l.t.Context(), name, metav1.GetOptions{})
		require.NoError(l.t, err)
		require.Equal(l.t, want, stepOf(m), "an acknowledged write of %s was lost", name)
		for i, informer := range l.watched {
			framework.Eventually(l.t, limit, func(context.Context) error {
				obj, found, err := informer.GetStore().GetByKey(l.o.Namespace + "/" + name)
				if err != nil || !found {
					return fmt.Errorf("it is there: %t, %w", found, err)
				}
				if got := stepOf(obj.(*api.MetalStackMachine)); got != want {
					return fmt.Errorf("it is at step %d", got)
				}
				return nil
			}, "waited for watcher %d to see %s at step %d", i, name, want)
		}
	}
	l.t.Logf("%d requests, %d steps; the longest took %s; answers with an error, each repeated: %v; watches: %s",
		l.requests, l.acknowledged(), l.longest.Round(time.Millisecond), answered, l.resumes)
}

// revision is a resource version as a number; 0 if it is none, which is noted.
func (l *Traffic) revision(version string) uint64 {
	n, err := strconv.ParseUint(version, 10, 64)
	if err != nil {
		l.fail("a resource version that is no number: %w", err)
	}
	return n
}

// stepOf is the step that an object is at; -1 if it has none.
func stepOf(m *api.MetalStackMachine) int {
	step, err := strconv.Atoi(m.Labels[stepLabel])
	if err != nil {
		return -1
	}
	return step
}
