// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/utils/ptr"
)

func withBookmarks(opts apistorage.ListOptions) apistorage.ListOptions {
	opts.Predicate.AllowWatchBookmarks = true
	return opts
}

// label makes an update that commits.
func label(p *example.Pod) {
	p.Labels = map[string]string{"n": fmt.Sprint(len(p.Labels["n"]) + 1), "at": time.Now().String()}
}

func TestWatch_ResumeMissesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t, Options{})
		start := list(t, w.pods, everything()).ResourceVersion
		first := watchFrom(t, w.pods, start)
		create(t, w.pods, managed("node-1", "m1", "a1"))
		expectEvents(t, first, "ADDED node-1 Gone")
		first.Stop()
		at := get(t, w.pods, "node-1").ResourceVersion
		w.observe("m1", installing)
		remove(t, w.pods, "node-1")
		expectEvents(t, watchFrom(t, w.pods, at), "MODIFIED node-1 Installing", "DELETED node-1 Installing", "ADDED m1 Installing")
		expectEvents(t, watchFrom(t, w.pods, start), "ADDED node-1 Gone", "MODIFIED node-1 Installing", "DELETED node-1 Installing", "ADDED m1 Installing")
	})
}

func TestWatch_DeletedEventHasTheRevisionOfTheDeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t, Options{})
		created := create(t, w.pods, managed("node-1", "", ""))
		events := watchFrom(t, w.pods, created.ResourceVersion)
		deleted := remove(t, w.pods, "node-1")
		e := <-events.ResultChan()
		if got := objectOf(e).(*example.Pod).ResourceVersion; got != deleted.ResourceVersion || got == created.ResourceVersion {
			t.Errorf("created at %s, deleted at %s, the event is at %s", created.ResourceVersion, deleted.ResourceVersion, got)
		}
	})
}

func TestWatch_BookmarksComePeriodicallyAndBeforeTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t, Options{})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		opts := withBookmarks(everything())
		opts.ResourceVersion = list(t, w.pods, everything()).ResourceVersion
		events, err := w.pods.Watch(ctx, "/pods", opts)
		if err != nil {
			t.Fatal(err)
		}
		plain := watchFrom(t, w.pods, opts.ResourceVersion)
		began := time.Now()
		var at []time.Duration
		now := opts.ResourceVersion
		for e := range events.ResultChan() {
			if e.Type != watch.Bookmark {
				t.Fatalf("event %s", describeEvent(e))
			}
			at = append(at, time.Since(began).Round(time.Second))
			if got := objectOf(e).(*example.Pod).ResourceVersion; got != now {
				t.Errorf("a bookmark at revision %s, it was %s", got, now)
			}
			// Another resource moves on; the next bookmark covers that.
			now = create(t, w.firewalls, managed(fmt.Sprintf("wall-%d", len(at)), "", "")).ResourceVersion
		}
		if len(at) < 4 || at[len(at)-1] != 5*time.Minute-bookmarkBeforeEnd {
			t.Errorf("bookmarks at %v", at)
		}
		for i := 1; i < len(at)-1; i++ {
			if pause := at[i] - at[i-1]; pause < time.Minute || pause > 76*time.Second {
				t.Errorf("bookmarks at %v", at)
			}
		}
		synctest.Wait()
		expectNoEvent(t, plain)
	})
}

func TestWatch_BookmarkIsNeverAheadOfEvents(t *testing.T) {
	w := newFixture(t, Options{BookmarkInterval: time.Microsecond})
	create(t, w.pods, managed("node-1", "", ""))
	opts := withBookmarks(everything())
	opts.ResourceVersion = list(t, w.pods, everything()).ResourceVersion
	events := startWatch(t, w.pods, opts)
	const changes = 300
	go func() {
		for i := range changes {
			update(t, w.pods, "node-1", func(p *example.Pod) { p.Generation = int64(i + 1) })
			update(t, w.pods, "node-1", label)
		}
	}()
	var last uint64
	var bookmarks int
	for seen := 0; seen < 2*changes; {
		e := <-events.ResultChan()
		got := revision(t, objectOf(e).(*example.Pod))
		if e.Type == watch.Bookmark {
			bookmarks++
			if got < last {
				t.Fatalf("bookmark %d after event %d", got, last)
			}
		} else {
			seen++
			if got <= last {
				t.Fatalf("event %d after %d", got, last)
			}
		}
		last = got
	}
	t.Logf("%d bookmarks", bookmarks)
}

func TestWatch_InitialEventsEndWithABookmark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t, Options{})
		w.observe("m1", installing)
		create(t, w.pods, managed("node-1", "", ""))
		now := create(t, w.firewalls, managed("wall-1", "", "")).ResourceVersion
		opts := withBookmarks(everything())
		opts.SendInitialEvents = ptr.To(true)
		opts.ResourceVersionMatch = metav1.ResourceVersionMatchNotOlderThan
		events := startWatch(t, w.pods, opts)
		expectEvents(t, events, "ADDED m1 Installing", "ADDED node-1 Pending")
		end := <-events.ResultChan()
		p := objectOf(end).(*example.Pod)
		if end.Type != watch.Bookmark || p.Annotations[metav1.InitialEventsAnnotationKey] != "true" || p.ResourceVersion != now {
			t.Errorf("the end is %s of %v at %s, now is %s", end.Type, p.Annotations, p.ResourceVersion, now)
		}
		create(t, w.pods, managed("node-2", "", ""))
		expectEvents(t, events, "ADDED node-2 Pending")

		opts.Predicate.AllowWatchBookmarks = false
		without := startWatch(t, w.pods, opts)
		expectEvents(t, without, "ADDED m1 Installing", "ADDED node-1 Pending", "ADDED node-2 Pending")
		synctest.Wait()
		expectNoEvent(t, without)
	})
}

func TestStore_WaitsForRevisionThenReportsTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t, Options{})
		at := func(revision uint64) apistorage.ListOptions {
			opts := everything()
			opts.ResourceVersion = fmt.Sprint(revision)
			return opts
		}
		soon := uint64(time.Now().Add(time.Second).UnixMicro())
		go func() {
			time.Sleep(2 * time.Second)
			create(t, w.firewalls, managed("wall-1", "", ""))
		}()
		began := time.Now()
		list(t, w.pods, at(soon))
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("the list took %s", took)
		}
		far := uint64(time.Now().Add(time.Hour).UnixMicro())
		exact, initial := at(far), at(far)
		exact.ResourceVersionMatch = metav1.ResourceVersionMatchExact
		initial.SendInitialEvents = ptr.To(true)
		for name, read := range map[string]func() error{
			"get": func() error {
				return w.pods.Get(t.Context(), w.pods.testKey("x"), apistorage.GetOptions{ResourceVersion: fmt.Sprint(far)}, &example.Pod{})
			},
			"list":       func() error { return w.pods.GetList(t.Context(), "/pods", at(far), &example.PodList{}) },
			"exact list": func() error { return w.pods.GetList(t.Context(), "/pods", exact, &example.PodList{}) },
		} {
			began := time.Now()
			err := read()
			if !apistorage.IsTooLargeResourceVersion(err) || err.Error() != fmt.Sprintf("Timeout: Too large resource version: %d, current: %d", far, w.revisions.last.Load()) {
				t.Errorf("%s answered %v", name, err)
			}
			if took := time.Since(began); took != revisionTimeout {
				t.Errorf("%s took %s", name, took)
			}
		}
		for _, opts := range []apistorage.ListOptions{at(far), initial} {
			events := startWatch(t, w.pods, opts)
			expectEvents(t, events, "ERROR Timeout")
			if _, open := <-events.ResultChan(); open {
				t.Error("the watch goes on")
			}
		}
	})
}

func TestWatch_SlowWatcherIsCutOffAndDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t, Options{History: 50})
		create(t, w.pods, managed("node-1", "", ""))
		start := get(t, w.pods, "node-1").ResourceVersion
		slow := watchFrom(t, w.pods, start)
		synctest.Wait()
		began := time.Now()
		const changes = 50*historyBurst + watchBuffer + watchBatch + 1
		for i := range changes {
			update(t, w.pods, "node-1", func(p *example.Pod) { p.Generation = int64(i + 1) })
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("writes waited %s for a watcher", took)
		}
		got := 0
		var last watch.Event
		for e := range slow.ResultChan() {
			got++
			last = e
		}
		if describeEvent(last) != "ERROR Expired" || got < watchBuffer {
			t.Errorf("after %d events the last one is %s", got, describeEvent(last))
		}
		expectEvents(t, watchFrom(t, w.pods, start), "ERROR Expired")
	})
}

func TestRing_KeepsEventsByCountAndAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t, Options{History: 10})
		create(t, w.pods, managed("node-1", "", ""))
		change := func(n int) {
			for range n {
				update(t, w.pods, "node-1", label)
				time.Sleep(time.Millisecond)
			}
		}
		held := func() int { return len(w.pods.view.ring.events) }
		change(30)
		if got := held(); got != 31 {
			t.Errorf("of 31 young events %d are kept", got)
		}
		time.Sleep(historyAge)
		change(1)
		if got := held(); got != 10 {
			t.Errorf("of old events %d are kept", got)
		}
		change(10 * historyBurst)
		if got := held(); got != 10*historyBurst {
			t.Errorf("of a burst %d are kept", got)
		}
		time.Sleep(24 * time.Hour)
		if got := held(); got != 10*historyBurst {
			t.Errorf("of a day ago %d are kept", got)
		}
	})
}

func TestWatch_SelectorTurnsUpdatesIntoAddedAndDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t, Options{})
		opts := everything()
		opts.Predicate.Label = labels.SelectorFromSet(labels.Set{"on": "yes"})
		opts.Predicate.Field = fields.Everything()
		opts.Predicate.GetAttrs = apistorage.DefaultNamespaceScopedAttr
		opts.ResourceVersion = list(t, w.pods, everything()).ResourceVersion
		events := startWatch(t, w.pods, opts)
		create(t, w.pods, managed("node-1", "m1", "a1"))
		on := update(t, w.pods, "node-1", func(p *example.Pod) { p.Labels = map[string]string{"on": "yes"} })
		w.observe("m1", installing)
		off := update(t, w.pods, "node-1", func(p *example.Pod) { p.Labels = nil })
		w.observe("m1", fact{phase: "Phoned Home", allocation: "a1"})
		expectEvents(t, events, "ADDED node-1 Gone", "MODIFIED node-1 Installing")
		gone := <-events.ResultChan()
		if p := objectOf(gone).(*example.Pod); gone.Type != watch.Deleted || p.Labels["on"] != "yes" || p.ResourceVersion != off.ResourceVersion {
			t.Errorf("it left as %s, with %v at %s", gone.Type, p.Labels, p.ResourceVersion)
		}
		if on.ResourceVersion == off.ResourceVersion {
			t.Error("two updates have one revision")
		}
		synctest.Wait()
		expectNoEvent(t, events)
	})
}

func TestWatch_ProgressIsReportedOnRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t, Options{})
		opts := everything()
		opts.ProgressNotify = true
		opts.ResourceVersion = list(t, w.pods, everything()).ResourceVersion
		asking, plain := startWatch(t, w.pods, opts), watchFrom(t, w.pods, opts.ResourceVersion)
		now := create(t, w.firewalls, managed("wall-1", "", "")).ResourceVersion
		synctest.Wait()
		if err := w.pods.RequestWatchProgress(t.Context()); err != nil {
			t.Fatal(err)
		}
		e := <-asking.ResultChan()
		if got := objectOf(e).(*example.Pod).ResourceVersion; e.Type != watch.Bookmark || got != now {
			t.Errorf("%s at %s, now is %s", e.Type, got, now)
		}
		synctest.Wait()
		expectNoEvent(t, plain)
		expectNoEvent(t, asking)
	})
}

func TestWatch_StoppedWatchesAreReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t, Options{})
		for range 10 {
			watchFrom(t, w.pods, "0").Stop()
		}
		synctest.Wait()
		if n := w.pods.watches.Load(); n != 0 {
			t.Errorf("%d are left", n)
		}
	})
}

// The encoder of a response writes the kind into an object while it encodes it.
func TestWatch_EventObjectsHaveTheirOwnTopLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t, Options{})
		start := list(t, w.pods, everything()).ResourceVersion
		create(t, w.pods, managed("node-1", "", ""))
		update(t, w.pods, "node-1", label)
		remove(t, w.pods, "node-1")
		var watches []watch.Interface
		for range 3 {
			watches = append(watches, watchFrom(t, w.pods, start))
		}
		for range 3 {
			for _, events := range watches {
				p := objectOf(<-events.ResultChan()).(*example.Pod)
				if p.Kind != "" {
					t.Fatalf("%s: another watcher's kind %s", p.ResourceVersion, p.Kind)
				}
				p.Kind, p.ResourceVersion = "Pod", "0"
			}
		}
	})
}
