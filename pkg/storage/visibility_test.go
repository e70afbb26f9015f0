// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/utils/ptr"
)

// seeing is the context of one who sees some namespaces.
func seeing(namespaces ...string) context.Context {
	return WithVisibility(context.Background(), &fakeVisibility{includes: func(namespace string) bool { return slices.Contains(namespaces, namespace) }})
}

// fakeVisibility ends when done is closed, with err.
type fakeVisibility struct {
	includes func(namespace string) bool
	done     chan struct{}
	err      error
}

func (v *fakeVisibility) All() bool                      { return v.includes == nil }
func (v *fakeVisibility) Includes(namespace string) bool { return v.includes(namespace) }
func (v *fakeVisibility) Done() <-chan struct{}          { return v.done }
func (v *fakeVisibility) Err() error                     { return v.err }

func listAs(ctx context.Context, t testing.TB, s *Store, opts apistorage.ListOptions) *example.PodList {
	t.Helper()
	out := &example.PodList{}
	if err := s.GetList(ctx, s.prefix, opts, out); err != nil {
		t.Fatalf("list: %v", err)
	}
	return out
}

func TestVisibility_InvisibleObjectsDoNotShowInLists(t *testing.T) {
	t.Parallel()
	alone, among := startPods(t, Options{Clock: clockAtZero}), startPods(t, Options{Clock: clockAtZero})
	for _, s := range []*Store{alone, among} {
		for _, p := range []*example.Pod{pod("b", "1"), pod("b", "2"), pod("b", "3"), pod("d", "4"), pod("d", "5")} {
			create(t, s, p)
		}
	}
	// Before, between, after, and with names that could be taken for others.
	for _, namespace := range []string{"a", "b-", "bb", "c", "e"} {
		create(t, among, pod(namespace, "x"))
		create(t, among, pod(namespace, "y"))
	}
	user := seeing("b", "d", "nowhere")
	selected := apistorage.SelectionPredicate{Label: labels.Everything(), Field: fields.OneTermNotEqualSelector("metadata.name", "2"), GetAttrs: apistorage.DefaultNamespaceScopedAttr}
	for _, predicate := range []apistorage.SelectionPredicate{apistorage.Everything, selected} {
		for limit := range int64(7) {
			predicate.Limit = limit
			want := pages(context.Background(), t, alone, predicate)
			if got := pages(user, t, among, predicate); !slices.Equal(got, want) {
				t.Errorf("limit %d: %q; it would be %q if nothing else were there", limit, got, want)
			}
		}
	}
}

// pages puts in words all that the pages of a list say, but their revisions.
func pages(ctx context.Context, t *testing.T, s *Store, predicate apistorage.SelectionPredicate) []string {
	t.Helper()
	var said []string
	for {
		page := listAs(ctx, t, s, apistorage.ListOptions{Recursive: true, Predicate: predicate})
		words := fmt.Sprintf("%s; %d remain", names(page), ptr.Deref(page.RemainingItemCount, -1))
		if page.Continue == "" {
			return append(said, words)
		}
		key, _, err := apistorage.DecodeContinue(page.Continue, s.prefix)
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, fmt.Sprintf("%s; from %q on", words, key))
		predicate.Continue = page.Continue
	}
}

func TestVisibility_AppliesToForeignContinueTokens(t *testing.T) {
	t.Parallel()
	s := startPods(t, Options{Clock: clockAtZero})
	for _, namespace := range []string{"a", "b", "c"} {
		create(t, s, pod(namespace, "in-"+namespace))
	}
	token := list(t, s, paged(1, "")).Continue
	if got := names(listAs(seeing("c"), t, s, paged(5, token))); got != "in-c" {
		t.Errorf("it shows %q", got)
	}
}

func TestVisibility_AppliesToListsOfOneObject(t *testing.T) {
	t.Parallel()
	s := startPods(t, Options{Clock: clockAtZero})
	create(t, s, pod("a", "one"))
	for namespace, want := range map[string]string{"a": "one", "b": ""} {
		out := &example.PodList{}
		if err := s.GetList(seeing(namespace), s.prefix+"a/one", apistorage.ListOptions{Predicate: apistorage.Everything}, out); err != nil {
			t.Fatal(err)
		}
		if got := names(out); got != want {
			t.Errorf("whoever sees %q is shown %q", namespace, got)
		}
	}
}

func TestVisibility_AppliesToWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startPods(t, Options{})
		create(t, s, pod("team-a", "1"))
		create(t, s, pod("team-b", "2"))
		opts := withBookmarks(everything())
		opts.SendInitialEvents = ptr.To(true)
		w, err := s.Watch(seeing("team-a"), s.prefix, opts)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Stop)
		expectEvents(t, w, "ADDED 1", "BOOKMARK")
		create(t, s, pod("team-b", "3"))
		create(t, s, pod("team-a", "4"))
		expectEvents(t, w, "ADDED 4")
		out := &example.Pod{}
		if err := s.GuaranteedUpdate(context.Background(), s.prefix+"team-b/3", out, false, nil, apistorage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
			label(obj.(*example.Pod))
			return obj, nil
		}), nil); err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(context.Background(), s.prefix+"team-b/3", out, nil, apistorage.ValidateAllObjectFunc, nil, apistorage.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		remove(t, s, "4")
		expectEvents(t, w, "DELETED 4")
		synctest.Wait()
		expectNoEvent(t, w)
		// Bookmarks go on where nothing is seen to happen.
		create(t, s, pod("team-b", "5"))
		time.Sleep(2 * DefaultBookmarkInterval)
		expectEvents(t, w, "BOOKMARK")
	})
}

func TestVisibility_EndsWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startPods(t, Options{})
		atRest := &fakeVisibility{done: make(chan struct{}), err: apierrors.NewForbidden(schema.GroupResource{}, "", nil)}
		undecided := &fakeVisibility{done: make(chan struct{}), err: atRest.err}
		undecided.includes = func(string) bool { close(undecided.done); return true }
		var watches []watch.Interface
		for _, v := range []Visibility{atRest, undecided} {
			w, err := s.Watch(WithVisibility(context.Background(), v), s.prefix, everything())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(w.Stop)
			watches = append(watches, w)
		}
		create(t, s, pod("a", "1"))
		expectEvents(t, watches[0], "ADDED 1")
		close(atRest.done)
		for _, w := range watches {
			event, open := <-w.ResultChan()
			if status, ok := event.Object.(*metav1.Status); !open || !ok || status.Reason != metav1.StatusReasonForbidden {
				t.Errorf("got %v, wanted the error that the visibility ended with", event)
			}
			if event, open := <-w.ResultChan(); open {
				t.Errorf("got %v after the error", event)
			}
		}
	})
}

func TestVisibility_IsDecidedOncePerNamespaceAndList(t *testing.T) {
	t.Parallel()
	s := startPods(t, Options{Clock: clockAtZero})
	for _, namespace := range []string{"a", "b", "c"} {
		for _, name := range []string{"1", "2", "3"} {
			create(t, s, pod(namespace, name))
		}
	}
	asked := map[string]int{}
	ctx := WithVisibility(context.Background(), &fakeVisibility{includes: func(namespace string) bool { asked[namespace]++; return true }})
	listAs(ctx, t, s, everything())
	for _, namespace := range []string{"a", "b", "c"} {
		if asked[namespace] != 1 {
			t.Errorf("it was asked %d times for %s", asked[namespace], namespace)
		}
	}
}

func TestAdvanceRevision_IsAfterAllEarlierLists(t *testing.T) {
	t.Parallel()
	w := newFixture(t, Options{Clock: clockAtZero})
	create(t, w.pods, pod("a", "1"))
	before, err := strconv.ParseUint(list(t, w.pods, everything()).ResourceVersion, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	revision, err := w.AdvanceRevision(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if after := list(t, w.pods, everything()).ResourceVersion; revision <= before || after != strconv.FormatUint(revision, 10) {
		t.Errorf("the list before is at %d, the revision %d, the list after at %s", before, revision, after)
	}
}
