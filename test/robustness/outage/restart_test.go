// SPDX-License-Identifier: Apache-2.0

package outage_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	"metal-stack.io/infrastructure-apiserver/generated/informers/externalversions"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

func TestRestart_MakesNoObjectFlap(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	client := f.Metalstack(t, f.Admin())
	objects := client.InfrastructureV1alpha4().MetalStackMachines
	w := startInformer(t, client)
	require.Len(t, w.names(), claims+holders+discovered)
	all := f.list(t, client)
	require.Len(t, all, claims+holders+discovered)

	ctx, cancel := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	reading.Go(func() { readAll(ctx, t, client, f.busy.Namespace, all) })

	server := f.Servers[0]
	for i, stop := range []struct {
		how string
		do  func()
	}{
		{"SIGTERM", func() { server.Stop(t) }},
		{"SIGKILL, and traffic comes before it is ready again", server.Kill},
		{"SIGTERM, and once more", func() { server.Stop(t) }},
	} {
		page, err := objects(f.quiet.Namespace).List(ctx, metav1.ListOptions{Limit: 10})
		require.NoError(t, err, stop.how)
		stop.do()
		// What happens while nobody looks is seen afterwards.
		lost := fmt.Sprintf("holder-%04d", i)
		require.NoError(t, f.Metal.Sim.ForceFree(f.holds[i]))
		found, _ := f.allocate(t, fmt.Sprintf("new-%d", i))
		w.expect(found, lost)
		// A look at a large fleet takes a while; until then nobody knows its metal.
		quick := f.Metal.Sim.Inject(simulator.Fault{Endpoint: "machine-*", Kind: simulator.FaultLatency, Latency: 2 * time.Second})
		server.Start(t)
		server.AwaitReady(t)
		quick()
		f.AwaitAvailable(t)

		framework.Eventually(t, limit, func(ctx context.Context) error {
			if m := w.get(f.busy.Namespace, lost); m == nil || m.Status.Metal.Phase != "Gone" {
				return fmt.Errorf("%s: %s is shown as %v", stop.how, lost, m)
			}
			if w.get(f.busy.Namespace, found) == nil {
				return fmt.Errorf("%s: %s is not shown", stop.how, found)
			}
			return nil
		})
		color := fmt.Sprintf("color-%d", i)
		_, err = objects(f.quiet.Namespace).Patch(ctx, "claim-0001", types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"labels":{"color":%q}}}`, color), metav1.PatchOptions{})
		require.NoError(t, err, stop.how)
		framework.Eventually(t, limit, func(context.Context) error {
			if got := w.get(f.quiet.Namespace, "claim-0001").Labels["color"]; got != color {
				return fmt.Errorf("%s: the informer shows %q", stop.how, got)
			}
			return nil
		})
		_, err = objects(f.quiet.Namespace).List(ctx, metav1.ListOptions{Limit: 10, Continue: page.Continue})
		require.True(t, apierrors.IsResourceExpired(err), "%s: nothing is left out of a list that was begun before: %v", stop.how, err)
	}
	cancel()
	reading.Wait()
	framework.Eventually(t, 2*limit, func(context.Context) error {
		if diff := cmp.Diff(f.list(t, client), w.revisions()); diff != "" {
			return fmt.Errorf("the informer has not caught up (-list +informer):\n%s", diff)
		}
		return nil
	})
	require.Empty(t, w.complaints())
}

// list returns the revision of every object.
func (f *fleet) list(t *testing.T, client versioned.Interface) map[string]string {
	t.Helper()
	revisions := map[string]string{}
	for _, team := range []cluster.Team{f.quiet, f.busy} {
		list, err := client.InfrastructureV1alpha4().MetalStackMachines(team.Namespace).List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		for _, m := range list.Items {
			revisions[m.Namespace+"/"+m.Name] = m.ResourceVersion
		}
	}
	return revisions
}

// readAll lists a namespace over and over. Lists may fail; those that do not
// hold everything that was there before, at whatever moment.
func readAll(ctx context.Context, t *testing.T, client versioned.Interface, namespace string, before map[string]string) {
	succeeded, failed := 0, 0
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		opts := []metav1.ListOptions{{}, {ResourceVersion: "0"}}[i%2]
		list, err := client.InfrastructureV1alpha4().MetalStackMachines(namespace).List(ctx, opts)
		switch {
		case ctx.Err() != nil:
		case apierrors.IsNotFound(err):
			t.Errorf("the kind is gone: %v", err)
		case err != nil:
			failed++
		default:
			succeeded++
			shown := map[string]bool{}
			for _, m := range list.Items {
				shown[m.Namespace+"/"+m.Name] = true
			}
			for name := range before {
				if len(name) > len(namespace) && name[:len(namespace)+1] == namespace+"/" && !shown[name] {
					t.Errorf("%s has vanished from a list of %d at %q", name, len(list.Items), opts.ResourceVersion)
				}
			}
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	t.Logf("%d lists were whole, %d failed", succeeded, failed)
}

// watcher is an informer, and what it should not have received.
type watcher struct {
	store cache.Store

	mu     sync.Mutex
	synced bool
	wanted map[string]bool // names that may be new, or lose their metal
	wrong  []string
}

func startInformer(t *testing.T, client versioned.Interface) *watcher {
	t.Helper()
	informer := externalversions.NewSharedInformerFactory(client, 0).Infrastructure().V1alpha4().MetalStackMachines().Informer()
	w := &watcher{store: informer.GetStore(), wanted: map[string]bool{}}
	handler, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if m := obj.(*v1alpha4.MetalStackMachine); !w.may(m.Name) {
				w.complain("%s was added", m.Name)
			}
		},
		UpdateFunc: func(was, is any) {
			before, after := was.(*v1alpha4.MetalStackMachine), is.(*v1alpha4.MetalStackMachine)
			if before.UID != after.UID {
				w.complain("%s is another object", after.Name)
			}
			if before.Status.Ready && !after.Status.Ready && !w.may(after.Name) {
				w.complain("%s is not ready any more: %v", after.Name, after.Status.Conditions)
			}
		},
		DeleteFunc: func(obj any) {
			name, _ := cache.DeletionHandlingMetaNamespaceKeyFunc(obj)
			w.complain("%s was deleted", name)
		},
	})
	require.NoError(t, err)
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { informer.Run(stop) })
	t.Cleanup(func() {
		close(stop)
		running.Wait()
	})
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	require.True(t, cache.WaitForCacheSync(ctx.Done(), handler.HasSynced))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.synced = true
	return w
}

// expect lets an object be new, and another one lose its metal.
func (w *watcher) expect(found, lost string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wanted[found], w.wanted[lost] = true, true
}

func (w *watcher) may(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.synced || w.wanted[name]
}

func (w *watcher) complain(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

func (w *watcher) complaints() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.wrong)
}

func (w *watcher) names() []string { return w.store.ListKeys() }

func (w *watcher) get(namespace, name string) *v1alpha4.MetalStackMachine {
	obj, found, _ := w.store.GetByKey(namespace + "/" + name)
	if !found {
		return nil
	}
	return obj.(*v1alpha4.MetalStackMachine)
}

func (w *watcher) revisions() map[string]string {
	revisions := map[string]string{}
	for _, obj := range w.store.List() {
		m := obj.(*v1alpha4.MetalStackMachine)
		revisions[m.Namespace+"/"+m.Name] = m.ResourceVersion
	}
	return revisions
}
