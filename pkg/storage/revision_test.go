// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/apis/example"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
)

func revision(t testing.TB, obj interface{ GetResourceVersion() string }) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(obj.GetResourceVersion(), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRevisions_AreMicrosecondsThatFitIntoJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t, Options{})
		for i := range 3 {
			time.Sleep(time.Millisecond)
			got := revision(t, create(t, w.pods, managed("node-"+strconv.Itoa(i), "", "")))
			if want := uint64(time.Now().UnixMicro()); got != want {
				t.Errorf("revision %d at %d", got, want)
			}
			if got > maxRevision {
				t.Errorf("%d is not exact in JSON", got)
			}
		}
	})
}

func TestRevisions_IncreaseStrictlyAcrossResources(t *testing.T) {
	w := newFixture(t, Options{Clock: clockAtZero})
	last := revision(t, list(t, w.pods, everything()))
	for i := range 20 {
		s := []*Store{w.pods, w.firewalls}[i%2]
		got := revision(t, create(t, s, managed("node-"+strconv.Itoa(i), "", "")))
		if got != last+1 {
			t.Errorf("revision %d after %d", got, last)
		}
		last = got
	}
}

func TestRevisions_DoNotGoBackWithTheClock(t *testing.T) {
	fake := clocktesting.NewFakeClock(time.Now())
	w := newFixture(t, Options{Clock: fake})
	before := revision(t, create(t, w.pods, managed("node-1", "", "")))
	fake.SetTime(time.Now().Add(-24 * time.Hour))
	after := revision(t, create(t, w.pods, managed("node-2", "", "")))
	if after != before+1 {
		t.Errorf("revision %d after %d", after, before)
	}
	fake.SetTime(time.UnixMicro(maxRevision + 5))
	if again := revision(t, create(t, w.pods, managed("node-3", "", ""))); again != after+1 {
		t.Errorf("revision %d after %d, at a nonsensical time", again, after)
	}
}

func TestRevisions_DoNotGoBackOverARestart(t *testing.T) {
	l := memory.New()
	for _, hours := range []int{0, -48, -24, 24, 0} {
		var last uint64
		if r := recordOf(t, l, markKey); r != nil {
			m, _, err := readMark(map[string]ledger.Record{markKey: *r})
			if err != nil {
				t.Fatal(err)
			}
			last = m.Reserved
		}
		w := newFixture(t, Options{Ledger: l, Clock: clocktesting.NewFakeClock(time.Now().Add(time.Duration(hours) * time.Hour))})
		start := revision(t, list(t, w.pods, everything()))
		if start <= last {
			t.Errorf("a process starts at %d, although its predecessor may have issued %d", start, last)
		}
	}
}

func TestRevisions_AreReservedBeforeUse(t *testing.T) {
	l := memory.New()
	w := newFixture(t, Options{Ledger: l, Clock: clockAtZero, reserveAhead: 40 * time.Microsecond})
	for i := range 200 {
		got := revision(t, create(t, w.pods, managed("node-"+strconv.Itoa(i), "", "")))
		m, _, err := readMark(map[string]ledger.Record{markKey: *recordOf(t, l, markKey)})
		if err != nil {
			t.Fatal(err)
		}
		if got > m.Reserved {
			t.Fatalf("revision %d was issued, and the mark is %d", got, m.Reserved)
		}
	}
}

func TestRevisions_IdleServerReservesNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New()
		w := newFixture(t, Options{Ledger: l})
		synctest.Wait()
		before := recordOf(t, l, markKey).Version
		time.Sleep(24 * time.Hour)
		list(t, w.pods, everything())
		synctest.Wait()
		if after := recordOf(t, l, markKey).Version; after != before {
			t.Error("it was written")
		}
		// The first write after that has a revision at once, and leads the
		// scale back to the clock.
		create(t, w.pods, managed("node-1", "", ""))
		synctest.Wait()
		if got, now := revision(t, create(t, w.pods, managed("node-2", "", ""))), uint64(time.Now().UnixMicro()); got != now {
			t.Errorf("revision %d at %d", got, now)
		}
	})
}

func TestRevisions_UncertainReservationIsNotUsed(t *testing.T) {
	for name, written := range map[string]bool{"written": true, "not written": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &faulty{Ledger: memory.New()}
				w := newFixture(t, Options{Ledger: l, Clock: stoppedClock{at: time.UnixMicro(1)}, reserveAhead: 40 * time.Microsecond})
				first := recordOf(t, l, markKey)
				fail := func(verb, key string) error {
					if key == markKey {
						return errors.New("connection reset")
					}
					return nil
				}
				if written {
					l.inject(nil, fail)
				} else {
					l.inject(fail, nil)
				}
				m, _, _ := readMark(map[string]ledger.Record{markKey: *first})
				var err error
				var last uint64
				for i := 0; err == nil && i < 100; i++ {
					out := &example.Pod{}
					if err = w.pods.Create(t.Context(), w.pods.testKey("node-"+strconv.Itoa(i)), managed("node-"+strconv.Itoa(i), "", ""), out, 0); err == nil {
						last = revision(t, out)
					}
				}
				if !apierrors.IsServiceUnavailable(err) {
					t.Errorf("without revisions a write was answered %v", err)
				}
				if last > m.Reserved {
					t.Errorf("revision %d was issued beyond the mark %d", last, m.Reserved)
				}
				l.inject(nil, nil)
				time.Sleep(2 * reserveRetry)
				got := revision(t, create(t, w.pods, managed("after", "", "")))
				m, _, _ = readMark(map[string]ledger.Record{markKey: *recordOf(t, l, markKey)})
				if got <= last || got > m.Reserved {
					t.Errorf("revision %d after %d, with the mark at %d", got, last, m.Reserved)
				}
			})
		})
	}
}

func TestRevisions_TwoServersNeverIssueTheSame(t *testing.T) {
	l := memory.New()
	worlds := []*fixture{}
	for range 2 {
		worlds = append(worlds, newFixture(t, Options{Ledger: l, Clock: clockAtZero, reserveAhead: 40 * time.Microsecond}))
	}
	issued := map[uint64]int{}
	for i := range 200 {
		for server, w := range worlds {
			got := revision(t, create(t, w.pods, managed("of-"+strconv.Itoa(server)+"-"+strconv.Itoa(i), "", "")))
			if other, found := issued[got]; found {
				t.Fatalf("server %d issued %d, as server %d did", server, got, other)
			}
			issued[got] = server
		}
	}
}

func TestStart_FailsOnUnreadableLedger(t *testing.T) {
	cause := errors.New("disk on fire")
	l := &faulty{Ledger: memory.New()}
	l.inject(func(string, string) error { return cause }, nil)
	if err := newBackend(t, Options{Ledger: l}).Start(t.Context()); !errors.Is(err, cause) {
		t.Errorf("Start answered %v", err)
	}
	l.inject(func(verb, _ string) error {
		if verb == "list" {
			return nil
		}
		return cause
	}, nil)
	if err := newBackend(t, Options{Ledger: l}).Start(t.Context()); !errors.Is(err, cause) {
		t.Errorf("Start answered %v", err)
	}
	if _, err := NewBackend(t.Context(), Options{}); err == nil {
		t.Error("a backend without a ledger was made")
	}
	damaged := memory.New()
	if _, err := damaged.Create(context.Background(), markKey, []byte("?")); err != nil {
		t.Fatal(err)
	}
	if err := newBackend(t, Options{Ledger: damaged}).Start(t.Context()); err == nil {
		t.Error("a backend started over a mark that cannot be read")
	}
}

func TestStart_FailsWithoutRevisionsLeft(t *testing.T) {
	t.Parallel()
	for _, reserved := range []uint64{maxRevision, 1<<64 - 1} {
		l := memory.New()
		if _, err := l.Create(t.Context(), markKey, fmt.Appendf(nil, `{"reserved":%d}`, reserved)); err != nil {
			t.Fatal(err)
		}
		b := newBackend(t, Options{Ledger: l})
		openPods(t, b, "pods", nil)
		if err := b.Start(t.Context()); err == nil || !strings.Contains(err.Error(), markKey) {
			t.Errorf("over a mark of %d: %v", reserved, err)
		}
	}
}

// ending is a ledger that ends with its caller.
type ending struct{ ledger.Ledger }

// List implements ledger.Ledger.
func (e ending) List(ctx context.Context) ([]ledger.Record, error) { return nil, ctx.Err() }

// Create implements ledger.Ledger.
func (e ending) Create(ctx context.Context, _ string, _ []byte) (string, error) {
	return "", ctx.Err()
}

// In a bubble, whoever asks over and over would never let the time pass after
// which it gives up.
func TestRevisions_WaitEndsWithTheServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// The ledger cannot be reached any more, either.
		life, end := context.WithCancel(t.Context())
		end()
		r := &revisions{ctx: life, ledger: ending{}, clock: clock.RealClock{}, step: 1000}
		if err := r.ensureReserved(t.Context()); !apierrors.IsServiceUnavailable(err) {
			t.Errorf("%v", err)
		}
		synctest.Wait()
	})
}
