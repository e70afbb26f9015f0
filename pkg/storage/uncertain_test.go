// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
)

var errLost = errors.New("connection lost")

// failOn fails calls of one verb for records, or for everything with "".
func failOn(verb string) func(string, string) error {
	return func(v, key string) error {
		if (verb == "" || v == verb) && key != markKey {
			return errLost
		}
		return nil
	}
}

func newUncertainFixture(t *testing.T) (*fixture, *faulty) {
	l := &faulty{Ledger: memory.New()}
	return newFixture(t, Options{Ledger: l}), l
}

func TestUncertainWrite_ThatWasDoneIsAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newUncertainFixture(t)
		events := watchFrom(t, w.pods, list(t, w.pods, everything()).ResourceVersion)
		l.inject(nil, failOn("create"))
		create(t, w.pods, managed("node-1", "", ""))
		l.inject(nil, failOn("update"))
		updated := update(t, w.pods, "node-1", func(p *example.Pod) { p.Labels = map[string]string{"a": "b"} })
		if updated.Labels["a"] != "b" {
			t.Errorf("updated: %v", updated.Labels)
		}
		l.inject(nil, failOn("delete"))
		remove(t, w.pods, "node-1")
		expectEvents(t, events, "ADDED node-1 Pending", "MODIFIED node-1 Pending", "DELETED node-1 Pending")
		if w.uncertain.count.Load() != 0 {
			t.Error("uncertain writes are left")
		}
	})
}

func TestUncertainWrite_IsAnsweredWithTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newUncertainFixture(t)
		create(t, w.pods, managed("node-1", "", ""))
		before := get(t, w.pods, "node-1")
		l.inject(failOn("create"), nil)
		errs := map[string]error{"create": w.pods.Create(t.Context(), w.pods.testKey("node-2"), managed("node-2", "", ""), nil, 0)}
		l.inject(failOn("update"), nil)
		errs["update"] = tryUpdatePod(w.pods, "node-1", &example.Pod{}, func(p *example.Pod) { p.Labels = map[string]string{"a": "b"} })
		l.inject(failOn("delete"), nil)
		errs["delete"] = tryRemove(w.pods, "node-1", &example.Pod{})
		for verb, err := range errs {
			if !apierrors.IsTimeout(err) || !strings.Contains(err.Error(), "unknown: connection lost; read it before retrying") {
				t.Errorf("%s answered %v", verb, err)
			}
		}
		// Nothing is shown that the ledger has not.
		if after := get(t, w.pods, "node-1"); after.ResourceVersion != before.ResourceVersion {
			t.Error("an update is shown that was not done")
		}
		if get(t, w.pods, "node-2") != nil {
			t.Error("an object is shown that was not created")
		}
		// As soon as the ledger works, so do writes.
		l.inject(nil, nil)
		create(t, w.pods, managed("node-2", "", ""))
		remove(t, w.pods, "node-1")
	})
}

func TestUncertainWrite_NotRecordedForRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newUncertainFixture(t)
		create(t, w.pods, managed("node-1", "", ""))
		for cause, is := range map[error]func(error) bool{
			ledger.ErrNotWritten: apierrors.IsServiceUnavailable,
			ledger.ErrTooLarge:   apierrors.IsRequestEntityTooLargeError,
		} {
			l.inject(func(verb, _ string) error {
				if verb == "list" {
					t.Error("the ledger is asked what became of it")
				}
				return fmt.Errorf("the ledger is full: %w", cause)
			}, nil)
			for verb, err := range map[string]error{
				"create": w.pods.Create(t.Context(), w.pods.testKey("node-2"), managed("node-2", "", ""), nil, 0),
				"update": tryUpdatePod(w.pods, "node-1", &example.Pod{}, func(p *example.Pod) { p.Labels = map[string]string{"a": "b"} }),
				"delete": tryRemove(w.pods, "node-1", &example.Pod{}),
			} {
				if !is(err) || !strings.Contains(err.Error(), "was not written: the ledger is full") {
					t.Errorf("%s answered %v", verb, err)
				}
			}
		}
		if w.uncertain.count.Load() != 0 {
			t.Error("there are uncertain writes")
		}
	})
}

func TestUncertainWrite_ThatArrivesLateIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newUncertainFixture(t)
		create(t, w.pods, managed("node-1", "", ""))
		events := watchFrom(t, w.pods, list(t, w.pods, everything()).ResourceVersion)
		l.inject(failOn("update"), nil)
		err := tryUpdatePod(w.pods, "node-1", &example.Pod{}, func(p *example.Pod) { p.Labels = map[string]string{"a": "late"} })
		if !apierrors.IsTimeout(err) {
			t.Fatalf("answered %v", err)
		}
		l.inject(nil, nil)
		time.Sleep(20 * time.Second)
		expectNoEvent(t, events)
		r := recordOf(t, l, "pods/team-a/node-1")
		late := strings.Replace(string(r.Value), `"uid":`, `"labels":{"a":"late"},"uid":`, 1)
		if _, err := l.Update(t.Context(), r.Key, r.Version, []byte(late)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(resolveBackoffMax)
		expectEvents(t, events, "MODIFIED node-1 Pending")
		if w.uncertain.count.Load() != 0 {
			t.Error("uncertain writes are left")
		}
	})
}

func TestUncertainWrite_EndsWhenItCannotArriveAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newUncertainFixture(t)
		l.inject(failOn("create"), nil)
		if err := w.pods.Create(t.Context(), w.pods.testKey("node-1"), managed("node-1", "", ""), nil, 0); !apierrors.IsTimeout(err) {
			t.Fatal(err)
		}
		l.inject(nil, nil)
		time.Sleep(uncertainFor + 2*resolveBackoffMax)
		if w.uncertain.count.Load() != 0 {
			t.Error("uncertain writes are left")
		}
	})
}

func TestUncertainWrite_IsResolvedBeforeTheKeyIsUsed(t *testing.T) {
	for name, use := range map[string]func(*testing.T, *fixture){
		"get": func(t *testing.T, w *fixture) {
			out := &example.Pod{}
			if err := w.pods.Get(t.Context(), w.pods.testKey("node-1"), apistorage.GetOptions{}, out); err != nil || out.Labels["a"] != "b" {
				t.Errorf("got %v, %v", out.Labels, err)
			}
		},
		"update": func(t *testing.T, w *fixture) {
			update(t, w.pods, "node-1", func(p *example.Pod) {
				if p.Labels["a"] != "b" {
					t.Errorf("an update begins with %v", p.Labels)
				}
			})
		},
		"delete": func(t *testing.T, w *fixture) {
			if out := remove(t, w.pods, "node-1"); out.Labels["a"] != "b" {
				t.Errorf("deleted: %v", out.Labels)
			}
		},
		"nothing": func(t *testing.T, w *fixture) {
			time.Sleep(2 * resolveBackoff)
			if got := get(t, w.pods, "node-1"); got.Labels["a"] != "b" {
				t.Errorf("shown: %v", got.Labels)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, l := newUncertainFixture(t)
				create(t, w.pods, managed("node-1", "", ""))
				// The write is done, and neither its reply nor the ledger can be read.
				l.inject(failOn("list"), failOn("update"))
				err := tryUpdatePod(w.pods, "node-1", &example.Pod{}, func(p *example.Pod) { p.Labels = map[string]string{"a": "b"} })
				if !apierrors.IsTimeout(err) {
					t.Fatalf("answered %v", err)
				}
				if err := tryRemove(w.pods, "node-1", &example.Pod{}); !apierrors.IsTimeout(err) {
					t.Errorf("while the ledger cannot be read a write was answered %v", err)
				}
				// A read is answered all the same.
				if err := w.pods.Get(t.Context(), w.pods.testKey("node-1"), apistorage.GetOptions{}, &example.Pod{}); err != nil {
					t.Errorf("a read was answered %v", err)
				}
				l.inject(nil, nil)
				use(t, w)
			})
		})
	}
}

func TestStore_UpdateRetriesAfterAnotherServersWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New()
		one := newFixture(t, Options{Ledger: l})
		create(t, one.pods, managed("node-1", "", ""))
		two := newFixture(t, Options{Ledger: l})
		update(t, two.pods, "node-1", func(p *example.Pod) { p.Labels = map[string]string{"two": "was here"} })

		events := watchFrom(t, one.pods, list(t, one.pods, everything()).ResourceVersion)
		calls := 0
		got := update(t, one.pods, "node-1", func(p *example.Pod) {
			calls++
			if p.Labels == nil {
				p.Labels = map[string]string{}
			}
			p.Labels["one"] = "too"
		})
		if calls != 2 || got.Labels["two"] == "" || got.Labels["one"] == "" {
			t.Errorf("after %d calls: %v", calls, got.Labels)
		}
		expectEvents(t, events, "MODIFIED node-1 Pending", "MODIFIED node-1 Pending")

		remove(t, one.pods, "node-1")
		if err := tryRemove(two.pods, "node-1", &example.Pod{}); !apistorage.IsNotFound(err) {
			t.Errorf("a delete of what another server deleted: %v", err)
		}
		create(t, one.pods, managed("node-2", "", ""))
		other := managed("node-2", "", "")
		other.UID = "another"
		if err := two.pods.Create(t.Context(), two.pods.testKey("node-2"), other, nil, 0); !apistorage.IsExist(err) {
			t.Errorf("a create of what another server created: %v", err)
		}
		if got := get(t, two.pods, "node-2"); got == nil || got.UID != "uid-of-node-2" {
			t.Errorf("taken over: %v", got)
		}
	})
}

func TestStore_ReplacedObjectIsDeletedAndAdded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New()
		one := newFixture(t, Options{Ledger: l})
		create(t, one.pods, managed("node-1", "", ""))
		two := newFixture(t, Options{Ledger: l})
		remove(t, two.pods, "node-1")
		other := managed("node-1", "", "")
		other.UID = "another"
		create(t, two.pods, other)
		events := watchFrom(t, one.pods, list(t, one.pods, everything()).ResourceVersion)
		update(t, one.pods, "node-1", func(p *example.Pod) { p.Labels = map[string]string{"a": string(p.UID)} })
		expectEvents(t, events, "DELETED node-1 Pending", "ADDED node-1 Pending", "MODIFIED node-1 Pending")
		if got := get(t, one.pods, "node-1"); got.Labels["a"] != "another" {
			t.Errorf("the update was made to %s", got.Labels["a"])
		}
	})
}

func TestStore_UnreadableRecordOfAnotherServerIsNotShown(t *testing.T) {
	l := memory.New()
	w := newFixture(t, Options{Ledger: l})
	create(t, w.pods, managed("node-1", "", ""))
	r := recordOf(t, l, "pods/team-a/node-1")
	if _, err := l.Update(t.Context(), r.Key, r.Version, []byte("?")); err != nil {
		t.Fatal(err)
	}
	err := tryUpdatePod(w.pods, "node-1", &example.Pod{}, func(p *example.Pod) { p.Labels = map[string]string{"a": "b"} })
	if !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), "pods/team-a/node-1") {
		t.Errorf("answered %v", err)
	}
	if get(t, w.pods, "node-1") == nil {
		t.Error("it is not shown any more")
	}
}

func TestUncertainWrite_ManyCostTwoLedgerLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newUncertainFixture(t)
		lists := 0
		l.inject(func(verb, _ string) error {
			if verb == "list" {
				lists++
				time.Sleep(time.Second)
			}
			return nil
		}, func(verb, key string) error {
			if verb == "create" {
				return errLost
			}
			return nil
		})
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() { create(t, w.pods, managed(fmt.Sprintf("node-%d", i), "", "")) })
		}
		wg.Wait()
		if lists > 2 {
			t.Errorf("it was listed %d times", lists)
		}
		if n := len(list(t, w.pods, everything()).Items); n != 100 {
			t.Errorf("%d objects", n)
		}
	})
}
