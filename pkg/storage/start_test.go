// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// errOther says that another process answers.
var errOther = errors.New("another server is the active one")

// fence is one that a test shuts.
type fence struct {
	mu         sync.Mutex
	shut, late bool
}

func (f *fence) set(shut, late bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shut, f.late = shut, late
}

func (f *fence) Check() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shut {
		return errOther
	}
	return nil
}

func (f *fence) CheckExclusive() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.late {
		return errOther
	}
	return nil
}

// counted counts the calls of a ledger.
type counted struct {
	ledger.Ledger
	mu     sync.Mutex
	writes int
}

func (c *counted) Create(ctx context.Context, key string, value []byte) (string, error) {
	c.count()
	return c.Ledger.Create(ctx, key, value)
}

func (c *counted) Update(ctx context.Context, key, version string, value []byte) (string, error) {
	c.count()
	return c.Ledger.Update(ctx, key, version, value)
}

func (c *counted) Delete(ctx context.Context, key, version string) error {
	c.count()
	return c.Ledger.Delete(ctx, key, version)
}

func (c *counted) count() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes++
}

func (c *counted) written() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes
}

// requests are one of each kind, on a record node-1 that is there.
func requests(t *testing.T, s *Store) map[string]func() error {
	ctx := t.Context()
	key := s.testKey("node-1")
	return map[string]func() error{
		"get":  func() error { return s.Get(ctx, key, apistorage.GetOptions{ResourceVersion: "0"}, &example.Pod{}) },
		"list": func() error { return s.GetList(ctx, s.prefix, everything(), &example.PodList{}) },
		"watch": func() error {
			w, err := s.Watch(ctx, s.prefix, everything())
			if err == nil {
				w.Stop()
			}
			return err
		},
		"create": func() error { return s.Create(ctx, s.testKey("node-9"), managed("node-9", "", ""), nil, 0) },
		"update": func() error {
			return tryUpdatePod(s, "node-1", &example.Pod{}, func(p *example.Pod) { p.Labels = map[string]string{"a": "b"} })
		},
		"delete": func() error {
			return s.Delete(ctx, key, &example.Pod{}, nil, apistorage.ValidateAllObjectFunc, nil, apistorage.DeleteOptions{})
		},
	}
}

// requireRefused requires that clients come again by themselves.
func requireRefused(t *testing.T, err error, text string) {
	t.Helper()
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !apierrors.IsServiceUnavailable(err) || !strings.Contains(err.Error(), text) {
		t.Errorf("answered %v", err)
		return
	}
	if details := status.Status().Details; details == nil || details.RetryAfterSeconds == 0 {
		t.Errorf("it is not said when to come again: %v", err)
	}
}

func TestStart_NothingIsAnsweredOrWrittenBefore(t *testing.T) {
	before := newFixture(t, Options{})
	create(t, before.pods, managed("node-1", "m1", "a1"))
	l := &counted{Ledger: before.ledger}
	w := openFixture(t, before.metal, Options{Ledger: l})
	w.observe("m1", installing)
	w.ReprojectAll()
	if err := w.Preload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, request := range requests(t, w.pods) {
		t.Run(name, func(t *testing.T) { requireRefused(t, request(), "records not read yet") })
	}
	if n := l.written(); n != 0 {
		t.Errorf("%d writes", n)
	}
}

func TestPreload_FindsRecordedRefs(t *testing.T) {
	other := newFixture(t, Options{})
	create(t, other.pods, managed("node-1", "m1", "a1"))
	w := openFixture(t, other.metal, Options{Ledger: other.ledger})
	survey := func(want int) {
		t.Helper()
		if err := w.Preload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := w.RecordedRefs(0).Added; len(got) != want {
			t.Errorf("named: %v", got)
		}
	}
	survey(2)
	create(t, other.firewalls, managed("wall-1", "m2", "a2"))
	survey(4)
	remove(t, other.pods, "node-1")
	survey(2)
	start(t, w.Backend)
	if got := w.RecordedRefs(0).Added; len(got) != 2 {
		t.Errorf("named after the start: %v", got)
	}
}

func TestStart_ReadsTheLedgerAgainAfterPreload(t *testing.T) {
	other := newFixture(t, Options{})
	other.observe("m1", installing)
	create(t, other.pods, managed("node-1", "m1", "a1"))
	create(t, other.pods, managed("node-2", "", ""))
	w := openFixture(t, other.metal, Options{Ledger: other.ledger})
	if err := w.Preload(t.Context()); err != nil {
		t.Fatal(err)
	}
	update(t, other.pods, "node-1", func(p *example.Pod) { p.Labels = map[string]string{"a": "b"} })
	remove(t, other.pods, "node-2")
	last := revision(t, create(t, other.pods, managed("node-3", "", "")))
	w.MetalChanged([]metal.Ref{machineRef("m1")})
	start(t, w.Backend)

	all := list(t, w.pods, everything())
	if got := names(all); got != "node-1 node-3" {
		t.Errorf("shown: %s", got)
	}
	if all.Items[0].Labels["a"] != "b" || all.Items[0].Status.Phase != "Installing" {
		t.Errorf("node-1: %+v", all.Items[0])
	}
	for _, item := range all.Items {
		if got := revision(t, &item); got <= last {
			t.Errorf("%s is at %d, although %d was issued before", item.Name, got, last)
		}
	}
}

func TestFence_ShutRefusesReadsAndWrites(t *testing.T) {
	l := &counted{Ledger: memory.New()}
	f := &fence{}
	w := newFixture(t, Options{Ledger: l, Fence: f})
	create(t, w.pods, managed("node-1", "m1", "a1"))
	shown := list(t, w.pods, everything()).ResourceVersion
	before := l.written()
	f.set(true, true)
	for name, request := range requests(t, w.pods) {
		t.Run(name, func(t *testing.T) { requireRefused(t, request(), errOther.Error()) })
	}
	w.observe("m1", installing)
	f.set(false, false)
	if got := list(t, w.pods, everything()).ResourceVersion; got != shown {
		t.Errorf("what was observed behind the fence was shown at %s, after %s", got, shown)
	}
	if n := l.written() - before; n != 0 {
		t.Errorf("%d writes", n)
	}
}

func TestFence_IsCheckedBeforeEachLedgerWrite(t *testing.T) {
	l := &counted{Ledger: memory.New()}
	f := &fence{}
	w := newFixture(t, Options{Ledger: l, Fence: f})
	create(t, w.pods, managed("node-1", "", ""))
	before := l.written()
	err := tryUpdatePod(w.pods, "node-1", &example.Pod{}, func(p *example.Pod) {
		p.Labels = map[string]string{"a": "b"}
		f.set(true, false)
	})
	requireRefused(t, err, errOther.Error())
	if n := l.written() - before; n != 0 {
		t.Errorf("%d writes", n)
	}
}

func TestFence_LateWriteIsNotAcknowledged(t *testing.T) {
	f := &fence{}
	w := newFixture(t, Options{Fence: f})
	for name, write := range map[string]func() error{
		"create": func() error {
			return w.pods.Create(t.Context(), w.pods.testKey("node-2"), managed("node-2", "", ""), nil, 0)
		},
		"update": func() error {
			return tryUpdatePod(w.pods, "node-1", &example.Pod{}, func(p *example.Pod) { p.Labels = map[string]string{"a": "b"} })
		},
		"delete": func() error {
			return w.pods.Delete(t.Context(), w.pods.testKey("node-3"), &example.Pod{}, nil, apistorage.ValidateAllObjectFunc, nil, apistorage.DeleteOptions{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			f.set(false, false)
			create(t, w.pods, managed("of-"+name, "", ""))
			if name != "create" {
				create(t, w.pods, managed(map[string]string{"update": "node-1", "delete": "node-3"}[name], "", ""))
			}
			f.set(false, true)
			if err := write(); !apierrors.IsTimeout(err) || !strings.Contains(err.Error(), errOther.Error()) {
				t.Errorf("answered %v", err)
			}
		})
	}
}

func TestResync_ShowsWritesThatArrivedAfterTheStart(t *testing.T) {
	late := newFixture(t, Options{})
	create(t, late.pods, managed("changed", "", ""))
	create(t, late.pods, managed("deleted", "", ""))
	create(t, late.pods, managed("same", "", ""))
	w := openFixture(t, late.metal, Options{Ledger: late.ledger})
	start(t, w.Backend)
	update(t, late.pods, "changed", func(p *example.Pod) { p.Labels = map[string]string{"a": "b"} })
	remove(t, late.pods, "deleted")
	create(t, late.pods, managed("new", "", ""))
	watch := watchFrom(t, w.pods, list(t, w.pods, everything()).ResourceVersion)

	if err := w.Resync(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for range 3 {
		got[describeEvent(<-watch.ResultChan())] = true
	}
	for _, want := range []string{"MODIFIED changed Pending", "DELETED deleted Pending", "ADDED new Pending"} {
		if !got[want] {
			t.Errorf("no event %q: %v", want, got)
		}
	}
	if shown := names(list(t, w.pods, everything())); shown != "changed new same" {
		t.Errorf("shown: %s", shown)
	}
	if err := w.Resync(t.Context()); err != nil {
		t.Fatal(err)
	}
	expectNoEvent(t, watch)
}

// BenchmarkStart5000 is what a takeover costs besides reading the ledger: with
// the records known from a survey, and without.
func BenchmarkStart5000(b *testing.B) {
	w := newFleet(b, 5000)
	for name, surveyed := range map[string]bool{"cold": false, "surveyed": true} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				next := openFixture(b, w.metal, Options{Ledger: w.ledger})
				if surveyed {
					if err := next.Preload(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
				start(b, next.Backend)
				b.StopTimer()
				if n := len(list(b, next.pods, everything()).Items); n < 5000 {
					b.Fatal(fmt.Errorf("%d objects", n))
				}
			}
		})
	}
}
