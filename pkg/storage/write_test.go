// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
)

func TestStore_SlowWriteDelaysNoOtherKeyAndNoRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &faulty{Ledger: memory.New()}
		w := newFixture(t, Options{Ledger: l})
		create(t, w.pods, managed("node-0", "m1", "a1"))
		l.inject(func(verb, key string) error {
			if key != markKey {
				time.Sleep(time.Second) // a slow disk
			}
			return nil
		}, nil)
		began := time.Now()
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() { create(t, w.pods, managed("key-"+strconv.Itoa(i), "", "")) })
		}
		synctest.Wait()
		list(t, w.pods, everything())
		w.observe("m1", installing)
		if took := time.Since(began); took != 0 {
			t.Errorf("reads and observations took %s", took)
		}
		wg.Wait()
		if took := time.Since(began); took != time.Second {
			t.Errorf("writes of 50 keys took %s", took)
		}
	})
}

func TestStore_WritesOfOneKeyAreSerialized(t *testing.T) {
	l := &faulty{Ledger: memory.New()}
	w := newFixture(t, Options{Ledger: l})
	create(t, w.pods, managed("counter", "", ""))
	var busy, conflicts atomic.Int64
	l.inject(func(verb, key string) error {
		if key == "pods/team-a/counter" && busy.Add(1) > 1 {
			conflicts.Add(1)
		}
		return nil
	}, func(verb, key string) error {
		if key == "pods/team-a/counter" {
			busy.Add(-1)
		}
		return nil
	})
	var wg sync.WaitGroup
	const writers, each = 8, 25
	for range writers {
		wg.Go(func() {
			for range each {
				update(t, w.pods, "counter", func(p *example.Pod) { p.Generation++ })
			}
		})
	}
	wg.Wait()
	if got := get(t, w.pods, "counter").Generation; got != writers*each {
		t.Errorf("counted to %d", got)
	}
	if conflicts.Load() != 0 {
		t.Errorf("%d writes of one key were in the ledger at a time", conflicts.Load())
	}
}

func TestStore_WriteOutlivesItsClient(t *testing.T) {
	l := &faulty{Ledger: memory.New()}
	w := newFixture(t, Options{Ledger: l})
	ctx, cancel := context.WithCancel(t.Context())
	l.inject(func(verb, key string) error { cancel(); return nil }, nil)
	if err := w.pods.Create(ctx, w.pods.testKey("node-1"), managed("node-1", "", ""), nil, 0); err != nil {
		t.Errorf("answered %v", err)
	}
	if get(t, w.pods, "node-1") == nil {
		t.Error("it is not shown")
	}
	if err := w.pods.Delete(ctx, w.pods.testKey("node-1"), &example.Pod{}, nil, apistorage.ValidateAllObjectFunc, nil, apistorage.DeleteOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a client that went away before was answered %v", err)
	}
}

func TestStore_NoOpUpdateWritesNothing(t *testing.T) {
	l := memory.New()
	w := newFixture(t, Options{Ledger: l})
	before := create(t, w.pods, managed("node-1", "", ""))
	version := recordOf(t, l, "pods/team-a/node-1").Version
	after := update(t, w.pods, "node-1", func(p *example.Pod) { p.SetSelfLink("x") })
	if after.ResourceVersion != before.ResourceVersion || recordOf(t, l, "pods/team-a/node-1").Version != version {
		t.Error("it was written")
	}
}

func TestStore_ReturnsObjectsThatCallersMayModify(t *testing.T) {
	w := newFixture(t, Options{})
	in := managed("node-1", "", "")
	in.Labels = map[string]string{"a": "b"}
	out := create(t, w.pods, in)
	in.Labels["a"], out.Labels["a"] = "of the caller", "of the answer"
	get(t, w.pods, "node-1").Labels["a"] = "of a get"
	_ = tryUpdatePod(w.pods, "node-1", &example.Pod{}, func(p *example.Pod) { p.Labels["a"] = "b" })
	update(t, w.pods, "node-1", func(p *example.Pod) { p.Generation = 7 }).Labels["a"] = "of an update"
	l := list(t, w.pods, everything())
	l.Items[0].Name = "of a list"
	l.Items[0].Labels = nil
	if got := get(t, w.pods, "node-1"); got.Labels["a"] != "b" {
		t.Errorf("the view was changed: %v", got.Labels)
	}
}

func TestStore_RefusesOtherTypes(t *testing.T) {
	w := newFixture(t, Options{})
	create(t, w.pods, managed("node-1", "", ""))
	key := w.pods.testKey("node-1")
	if err := w.pods.Get(t.Context(), key, apistorage.GetOptions{}, &example.ReplicaSet{}); err == nil {
		t.Error("a Pod was returned in a ReplicaSet")
	}
	if err := w.pods.GetList(t.Context(), "/pods", everything(), &example.PodList{}); err != nil {
		t.Error(err)
	}
	if err := w.pods.GetList(t.Context(), "/pods", everything(), &example.Pod{}); err == nil {
		t.Error("a list was returned in a Pod")
	}
}

func TestStore_ReturnsErrorOfUpdateFunc(t *testing.T) {
	w := newFixture(t, Options{})
	create(t, w.pods, managed("node-1", "", ""))
	mine := errors.New("mine")
	err := w.pods.GuaranteedUpdate(t.Context(), w.pods.testKey("node-1"), &example.Pod{}, false, nil,
		func(runtime.Object, apistorage.ResponseMeta) (runtime.Object, *uint64, error) { return nil, nil, mine }, nil)
	if err != mine {
		t.Errorf("answered %v", err)
	}
}
