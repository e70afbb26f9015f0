// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
)

func TestRestart_KeepsRecords(t *testing.T) {
	l := memory.New()
	w := newFixture(t, Options{Ledger: l})
	p := managed("node-1", "m1", "a1")
	p.Labels = map[string]string{"a": "b"}
	p.Finalizers = []string{"keep/it"}
	create(t, w.pods, p)
	create(t, w.pods, managed("node-2", "", ""))
	create(t, w.firewalls, managed("wall-1", "", ""))
	remove(t, w.pods, "node-2")
	before := list(t, w.pods, everything())

	w = newFixture(t, Options{Ledger: l})
	after := list(t, w.pods, everything())
	start := after.ResourceVersion
	for i := range after.Items {
		if after.Items[i].ResourceVersion != start {
			t.Errorf("%s is at %s, the start at %s", after.Items[i].Name, after.Items[i].ResourceVersion, start)
		}
		after.Items[i].ResourceVersion = before.Items[i].ResourceVersion
	}
	if diff := cmp.Diff(before.Items, after.Items); diff != "" {
		t.Error(diff)
	}
	if got := names(list(t, w.firewalls, everything())); got != "wall-1" {
		t.Errorf("walls: %s", got)
	}
	if len(w.RecordedRefs(0).Added) != 2 {
		t.Errorf("named: %v", w.RecordedRefs(0).Added)
	}
	update(t, w.pods, "node-1", func(p *example.Pod) { p.Labels["a"] = "c" })
}

func TestRecord_IsReadableJSON(t *testing.T) {
	l := memory.New()
	w := newFixture(t, Options{Ledger: l})
	w.observe("m1", installing)
	create(t, w.pods, managed("node-1", "m1", "a1"))
	value := string(recordOf(t, l, "pods/team-a/node-1").Value)
	for _, want := range []string{`{"format":1,"object":{"kind":"Pod","apiVersion":"example.apiserver.k8s.io/v1","metadata":{"name":"node-1"`, `"nodeName":"m1/a1"`} {
		if !strings.Contains(value, want) {
			t.Errorf("%s does not contain %s", value, want)
		}
	}
	for _, bad := range []string{"Installing", "resourceVersion"} {
		if strings.Contains(value, bad) {
			t.Errorf("%s contains %s", value, bad)
		}
	}
}

func TestRestart_EndsEarlierWatchesWith410(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New()
		w := newFixture(t, Options{Ledger: l})
		old := create(t, w.pods, managed("node-1", "", "")).ResourceVersion
		time.Sleep(time.Second)

		w = newFixture(t, Options{Ledger: l})
		start := list(t, w.pods, everything()).ResourceVersion
		tooOld := watchFrom(t, w.pods, old)
		expectEvents(t, tooOld, "ERROR Expired")
		if _, open := <-tooOld.ResultChan(); open {
			t.Error("the watch goes on")
		}
		never := watchFrom(t, w.pods, "12345")
		expectEvents(t, never, "ERROR Expired")
		atStart := watchFrom(t, w.pods, start)
		create(t, w.pods, managed("node-2", "", ""))
		expectEvents(t, atStart, "ADDED node-2 Pending")
	})
}

func TestRestart_InvalidatesContinueTokens(t *testing.T) {
	l := memory.New()
	w := newFixture(t, Options{Ledger: l})
	create(t, w.pods, managed("node-1", "", ""))
	create(t, w.pods, managed("node-2", "", ""))
	opts := everything()
	opts.Predicate.Limit = 1
	opts.Predicate.Continue = list(t, w.pods, opts).Continue

	w = newFixture(t, Options{Ledger: l})
	err := w.pods.GetList(t.Context(), "/pods", opts, &example.PodList{})
	if !apierrors.IsResourceExpired(err) {
		t.Fatalf("answered %v", err)
	}
	// What it says to go on with works.
	opts.Predicate.Continue = err.(apierrors.APIStatus).Status().Continue
	if got := names(list(t, w.pods, opts)); got != "node-2" {
		t.Errorf("the rest: %s", got)
	}
}

func TestRestart_KeepsExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New()
		w := newFixture(t, Options{Ledger: l})
		if err := w.pods.Create(t.Context(), w.pods.testKey("node-1"), managed("node-1", "", ""), nil, 10); err != nil {
			t.Fatal(err)
		}
		w = newFixture(t, Options{Ledger: l})
		time.Sleep(5 * time.Second)
		if get(t, w.pods, "node-1") == nil {
			t.Error("it expired early")
		}
		time.Sleep(6 * time.Second)
		if get(t, w.pods, "node-1") != nil {
			t.Error("it did not expire")
		}
	})
}

func TestStart_FailsOnUnreadableRecord(t *testing.T) {
	for name, value := range map[string]string{
		"no envelope": "what's this?",
		"no object":   `{}`,
		"no kind":     `{"object":{"metadata":{"name":"x"}}}`,
		"other kind":  `{"object":{"kind":"Unknown","apiVersion":"example.apiserver.k8s.io/v1"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			l := memory.New()
			if _, err := l.Create(t.Context(), "pods/team-a/broken", []byte(value)); err != nil {
				t.Fatal(err)
			}
			b := newBackend(t, Options{Ledger: l})
			s := openPods(t, b, "pods", nil)
			for verb, read := range map[string]func(context.Context) error{"Survey": b.Preload, "Start": b.Start} {
				if err := read(t.Context()); err == nil || !strings.Contains(err.Error(), "pods/team-a/broken") || !strings.Contains(err.Error(), "repair the record") {
					t.Errorf("%s answered %v", verb, err)
				}
			}
			if err := s.GetList(t.Context(), "/pods", everything(), &example.PodList{}); !apierrors.IsServiceUnavailable(err) {
				t.Errorf("a list answered %v", err)
			}
			other := newBackend(t, Options{Ledger: l})
			openPods(t, other, "walls", nil)
			start(t, other)
		})
	}
}

func TestOpen_RefusesInvalidConfigs(t *testing.T) {
	b := newBackend(t, Options{})
	if _, err := b.Open(ResourceConfig{}); err == nil {
		t.Error("an empty resource was opened")
	}
	cfg := podConfig("pods", nil)
	cfg.Prefix = "/"
	if _, err := b.Open(cfg); err == nil {
		t.Error("a resource without a prefix was opened")
	}
	s := openPods(t, b, "pods", nil)
	if _, err := b.Open(podConfig("pods", nil)); err == nil {
		t.Error("a resource was opened twice")
	}
	start(t, b)
	if _, err := b.Open(podConfig("late", nil)); err == nil {
		t.Error("a resource was opened after the start")
	}
	if b.Store(s.resource) != s || b.Store(podConfig("walls", nil).Resource) != nil {
		t.Error("Store finds the wrong one")
	}
}

func TestReadinessCheck_FollowsStartAndStop(t *testing.T) {
	ends := map[string]func(*Backend, context.CancelFunc){
		"stop":    func(b *Backend, _ context.CancelFunc) { b.Stop() },
		"context": func(_ *Backend, cancel context.CancelFunc) { cancel() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			b, err := NewBackend(ctx, Options{Ledger: memory.New()})
			if err != nil {
				t.Fatal(err)
			}
			s := openPods(t, b, "pods", nil)
			if err := s.ReadinessCheck(); err != apistorage.ErrStorageNotReady {
				t.Errorf("before the start: %v", err)
			}
			start(t, b)
			if err := s.ReadinessCheck(); err != nil {
				t.Error(err)
			}
			w := watchFrom(t, s, list(t, s, everything()).ResourceVersion)
			end(b, cancel)
			if err := s.ReadinessCheck(); err != apistorage.ErrStorageNotReady {
				t.Errorf("after the end: %v", err)
			}
			if _, open := <-w.ResultChan(); open {
				t.Error("a watch outlives the backend")
			}
		})
	}
}
