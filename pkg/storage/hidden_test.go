// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"sync/atomic"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
)

// hiddenSet is Options.HiddenNamespaces of a test.
type hiddenSet struct {
	hidden atomic.Pointer[map[string]struct{}]
}

func (s *hiddenSet) get() map[string]struct{} {
	if hidden := s.hidden.Load(); hidden != nil {
		return *hidden
	}
	return nil
}

// hide hides these namespaces, and no others, from now on.
func (s *hiddenSet) hide(b *Backend, namespaces ...string) {
	hidden := map[string]struct{}{}
	for _, namespace := range namespaces {
		hidden[namespace] = struct{}{}
	}
	s.hidden.Store(&hidden)
	b.HiddenNamespacesChanged()
}

// startWithHidden has team-a/old and team-b/other, and hides team-a.
func startWithHidden(t *testing.T) (*hiddenSet, *Store) {
	t.Helper()
	v := &hiddenSet{}
	s := startPods(t, Options{HiddenNamespaces: v.get})
	create(t, s, pod("team-a", "old"))
	create(t, s, pod("team-b", "other"))
	v.hide(s.backend, "team-a")
	return v, s
}

func TestHidden_ReadsShowNothing(t *testing.T) {
	t.Parallel()
	v := &hiddenSet{}
	s := startPods(t, Options{HiddenNamespaces: v.get})
	before := create(t, s, pod("team-a", "old")).ResourceVersion
	create(t, s, pod("team-b", "other"))
	v.hide(s.backend, "team-a")

	for _, revision := range []string{"", "0", before} {
		err := s.Get(t.Context(), s.testKey("old"), apistorage.GetOptions{ResourceVersion: revision}, &example.Pod{})
		if !apistorage.IsNotFound(err) {
			t.Errorf("get at %q: %v", revision, err)
		}
		opts := everything()
		opts.ResourceVersion = revision
		if got := names(list(t, s, opts)); got != "other" {
			t.Errorf("list at %q: %q", revision, got)
		}
	}
	limited := everything()
	limited.Predicate.Limit = 1
	if l := list(t, s, limited); names(l) != "other" || l.Continue != "" {
		t.Errorf("a page names more: %q, %q", names(l), l.Continue)
	}
	exact := everything()
	exact.ResourceVersion, exact.ResourceVersionMatch = before, "Exact"
	out := &example.PodList{}
	if err := s.GetList(t.Context(), s.prefix, exact, out); err == nil && len(out.Items) != 0 {
		t.Errorf("a list of the past: %q", names(out))
	}
	one := &example.PodList{}
	if err := s.GetList(t.Context(), s.testKey("old"), apistorage.ListOptions{Predicate: apistorage.Everything}, one); err != nil || len(one.Items) != 0 {
		t.Errorf("a list of one: %q, %v", names(one), err)
	}
}

func TestHidden_WritesFindNothing(t *testing.T) {
	t.Parallel()
	_, s := startWithHidden(t)
	if err := tryUpdatePod(s, "old", &example.Pod{}, func(*example.Pod) { t.Error("asked") }); !apistorage.IsNotFound(err) {
		t.Errorf("update: %v", err)
	}
	if err := tryRemove(s, "old", &example.Pod{}); !apistorage.IsNotFound(err) {
		t.Errorf("delete: %v", err)
	}
	// The registry admits neither; the namespace may be hidden after it did.
	if err := s.Create(t.Context(), s.testKey("old"), pod("team-a", "old"), nil, 0); !apierrors.IsServiceUnavailable(err) {
		t.Errorf("create: %v", err)
	}
	make := apistorage.SimpleUpdate(func(runtime.Object) (runtime.Object, error) { return pod("team-a", "old"), nil })
	if err := s.GuaranteedUpdate(t.Context(), s.testKey("old"), &example.Pod{}, true, nil, make, nil); !apierrors.IsServiceUnavailable(err) {
		t.Errorf("create by update: %v", err)
	}
}

func TestHidden_AllocationProtocolReachesEverything(t *testing.T) {
	t.Parallel()
	_, s := startWithHidden(t)
	ctx := WithHiddenNamespaces(t.Context())
	if got := names(listAs(ctx, t, s, everything())); got != "old other" {
		t.Errorf("list: %q", got)
	}
	label := apistorage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
		obj.(*example.Pod).Labels = map[string]string{"a": "b"}
		return obj, nil
	})
	if err := s.GuaranteedUpdate(ctx, s.testKey("old"), &example.Pod{}, false, nil, label, nil); err != nil {
		t.Errorf("update: %v", err)
	}
	if !s.backend.MayHaveRecords("team-a") {
		t.Error("the namespace holds no record")
	}
}

func TestHidden_WatchesEndAndBeginAnew(t *testing.T) {
	t.Parallel()
	v := &hiddenSet{}
	s := startPods(t, Options{HiddenNamespaces: v.get})
	before := create(t, s, pod("team-a", "old")).ResourceVersion
	opts := everything()
	opts.ResourceVersion = "0"
	w := startWatch(t, s, opts)
	expectEvents(t, w, "ADDED old")
	v.hide(s.backend, "team-a")
	expectEvents(t, w, "ERROR Expired")

	expectEvents(t, watchFrom(t, s, before), "ERROR Expired")
	since := list(t, s, everything()).ResourceVersion
	w = watchFrom(t, s, since)
	ctx := WithHiddenNamespaces(context.Background())
	touch := apistorage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
		obj.(*example.Pod).Labels = map[string]string{"a": "b"}
		return obj, nil
	})
	if err := s.GuaranteedUpdate(ctx, s.testKey("old"), &example.Pod{}, false, nil, touch, nil); err != nil {
		t.Fatal(err)
	}
	create(t, s, pod("team-b", "other"))
	expectEvents(t, w, "ADDED other")

	v.hide(s.backend)
	expectEvents(t, w, "ERROR Expired")
	if got := names(list(t, s, everything())); got != "old other" {
		t.Errorf("shown again: %q", got)
	}
}
