// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
)

var (
	scheme = runtime.NewScheme()
	codecs = serializer.NewCodecFactory(scheme)
	codec  = codecs.LegacyCodec(examplev1.SchemeGroupVersion)
)

func init() {
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	utilruntime.Must(example.AddToScheme(scheme))
	utilruntime.Must(examplev1.AddToScheme(scheme))
}

// stoppedClock always shows the same time, and its timers run: so revisions go
// up by one, as the suites expect it.
type stoppedClock struct {
	clock.RealClock
	at time.Time
}

func (c stoppedClock) Now() time.Time { return c.at }

func (c stoppedClock) Since(t time.Time) time.Duration { return c.at.Sub(t) }

var clockAtZero = stoppedClock{at: time.UnixMicro(1)}

func newBackend(t testing.TB, opts Options) *Backend {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	if opts.Ledger == nil {
		opts.Ledger = memory.New()
	}
	b, err := NewBackend(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func podConfig(resource string, projector Projector) ResourceConfig {
	return ResourceConfig{
		Resource:    schema.GroupResource{Group: "example.apiserver.k8s.io", Resource: resource},
		Prefix:      "/" + resource + "/",
		Codec:       codec,
		NewFunc:     func() runtime.Object { return &example.Pod{} },
		NewListFunc: func() runtime.Object { return &example.PodList{} },
		Projector:   projector,
	}
}

func openPods(t testing.TB, b *Backend, resource string, projector Projector) *Store {
	t.Helper()
	s, err := b.Open(podConfig(resource, projector))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func start(t testing.TB, b *Backend) {
	t.Helper()
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// startPods opens one store and starts it.
func startPods(t testing.TB, opts Options) *Store {
	t.Helper()
	b := newBackend(t, opts)
	s := openPods(t, b, "pods", nil)
	start(t, b)
	return s
}

// recordOf returns what the ledger has.
func recordOf(t testing.TB, l ledger.Ledger, key string) *ledger.Record {
	t.Helper()
	list, err := l.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if r, found := byKey(list)[key]; found {
		return &r
	}
	return nil
}

func pod(namespace, name string) *example.Pod {
	return &example.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
}

// key is where the store has the object of a name in team-a.
func (s *Store) testKey(name string) string { return s.prefix + "team-a/" + name }

func create(t testing.TB, s *Store, p *example.Pod) *example.Pod {
	t.Helper()
	out := &example.Pod{}
	if err := s.Create(context.Background(), s.prefix+p.Namespace+"/"+p.Name, p, out, 0); err != nil {
		t.Fatalf("create %s: %v", p.Name, err)
	}
	return out
}

func update(t testing.TB, s *Store, name string, change func(*example.Pod)) *example.Pod {
	t.Helper()
	out := &example.Pod{}
	if err := tryUpdatePod(s, name, out, change); err != nil {
		t.Fatalf("update %s: %v", name, err)
	}
	return out
}

func tryUpdatePod(s *Store, name string, out *example.Pod, change func(*example.Pod)) error {
	return s.GuaranteedUpdate(context.Background(), s.testKey(name), out, false, nil,
		apistorage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
			change(obj.(*example.Pod))
			return obj, nil
		}), nil)
}

func remove(t testing.TB, s *Store, name string) *example.Pod {
	t.Helper()
	out := &example.Pod{}
	if err := tryRemove(s, name, out); err != nil {
		t.Fatalf("delete %s: %v", name, err)
	}
	return out
}

func tryRemove(s *Store, name string, out *example.Pod) error {
	return s.Delete(context.Background(), s.testKey(name), out, nil, apistorage.ValidateAllObjectFunc, nil, apistorage.DeleteOptions{})
}

// get returns the object as the view has it, or nil.
func get(t testing.TB, s *Store, name string) *example.Pod {
	t.Helper()
	out := &example.Pod{}
	err := s.Get(context.Background(), s.testKey(name), apistorage.GetOptions{ResourceVersion: "0", IgnoreNotFound: true}, out)
	if err != nil {
		t.Fatalf("get %s: %v", name, err)
	}
	if out.Name == "" {
		return nil
	}
	return out
}

func everything() apistorage.ListOptions {
	return apistorage.ListOptions{Recursive: true, Predicate: apistorage.Everything}
}

func list(t testing.TB, s *Store, opts apistorage.ListOptions) *example.PodList {
	t.Helper()
	out := &example.PodList{}
	if err := s.GetList(context.Background(), s.prefix, opts, out); err != nil {
		t.Fatalf("list: %v", err)
	}
	return out
}

// startWatch begins a watch that ends with the test.
func startWatch(t testing.TB, s *Store, opts apistorage.ListOptions) watch.Interface {
	t.Helper()
	w, err := s.Watch(context.Background(), s.prefix, opts)
	if err != nil {
		t.Fatalf("watch: %v", err)
	}
	t.Cleanup(w.Stop)
	return w
}

// watchFrom watches everything after a revision.
func watchFrom(t testing.TB, s *Store, revision string) watch.Interface {
	t.Helper()
	opts := everything()
	opts.ResourceVersion = revision
	return startWatch(t, s, opts)
}

// objectOf returns the object of an event, as clients get it.
func objectOf(e watch.Event) runtime.Object {
	if cacheable, ok := e.Object.(runtime.CacheableObject); ok {
		return cacheable.GetObject()
	}
	return e.Object
}

// describeEvent puts an event in words: "ADDED m1 Installing".
func describeEvent(e watch.Event) string {
	switch obj := objectOf(e).(type) {
	case *example.Pod:
		return strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Type, obj.Name, obj.Status.Phase))
	case *metav1.Status:
		return fmt.Sprintf("%s %s", e.Type, obj.Reason)
	}
	return fmt.Sprintf("%s %T", e.Type, e.Object)
}

// expectEvents waits for events and compares them with their words.
func expectEvents(t testing.TB, w watch.Interface, want ...string) {
	t.Helper()
	for _, words := range want {
		select {
		case e, open := <-w.ResultChan():
			if !open {
				t.Fatalf("the watch ended, instead of %q", words)
			}
			if said := describeEvent(e); said != words {
				t.Fatalf("the event is %q, not %q", said, words)
			}
		case <-time.After(2 * time.Minute):
			t.Fatalf("no event, instead of %q", words)
		}
	}
}

// expectNoEvent checks that no event is there; call it when all are settled.
func expectNoEvent(t testing.TB, w watch.Interface) {
	t.Helper()
	select {
	case e, open := <-w.ResultChan():
		t.Fatalf("there is an event (%v): %q", open, describeEvent(e))
	default:
	}
}

func names(l *example.PodList) string {
	var names []string
	for _, item := range l.Items {
		names = append(names, item.Name)
	}
	return strings.Join(names, " ")
}
