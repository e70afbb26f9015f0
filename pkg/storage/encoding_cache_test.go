// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"fmt"
	"io"
	"runtime"
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
	cache.limit = 5 * (encodingOverhead + 500)
	for range 3 {
		encodeAll(t, w.pods)
		if n := cache.bytes(); n == 0 || n > cache.limit {
			t.Errorf("keeps %d bytes with a limit of %d", n, cache.limit)
		}
		runtime.GC()
	}
	if encoded := encodeAll(t, w.pods); encoded == 0 || encoded > 5 {
		t.Errorf("encoded %d of 10 objects, of which half have room", encoded)
	}
}
