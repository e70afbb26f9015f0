// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	"k8s.io/apiserver/pkg/endpoints/handlers"
	apistorage "k8s.io/apiserver/pkg/storage"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// largePod is an object as controllers leave it: managed fields, conditions in
// annotations, an owner.
func largePod(i int) *example.Pod {
	p := managed(fmt.Sprintf("node-%05d", i), fmt.Sprintf("m%d", i), fmt.Sprintf("a%d", i))
	p.Labels = map[string]string{"cluster.x-k8s.io/cluster-name": "orchid", "cluster.x-k8s.io/set-name": "orchid-md-0"}
	p.Annotations = map[string]string{"notes": strings.Repeat("n", 500)}
	p.Finalizers = []string{"metalstackmachine.infrastructure.cluster.x-k8s.io"}
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "cluster.x-k8s.io/v1beta2", Kind: "Machine", Name: p.Name, UID: p.UID}}
	p.ManagedFields = []metav1.ManagedFieldsEntry{
		{Manager: "capi-machine", Operation: "Apply", FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{` + strings.Repeat(`"f:x":{},`, 60) + `"f:y":{}}}`)},
		{Manager: "manager", Operation: "Update", FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(`{"f:status":{` + strings.Repeat(`"f:x":{},`, 60) + `"f:y":{}}}`)},
	}
	return p
}

func newFleet(b *testing.B, n int) *fixture {
	w := newFixture(b, Options{})
	for i := range n {
		w.metal.set(fmt.Sprintf("m%d", i), fact{namespace: "team-a", role: "pods", phase: "Phoned Home", allocation: fmt.Sprintf("a%d", i)})
		create(b, w.pods, largePod(i))
	}
	return w
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkMemoryPerObject counts the view and the index, without the ledger
// and without history.
func BenchmarkMemoryPerObject(b *testing.B) {
	const n = 10000
	for b.Loop() {
		w := newFleet(b, n)
		l := w.ledger
		before := heap()
		again := newBackend(b, Options{Ledger: l})
		s := openPods(b, again, "pods", fakeProjector{w.metal, "pods"})
		start(b, again)
		b.ReportMetric(float64(heap()-before)/n, "B/object")
		runtime.KeepAlive(s)
		runtime.KeepAlive(w)
	}
}

func BenchmarkList10000(b *testing.B) {
	w := newFleet(b, 10000)
	run := func(name, key string, opts apistorage.ListOptions) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := w.pods.GetList(context.Background(), key, opts, &example.PodList{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("All", "/pods", everything())
	run("Page500", "/pods", paged(500, ""))
	one := everything()
	one.Recursive = false
	run("One", "/pods/team-a/node-05000", one)
	b.Run("AllAfterEachWrite", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			w.observe("m5", fact{phase: fmt.Sprint(i), allocation: "a5"})
			list(b, w.pods, everything())
		}
	})
}

func BenchmarkGet(b *testing.B) {
	w := newFleet(b, 10000)
	out := &example.Pod{}
	for b.Loop() {
		if err := w.pods.Get(context.Background(), "/pods/team-a/node-05000", apistorage.GetOptions{}, out); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUpdate(b *testing.B) {
	w := newFleet(b, 10000)
	for i := 0; b.Loop(); i++ {
		update(b, w.pods, "node-05000", func(p *example.Pod) { p.Generation = int64(i + 1) })
	}
}

// BenchmarkObserve10000 is a sweep: nothing of it is new, or everything.
func BenchmarkObserve10000(b *testing.B) {
	w := newFleet(b, 10000)
	refs := make([]metal.Ref, 10000)
	for i := range refs {
		refs[i] = machineRef(fmt.Sprintf("m%d", i))
	}
	b.Run("Unchanged", func(b *testing.B) {
		for b.Loop() {
			w.MetalChanged(refs)
		}
	})
	b.Run("Changed", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			for n := range refs {
				w.metal.set(refs[n].ID, fact{phase: fmt.Sprint(i), allocation: fmt.Sprintf("a%d", n)})
			}
			w.MetalChanged(refs)
		}
	})
}

func BenchmarkCommitToDelivery(b *testing.B) {
	for _, watchers := range []int{1, 1000} {
		b.Run(fmt.Sprintf("watchers=%d", watchers), func(b *testing.B) {
			w := newFleet(b, 100)
			var seen sync.WaitGroup
			start := list(b, w.pods, everything()).ResourceVersion
			for range watchers {
				events := watchFrom(b, w.pods, start)
				go func() {
					for e := range events.ResultChan() {
						if e.Type == watch.Modified {
							seen.Done()
						}
					}
				}()
			}
			var slowest time.Duration
			for i := 0; b.Loop(); i++ {
				seen.Add(watchers)
				began := time.Now()
				w.observe("m5", fact{phase: fmt.Sprint(i), allocation: "a5"})
				seen.Wait()
				slowest = max(slowest, time.Since(began))
			}
			b.ReportMetric(float64(slowest.Microseconds()), "µs-slowest")
		})
	}
}

// flushed is a response that nobody reads. The handler of a watch flushes it at the
// start, and after each event that no other follows.
type flushed struct {
	header http.Header
	flush  func()
}

func (f *flushed) Header() http.Header       { return f.header }
func (*flushed) Write(p []byte) (int, error) { return len(p), nil }
func (*flushed) WriteHeader(int)             {}
func (f *flushed) Flush()                    { f.flush() }

// noTimeout implements handlers.TimeoutFactory.
type noTimeout struct{}

func (noTimeout) TimeoutCh() (<-chan time.Time, func() bool) {
	return nil, func() bool { return true }
}

// processCPU is what the process has used.
func processCPU(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkWatchFanOut is one change that all watches encode for their clients.
func BenchmarkWatchFanOut(b *testing.B) {
	for _, watchers := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("watchers=%d", watchers), func(b *testing.B) {
			w := newFleet(b, 100)
			json := codecs.SupportedMediaTypes()[0]
			var served sync.WaitGroup
			start := list(b, w.pods, everything()).ResourceVersion
			served.Add(watchers)
			for range watchers {
				encoder := codecs.EncoderForVersion(json.Serializer, examplev1.SchemeGroupVersion)
				server := handlers.WatchServer{
					Watching: watchFrom(b, w.pods, start), Scope: &handlers.RequestScope{}, MediaType: json.MediaType,
					Framer: json.StreamSerializer.Framer, EmbeddedEncoder: encoder, TimeoutFactory: noTimeout{},
					Encoder: codecs.EncoderForVersion(json.StreamSerializer.Serializer, examplev1.SchemeGroupVersion),
				}
				go server.HandleHTTP(&flushed{http.Header{}, served.Done}, httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/pods", nil))
			}
			served.Wait()
			b.ReportAllocs()
			before := processCPU(b)
			for i := 0; b.Loop(); i++ {
				served.Add(watchers)
				w.observe("m5", fact{phase: fmt.Sprint(i), allocation: "a5"})
				served.Wait()
			}
			b.ReportMetric(float64((processCPU(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

// BenchmarkInitialEvents is a watch that begins with 1,000 objects, whose encodings are
// kept, or have no room.
func BenchmarkInitialEvents(b *testing.B) {
	const n = 1000
	run := func(b *testing.B, room int64) {
		w := newFleet(b, n)
		w.pods.backend.encodings.atMost = room
		json := codecs.SupportedMediaTypes()[0]
		opts := everything()
		opts.SendInitialEvents = new(true)
		var used time.Duration
		for b.Loop() {
			runtime.GC() // It ends encodings that are not kept.
			before := processCPU(b)
			ctx, cancel := context.WithCancel(b.Context())
			events := startWatch(b, w.pods, opts)
			sent := &countedEvents{flushed: flushed{http.Header{}, func() {}}, left: n, done: cancel}
			server := handlers.WatchServer{
				Watching: events, Scope: &handlers.RequestScope{}, MediaType: json.MediaType, Framer: json.StreamSerializer.Framer,
				EmbeddedEncoder: codecs.EncoderForVersion(json.Serializer, examplev1.SchemeGroupVersion), TimeoutFactory: noTimeout{},
				Encoder: codecs.EncoderForVersion(json.StreamSerializer.Serializer, examplev1.SchemeGroupVersion),
			}
			server.HandleHTTP(sent, httptest.NewRequestWithContext(ctx, http.MethodGet, "/pods", nil))
			events.Stop()
			used += processCPU(b) - before
		}
		b.ReportMetric(float64(used.Nanoseconds())/float64(b.N*n), "cpu-ns/object")
	}
	b.Run("Kept", func(b *testing.B) { run(b, encodingsAtLeast) })
	b.Run("NoRoom", func(b *testing.B) { run(b, 0) })
}

// countedEvents is a response that ends when so many events were written.
type countedEvents struct {
	flushed
	left int
	done func()
}

func (c *countedEvents) Write(p []byte) (int, error) {
	if bytes.HasSuffix(p, []byte("}\n")) {
		if c.left--; c.left == 0 {
			c.done()
		}
	}
	return len(p), nil
}

// BenchmarkUpstream runs the API server's own benchmarks of a storage.
func BenchmarkUpstream(b *testing.B) {
	for _, match := range []metav1.ResourceVersionMatch{metav1.ResourceVersionMatchNotOlderThan, metav1.ResourceVersionMatchExact} {
		b.Run("ListCreate/"+string(match), func(b *testing.B) {
			storagetesting.RunBenchmarkStoreListCreate(context.Background(), b, startPods(b, Options{}), match)
		})
	}
	b.Run("List", func(b *testing.B) {
		s := startPods(b, Options{})
		data := storagetesting.PrepareBenchchmarkData(20, 100, 1000)
		for _, p := range data.Pods {
			create(b, s, p)
		}
		storagetesting.RunBenchmarkStoreList(context.Background(), b, s, data, false)
	})
	b.Run("Stats", func(b *testing.B) {
		storagetesting.RunBenchmarkStoreStats(context.Background(), b, startPods(b, Options{}))
	})
}
