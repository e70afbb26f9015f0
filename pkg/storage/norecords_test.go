// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/utils/ptr"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// sizesProjector shows sizes, which are in no namespace and have no records.
type sizesProjector struct {
	fakeProjector
	sizes *fakeMetal
}

func (sizesProjector) Kind() metal.RefKind { return metal.KindSize }

func (p sizesProjector) Discovered(ref metal.Ref) (runtime.Object, []metal.Ref) {
	f, found := p.sizes.get(ref.ID)
	if ref.Kind != metal.KindSize || !found {
		return nil, nil
	}
	obj := pod(f.namespace, ref.ID)
	obj.UID = types.UID("size-" + ref.ID)
	obj.Status.Phase = example.PodPhase(f.phase)
	return obj, nil
}

func sizeRef(id string) metal.Ref { return metal.Ref{Kind: metal.KindSize, ID: id} }

func startSizes(t testing.TB, sizes *fakeMetal, opts Options) (*Backend, *Store) {
	t.Helper()
	b := newBackend(t, opts)
	config := podConfig("sizes", sizesProjector{sizes: sizes})
	config.ClusterScoped = true
	s, err := b.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	for id := range sizes.facts {
		b.MetalChanged([]metal.Ref{sizeRef(id)})
	}
	start(t, b)
	return b, s
}

func TestResourceWithoutRecords_SurvivesRestarts(t *testing.T) {
	t.Parallel()
	l, sizes := memory.New(), newFakeMetal()
	_, s := startSizes(t, sizes, Options{Ledger: l})
	for _, id := range []string{"s1", "s2", "s3"} {
		sizes.set(id, fact{phase: "8 cores"})
		s.backend.MetalChanged([]metal.Ref{sizeRef(id)})
	}
	before := list(t, s, everything())
	_, s = startSizes(t, sizes, Options{Ledger: l})
	after := list(t, s, everything())
	if revision(t, after) <= revision(t, before) {
		t.Errorf("revision %s follows %s", after.ResourceVersion, before.ResourceVersion)
	}
	for _, l := range []*example.PodList{before, after} {
		for i := range l.Items {
			l.Items[i].ResourceVersion = ""
		}
	}
	if diff := cmp.Diff(before.Items, after.Items); diff != "" {
		t.Error(diff)
	}
	old := startWatch(t, s, apistorage.ListOptions{Recursive: true, Predicate: apistorage.Everything, ResourceVersion: before.ResourceVersion})
	if e := <-old.ResultChan(); e.Type != watch.Error || !apierrors.IsResourceExpired(apierrors.FromObject(e.Object)) {
		t.Errorf("a watch from before the restart: %s", describeEvent(e))
	}
}

func TestResourceWithoutRecords_IsListedInExactPages(t *testing.T) {
	t.Parallel()
	sizes := newFakeMetal()
	for i := range 5 {
		sizes.set(fmt.Sprintf("s%d", i), fact{phase: "1"})
	}
	b, s := startSizes(t, sizes, Options{History: 4, Clock: clockAtZero})
	first := list(t, s, paged(2, ""))
	sizes.gone("s3")
	b.MetalChanged([]metal.Ref{sizeRef("s3")})
	second := list(t, s, paged(2, first.Continue))
	third := list(t, s, paged(2, second.Continue))
	if got := names(first) + " " + names(second) + " " + names(third); got != "s0 s1 s2 s3 s4" || first.ResourceVersion != third.ResourceVersion {
		t.Errorf("pages: %s, at %s and %s", got, first.ResourceVersion, third.ResourceVersion)
	}
	if got := names(list(t, s, everything())); got != "s0 s1 s2 s4" {
		t.Errorf("now: %s", got)
	}
}

func TestResourceWithoutRecords_IsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sizes := newFakeMetal()
		sizes.set("s1", fact{phase: "1"})
		b, s := startSizes(t, sizes, Options{})
		opts := everything()
		opts.SendInitialEvents, opts.Predicate.AllowWatchBookmarks = ptr.To(true), true
		w := startWatch(t, s, opts)
		expectEvents(t, w, "ADDED s1 1")
		if e := <-w.ResultChan(); e.Type != watch.Bookmark {
			t.Errorf("%s", describeEvent(e))
		}
		change := func(id string, f fact) {
			sizes.set(id, f)
			b.MetalChanged([]metal.Ref{sizeRef(id)})
		}
		change("s1", fact{phase: "2"})
		change("s1", fact{phase: "2"})
		change("s2", fact{phase: "1"})
		expectEvents(t, w, "MODIFIED s1 2", "ADDED s2 1")
		sizes.gone("s1")
		b.MetalChanged([]metal.Ref{sizeRef("s1")})
		expectEvents(t, w, "DELETED s1 2")
		// Names that are no names, and objects of a namespace, are not shown.
		change("a/b", fact{phase: "1"})
		change("..", fact{phase: "1"})
		change("s3", fact{phase: "1", namespace: "team-a"})
		synctest.Wait()
		expectNoEvent(t, w)
	})
}

// An object in no namespace may be named like a namespace that is hidden, or not visible.
func TestClusterScopedResource_IsNotInANamespace(t *testing.T) {
	t.Parallel()
	sizes, hidden := newFakeMetal(), &hiddenSet{}
	sizes.set("team-a", fact{phase: "1"})
	b, s := startSizes(t, sizes, Options{HiddenNamespaces: hidden.get})
	hidden.hide(b, "team-a")
	if got := names(list(t, s, everything())); got != "team-a" {
		t.Errorf("list: %q", got)
	}
	if err := s.Get(t.Context(), "/sizes/team-a", apistorage.GetOptions{}, &example.Pod{}); err != nil {
		t.Error(err)
	}
	if b.MayHaveRecords("team-a") || !b.OldestCreationTime("team-a").IsZero() {
		t.Error("it has records in a namespace")
	}
	r := &fakeRefresher{}
	b.SetRefresher(r)
	list(t, s, everything())
	_ = s.Get(t.Context(), "/sizes/team-a", apistorage.GetOptions{}, &example.Pod{})
	_ = s.Get(t.Context(), "/sizes/other", apistorage.GetOptions{}, &example.Pod{})
	want := []Scope{{Kind: metal.KindSize, AllNamespaces: true}, {Kind: metal.KindSize, Refs: []metal.Ref{sizeRef("team-a")}}, {Kind: metal.KindSize}}
	if diff := cmp.Diff(want, r.takeScopes()); diff != "" {
		t.Error(diff)
	}
}
