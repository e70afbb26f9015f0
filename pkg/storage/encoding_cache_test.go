// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/example"
)

// encodeAll lists all Pods, encodes each, and returns how many had no encoding.
func encodeAll(t *testing.T, s *Store) (encoded int) {
	t.Helper()
	ctx, listing := WithListing(t.Context())
	if err := s.GetList(ctx, "/pods", everything(), &example.PodList{}); err != nil {
		t.Fatal(err)
	}
	for i := range listing.Len() {
		_, err := listing.Encoding(i, "form", func(obj apiruntime.Object, w io.Writer) error {
			encoded++
			return codec.Encode(obj, w)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return encoded
}

func TestEncodingCache_KeepsWhatListsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t, Options{})
		for i := range 10 {
			create(t, w.pods, managed(fmt.Sprintf("node-%d", i), "", ""))
		}
		want := func(n int, why string) {
			t.Helper()
			runtime.GC()
			if encoded := encodeAll(t, w.pods); encoded != n {
				t.Errorf("%s: encoded %d objects, not %d", why, encoded, n)
			}
		}
		cache := w.pods.backend.encodings
		want(10, "first list")
		want(0, "second list")
		update(t, w.pods, "node-1", func(p *example.Pod) { p.Labels = map[string]string{"changed": "yes"} })
		remove(t, w.pods, "node-2")
		if n := len(cache.newer); n != 8 {
			t.Errorf("keeps %d objects after two of ten were replaced", n)
		}
		want(1, "after a change")
		before := cache.bytes()
		cache.nextGeneration()
		want(0, "half of the idle time later")
		cache.nextGeneration()
		cache.nextGeneration()
		if n := cache.bytes(); n != 0 || before == 0 {
			t.Errorf("keeps %d bytes of %d though none was used", n, before)
		}
		want(9, "after the idle time")
	})
}

func TestEncodingCache_DropsUnusedByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t, Options{})
		create(t, w.pods, managed("node-1", "", ""))
		encodeAll(t, w.pods)
		synctest.Wait()
		for range 2 {
			time.Sleep(encodingIdle / 2)
			synctest.Wait()
		}
		if n := w.pods.backend.encodings.bytes(); n != 0 {
			t.Errorf("keeps %d bytes", n)
		}
		encodeAll(t, w.pods)
		if n := w.pods.backend.encodings.bytes(); n == 0 {
			t.Error("keeps nothing of a later list")
		}
	})
}

// roomForEach is for the encodings of one object: a Pod of the tests takes less, and more
// than half of it.
const roomForEach = encodingOverhead + 500

func TestEncodingCache_KeepsNoMoreThanItsLimit(t *testing.T) {
	t.Parallel()
	w := newFixture(t, Options{})
	for i := range 10 {
		create(t, w.pods, managed(fmt.Sprintf("node-%d", i), "", ""))
	}
	cache := w.pods.backend.encodings
	encodeAll(t, w.pods)
	cache.nextGeneration()
	cache.nextGeneration()
	cache.atMost = 5 * roomForEach
	for range 3 {
		encodeAll(t, w.pods)
		if n := cache.bytes(); n == 0 || n > cache.atMost {
			t.Errorf("keeps %d bytes with a limit of %d", n, cache.atMost)
		}
		runtime.GC()
	}
	if encoded := encodeAll(t, w.pods); encoded == 0 || encoded > 5 {
		t.Errorf("encoded %d of 10 objects, of which half have room", encoded)
	}
}

func TestEncodingCache_LimitGrowsWithObjects(t *testing.T) {
	t.Parallel()
	w := newFixture(t, Options{})
	cache := w.pods.backend.encodings
	cache.perObject, cache.atLeast = roomForEach, 2*roomForEach
	want := func(objects int64, when string) {
		t.Helper()
		if n := cache.limit(); n != objects*roomForEach {
			t.Errorf("%s: the limit is %d bytes, not those of %d objects", when, n, objects)
		}
	}
	want(2, "without objects")
	for i := range 10 {
		create(t, w.pods, managed(fmt.Sprintf("node-%d", i), "", ""))
	}
	want(10, "with 10 objects")
	for range 2 {
		encodeAll(t, w.pods)
		runtime.GC()
	}
	if encoded := encodeAll(t, w.pods); encoded != 0 {
		t.Errorf("encoded %d of 10 objects, all of which have room", encoded)
	}
	update(t, w.pods, "node-1", func(p *example.Pod) { p.Labels = map[string]string{"changed": "yes"} })
	want(10, "after a change")
	remove(t, w.pods, "node-1")
	want(9, "without one of them")
	create(t, w.pods, managed("node-1", "", ""))
	want(10, "when it is there again")
	w.observe("m1", installing)
	want(11, "with a discovered object")
	cache.atMost = 3 * roomForEach
	want(3, "with little memory")

	again := newBackend(t, Options{Ledger: w.ledger})
	openPods(t, again, "pods", nil)
	start(t, again)
	if n := again.encodings.objects.Load(); n != 10 {
		t.Errorf("counts %d objects of 10 after a restart", n)
	}
}

// A limit that falls is kept from the next generation on, whether or not the objects are
// used.
func TestEncodingCache_DropsWhatExceedsALowerLimit(t *testing.T) {
	t.Parallel()
	w := newFixture(t, Options{})
	for i := range 10 {
		create(t, w.pods, managed(fmt.Sprintf("node-%d", i), "", ""))
	}
	cache := w.pods.backend.encodings
	encodeAll(t, w.pods)
	cache.perObject, cache.atLeast = roomForEach/2, 0
	if cache.bytes() <= cache.limit() {
		t.Fatalf("%d bytes do not exceed the limit of %d", cache.bytes(), cache.limit())
	}
	cache.nextGeneration()
	if n := cache.bytes(); n == 0 || n > cache.limit() {
		t.Errorf("keeps %d bytes with a limit of %d", n, cache.limit())
	}
	encodeAll(t, w.pods)
	if n := cache.bytes(); n > cache.limit() {
		t.Errorf("keeps %d bytes after a list, with a limit of %d", n, cache.limit())
	}
}

// The sums of the cache are those of what it keeps, and of the views, while objects come
// and go, are listed, and limits change.
func TestEncodingCache_SumsHoldWhileObjectsComeAndGo(t *testing.T) {
	t.Parallel()
	w := newFixture(t, Options{})
	cache := w.pods.backend.encodings
	cache.perObject, cache.atLeast = roomForEach*2/3, 0
	var writing, reading sync.WaitGroup
	for n := range 3 {
		writing.Go(func() {
			for i := range 60 {
				name := fmt.Sprintf("node-%d-%d", n, i%20)
				switch i / 20 {
				case 0:
					create(t, w.pods, managed(name, "", ""))
				case 1:
					update(t, w.pods, name, func(p *example.Pod) { p.Labels = map[string]string{"changed": "yes"} })
				default:
					if i%2 == 0 {
						remove(t, w.pods, name)
					}
				}
			}
		})
	}
	done := make(chan struct{})
	for range 2 {
		reading.Go(func() {
			for {
				encodeAll(t, w.pods)
				cache.nextGeneration()
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	writing.Wait()
	close(done)
	reading.Wait()
	encodeAll(t, w.pods)

	if n := cache.objects.Load(); n != 30 {
		t.Errorf("counts %d objects of 30", n)
	}
	cache.mu.Lock()
	defer cache.mu.Unlock()
	sum := int64(0)
	for _, kept := range []map[*cachingObject]struct{}{cache.older, cache.newer} {
		for o := range kept {
			sum += o.state.size
			if want := o.encodings.size() + encodingOverhead; o.state.size != want {
				t.Errorf("an object counts for %d bytes, not %d", o.state.size, want)
			}
		}
	}
	if sum != cache.size || sum == 0 || sum > cache.limit() {
		t.Errorf("counts %d bytes, those kept have %d, the limit is %d", cache.size, sum, cache.limit())
	}
}
