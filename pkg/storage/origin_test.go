// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/apis/example"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
)

const project = "10000000-0000-4000-8000-00000000000a"

// made is when team-a was made.
var made = time.Unix(1e9, 0)

// bound is Options.Origin of a test: team-a is bound, once its uid is set.
type bound struct{ uid atomic.Pointer[types.UID] }

func (b *bound) is(uid types.UID) { b.uid.Store(&uid) }

func (b *bound) origin(namespace string) (Origin, time.Time) {
	if uid := b.uid.Load(); uid != nil && namespace == "team-a" {
		return Origin{*uid, project}, made
	}
	return Origin{}, time.Time{}
}

// podAt is a pod that was made some time after team-a.
func podAt(name string, after time.Duration) *example.Pod {
	p := pod("team-a", name)
	p.CreationTimestamp = metav1.NewTime(made.Add(after))
	return p
}

// startBound starts one store over l.
func startBound(t *testing.T, l ledger.Ledger) (*bound, *Store) {
	t.Helper()
	b := &bound{}
	return b, startPods(t, Options{Ledger: l, Origin: b.origin})
}

// says reports whether the record of a pod of team-a names the uid.
func says(t *testing.T, l ledger.Ledger, name, uid string) bool {
	t.Helper()
	r := recordOf(t, l, "pods/team-a/"+name)
	if r == nil {
		t.Fatalf("%s has no record", name)
	}
	return strings.HasPrefix(string(r.Value), `{"format":1,"namespace":{"uid":"`+uid+`","project":"`+project+`"},"object":{`)
}

func TestOrigin_RecordSaysOfWhichNamespaceItIs(t *testing.T) {
	t.Parallel()
	l := memory.New()
	b, s := startBound(t, l)
	b.is("u1")
	create(t, s, pod("team-a", "node-1"))
	if !says(t, l, "node-1", "u1") {
		t.Errorf("the record is %s", recordOf(t, l, "pods/team-a/node-1").Value)
	}
	create(t, s, pod("team-b", "node-1"))
	if r := recordOf(t, l, "pods/team-b/node-1"); !strings.HasPrefix(string(r.Value), `{"format":1,"object":{`) {
		t.Errorf("the record of a namespace that is not bound is %s", r.Value)
	}
	want := []Origin{{"u1", project}}
	for range 2 {
		if got := s.backend.Origins(); len(got) != 1 || !slices.Equal(got["team-a"], want) {
			t.Errorf("records say %v", got)
		}
		_, s = startBound(t, l) // also over a restart
	}
}

func TestOrigin_DoesNotChangeOnceItIsKnown(t *testing.T) {
	t.Parallel()
	l := memory.New()
	b, s := startBound(t, l)
	b.is("u1")
	create(t, s, pod("team-a", "node-1"))
	b.is("u2")
	if err := tryUpdatePod(s, "node-1", &example.Pod{}, func(p *example.Pod) { p.Labels = map[string]string{"a": "b"} }); err != nil {
		t.Fatal(err)
	}
	if !says(t, l, "node-1", "u1") {
		t.Errorf("the record is %s", recordOf(t, l, "pods/team-a/node-1").Value)
	}
	create(t, s, pod("team-a", "node-2"))
	got := s.backend.Origins()["team-a"]
	if !slices.Equal(got, []Origin{{"u1", project}, {"u2", project}}) {
		t.Errorf("records say %v", got)
	}
}

func TestOrigin_RecordOfAnOlderServerIsCompletedByTheNextWrite(t *testing.T) {
	t.Parallel()
	l := memory.New()
	b, s := startBound(t, l)
	create(t, s, podAt("node-1", 0))
	if got := s.backend.Origins(); len(got) != 0 {
		t.Errorf("records say %v", got)
	}
	unchanged := func(*example.Pod) {}
	before := recordOf(t, l, "pods/team-a/node-1")
	for _, known := range []bool{false, true} {
		if known {
			b.is("u1")
		}
		if err := tryUpdatePod(s, "node-1", &example.Pod{}, unchanged); err != nil {
			t.Fatal(err)
		}
		if says(t, l, "node-1", "u1") != known {
			t.Errorf("known: %t; the record is %s", known, recordOf(t, l, "pods/team-a/node-1").Value)
		}
		if !known && recordOf(t, l, "pods/team-a/node-1").Version != before.Version {
			t.Error("written although nothing has changed")
		}
	}
	before = recordOf(t, l, "pods/team-a/node-1")
	if err := tryUpdatePod(s, "node-1", &example.Pod{}, unchanged); err != nil {
		t.Fatal(err)
	}
	if recordOf(t, l, "pods/team-a/node-1").Version != before.Version {
		t.Error("written although it is complete")
	}
}

func TestCompleteOrigins_CompletesWhatIsKnownByNow(t *testing.T) {
	t.Parallel()
	l := memory.New()
	b, s := startBound(t, l)
	create(t, s, podAt("node-1", 0))
	create(t, s, podAt("older-than-the-namespace", -time.Second))
	create(t, s, pod("team-b", "node-1"))
	b.is("u1")
	create(t, s, podAt("node-2", 0))
	others := []string{"pods/team-a/node-2", "pods/team-a/older-than-the-namespace", "pods/team-b/node-1"}
	var before []string
	for _, key := range others {
		before = append(before, recordOf(t, l, key).Version)
	}
	for range 2 {
		if err := s.backend.CompleteOrigins(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !says(t, l, "node-1", "u1") {
			t.Errorf("the record is %s", recordOf(t, l, "pods/team-a/node-1").Value)
		}
		for i, key := range others {
			if got := recordOf(t, l, key); got.Version != before[i] {
				t.Errorf("%s is written although nothing is missing, or nothing known: %s", key, got.Value)
			}
		}
	}
}

func TestCompleteOrigins_BeforeTheStart(t *testing.T) {
	t.Parallel()
	l := memory.New()
	_, s := startBound(t, l)
	create(t, s, podAt("node-1", 0))
	b := &bound{}
	b.is("u1")
	standby := newBackend(t, Options{Ledger: l, Origin: b.origin})
	pods := openPods(t, standby, "pods", nil)
	if got := standby.Origins(); len(got) != 0 {
		t.Errorf("nothing was read, and records say %v", got)
	}
	if err := standby.CompleteOrigins(t.Context()); err != nil {
		t.Error(err)
	}
	start(t, standby)
	if got := names(list(t, pods, everything())); got != "node-1" {
		t.Errorf("what was asked before the start has changed what is shown: %q", got)
	}
	if err := standby.CompleteOrigins(t.Context()); err != nil {
		t.Error(err)
	}
	if !says(t, l, "node-1", "u1") || len(standby.Origins()) != 1 {
		t.Errorf("the record is %s", recordOf(t, l, "pods/team-a/node-1").Value)
	}
}

func TestCompleteOrigins_EndsWithTheServer(t *testing.T) {
	t.Parallel()
	l := memory.New()
	b, s := startBound(t, l)
	create(t, s, podAt("node-1", 0))
	b.is("u1")
	s.backend.Stop()
	if err := s.backend.CompleteOrigins(t.Context()); err != nil {
		t.Error(err)
	}
	if says(t, l, "node-1", "u1") {
		t.Error("a server that has stopped has written")
	}
}
