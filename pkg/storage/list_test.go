// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
)

func paged(limit int64, token string) apistorage.ListOptions {
	opts := everything()
	opts.Predicate.Limit, opts.Predicate.Continue = limit, token
	return opts
}

func TestStore_ListPaginatesExactly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t, Options{History: 10})
		for i := range 9 {
			create(t, w.pods, managed(fmt.Sprintf("node-%d", i), "m1", "a1"))
		}
		all := list(t, w.pods, everything())
		first := list(t, w.pods, paged(4, ""))
		if got := names(first); got != "node-0 node-1 node-2 node-3" || *first.RemainingItemCount != 5 {
			t.Fatalf("the first page: %s, and %d more", got, *first.RemainingItemCount)
		}
		// Everything changes, more often than events are kept.
		for i := range 200 {
			time.Sleep(time.Second)
			w.observe("m1", fact{phase: fmt.Sprint(i), allocation: "a1"})
		}
		remove(t, w.pods, "node-5")
		create(t, w.pods, managed("node-5a", "", ""))

		page, got := first, first.Items
		for page.Continue != "" {
			page = list(t, w.pods, paged(4, page.Continue))
			if page.ResourceVersion != all.ResourceVersion {
				t.Errorf("a page at %s of a list at %s", page.ResourceVersion, all.ResourceVersion)
			}
			got = append(got, page.Items...)
		}
		for i := range all.Items {
			if got[i].Name != all.Items[i].Name || got[i].ResourceVersion != all.Items[i].ResourceVersion || got[i].Status.Phase != all.Items[i].Status.Phase {
				t.Errorf("object %d is %s at %s, was %s at %s", i, got[i].Name, got[i].ResourceVersion, all.Items[i].Name, all.Items[i].ResourceVersion)
			}
		}
	})
}

func TestStore_ListWithOldContinueTokenGets410(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t, Options{History: 5})
		for i := range 3 {
			create(t, w.pods, managed(fmt.Sprintf("node-%d", i), "", ""))
		}
		token := list(t, w.pods, paged(1, "")).Continue
		time.Sleep(snapshotAge)
		for i := range 20 {
			update(t, w.pods, "node-0", func(p *example.Pod) { p.Generation = int64(i + 1) })
			time.Sleep(historyAge)
		}
		err := w.pods.GetList(t.Context(), "/pods", paged(1, token), &example.PodList{})
		if !apierrors.IsResourceExpired(err) || err.(apierrors.APIStatus).Status().Continue == "" {
			t.Errorf("answered %v", err)
		}
	})
}

func TestSnapshots_AreLimitedInNumberAndAge(t *testing.T) {
	var s snapshots
	now := time.Now()
	for i := range uint64(200) {
		s.add(i, newTree(), now)
	}
	if len(s.kept) != snapshotCount || s.get(199) == nil || s.get(0) != nil {
		t.Errorf("%d are kept", len(s.kept))
	}
	s.add(199, newTree(), now)
	if len(s.kept) != snapshotCount {
		t.Error("one is kept twice")
	}
	s.compact(190)
	if len(s.kept) != 10 || s.get(189) != nil {
		t.Errorf("%d are kept after compaction", len(s.kept))
	}
	s.expire(now.Add(snapshotAge))
	if len(s.kept) != 0 {
		t.Errorf("%d are kept when old", len(s.kept))
	}
}

func TestStore_ExactListReturnsPastView(t *testing.T) {
	w := newFixture(t, Options{})
	history := []*example.PodList{list(t, w.pods, everything())}
	note := func() { history = append(history, list(t, w.pods, everything())) }
	create(t, w.pods, managed("node-1", "m1", "a1"))
	note()
	w.observe("m1", installing)
	note()
	create(t, w.firewalls, managed("wall-1", "", ""))
	note()
	remove(t, w.pods, "node-1")
	note()
	create(t, w.pods, managed("node-1", "m1", "a1"))
	note()
	for _, was := range history {
		opts := everything()
		opts.ResourceVersion, opts.ResourceVersionMatch = was.ResourceVersion, metav1.ResourceVersionMatchExact
		is := list(t, w.pods, opts)
		if is.ResourceVersion != was.ResourceVersion || fmt.Sprint(is.Items) != fmt.Sprint(was.Items) {
			t.Errorf("at %s: %v, was %v", was.ResourceVersion, is.Items, was.Items)
		}
	}
}

func TestStore_ExactListOfCompactedRevisionGets410(t *testing.T) {
	w := newFixture(t, Options{})
	for _, revision := range []string{"1", "12345"} {
		opts := everything()
		opts.ResourceVersion, opts.ResourceVersionMatch = revision, metav1.ResourceVersionMatchExact
		if err := w.pods.GetList(t.Context(), "/pods", opts, &example.PodList{}); !apierrors.IsResourceExpired(err) {
			t.Errorf("answered %v", err)
		}
	}
}
