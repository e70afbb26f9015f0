// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

var installing = fact{namespace: "team-a", role: "pods", phase: "Installing", allocation: "a1", uid: "u1"}

func TestDiscovered_ShowsMetalWithoutRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t, Options{})
		events := watchFrom(t, w.pods, list(t, w.pods, everything()).ResourceVersion)
		w.observe("m1", installing)
		expectEvents(t, events, "ADDED m1 Installing")
		if got := names(list(t, w.pods, everything())); got != "m1" {
			t.Errorf("pods: %s", got)
		}
		if got := names(list(t, w.firewalls, everything())); got != "" {
			t.Errorf("walls: %s", got)
		}
		phoned := installing
		phoned.phase = "Phoned Home"
		w.observe("m1", phoned)
		expectEvents(t, events, "MODIFIED m1 Phoned Home")
		w.metal.gone("m1")
		w.MetalChanged([]metal.Ref{machineRef("m1")})
		expectEvents(t, events, "DELETED m1 Phoned Home")
	})
}

func TestDiscovered_IsReadOnly(t *testing.T) {
	w := newFixture(t, Options{})
	w.observe("m1", installing)
	before := get(t, w.pods, "m1").ResourceVersion
	errs := map[string]error{
		"update": tryUpdatePod(w.pods, "m1", &example.Pod{}, func(p *example.Pod) { p.Labels = nil }),
		"delete": tryRemove(w.pods, "m1", &example.Pod{}),
	}
	for verb, err := range errs {
		if !apierrors.IsForbidden(err) {
			t.Errorf("%s answered %v", verb, err)
			continue
		}
		for _, want := range []string{"m1", "discovered metal is read-only", "create a Pod with spec.providerID: metal://<partition>/m1", "deleting the object releases nothing"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", verb, err, want)
			}
		}
	}
	err := w.pods.Create(t.Context(), w.pods.testKey("m1"), pod("team-a", "m1"), nil, 0)
	if !apistorage.IsExist(err) {
		t.Errorf("create answered %v", err)
	}
	if after := get(t, w.pods, "m1").ResourceVersion; after != before {
		t.Errorf("the revision went from %s to %s", before, after)
	}
}

// The error of a refused write is made from the object that reads share: what makes it
// must not change that object. The race detector sees it.
func TestDiscovered_RefusedWriteLeavesSharedObjectUnchanged(t *testing.T) {
	w := newFixture(t, Options{})
	w.observe("m1", installing)
	var reads sync.WaitGroup
	reads.Go(func() {
		for range 100 {
			get(t, w.pods, "m1")
		}
	})
	for range 100 {
		if err := tryRemove(w.pods, "m1", &example.Pod{}); !apierrors.IsForbidden(err) {
			t.Errorf("delete answered %v", err)
		}
	}
	reads.Wait()
}

func TestDiscovered_LeavesOutReferencedMetal(t *testing.T) {
	for name, refer := range map[string]func(*example.Pod){
		"by its allocation":        func(p *example.Pod) { p.Spec.NodeName = "m1/a1" },
		"by the uid that it bears": func(p *example.Pod) { p.Annotations = map[string]string{uidAnnotation: "u1"} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFixture(t, Options{})
				w.observe("m1", installing)
				events := watchFrom(t, w.pods, list(t, w.pods, everything()).ResourceVersion)
				create(t, w.pods, managed("node-1", "", ""))
				expectEvents(t, events, "ADDED node-1 Pending")
				updated := update(t, w.pods, "node-1", refer)
				expectEvents(t, events, say2("MODIFIED", updated), "DELETED m1 Installing")
				if got := names(list(t, w.pods, everything())); got != "node-1" {
					t.Errorf("shown: %s", got)
				}
				remove(t, w.pods, "node-1")
				expectEvents(t, events, say2("DELETED", updated), "ADDED m1 Installing")
				expectNoEvent(t, events)
			})
		})
	}
}

func say2(verb string, p *example.Pod) string {
	return strings.TrimSpace(verb + " " + p.Name + " " + string(p.Status.Phase))
}

func TestDiscovered_IsHiddenByRecordOfAnotherResource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t, Options{})
		wall := installing
		wall.role = "walls"
		w.observe("m1", wall)
		walls := watchFrom(t, w.firewalls, list(t, w.firewalls, everything()).ResourceVersion)
		create(t, w.pods, managed("node-1", "m1", "a1"))
		expectEvents(t, walls, "DELETED m1 Installing")
		remove(t, w.pods, "node-1")
		expectEvents(t, walls, "ADDED m1 Installing")
	})
}

func TestDiscovered_ShowsReallocatedMachineThatARecordStillNames(t *testing.T) {
	w := newFixture(t, Options{})
	w.observe("m1", installing)
	create(t, w.pods, managed("node-1", "m1", "a1"))
	if get(t, w.pods, "m1") != nil {
		t.Error("metal that a record refers to is shown as discovered")
	}
	again := installing
	again.allocation, again.uid = "a2", "u2"
	w.observe("m1", again)
	if phase := get(t, w.pods, "node-1").Status.Phase; phase != "Gone" {
		t.Errorf("the record is shown as %q", phase)
	}
	if get(t, w.pods, "m1") == nil {
		t.Error("the new allocation is not shown")
	}
}

func TestDiscovered_ReplacesDeletedRecordInOneCommit(t *testing.T) {
	w := newFixture(t, Options{})
	w.observe("m1", installing)
	create(t, w.pods, managed("node-1", "m1", "a1"))
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if l := list(t, w.pods, everything()); len(l.Items) != 1 {
				t.Errorf("a list shows %d objects for one machine: %s", len(l.Items), names(l))
				return
			}
		}
	}()
	for range 200 {
		remove(t, w.pods, "node-1")
		create(t, w.pods, managed("node-1", "m1", "a1"))
	}
	close(stop)
	<-done
}

func TestDiscovered_FollowsRecordOfTheSameName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t, Options{})
		create(t, w.pods, managed("m1", "", ""))
		w.observe("m1", installing)
		events := watchFrom(t, w.pods, list(t, w.pods, everything()).ResourceVersion)
		if p := get(t, w.pods, "m1"); p.Labels["discovered"] != "" {
			t.Error("the record is hidden")
		}
		deleted := remove(t, w.pods, "m1")
		expectEvents(t, events, "DELETED m1 Pending", "ADDED m1 Installing")
		if deleted.Status.Phase != "Pending" {
			t.Errorf("the deleted object is %v", deleted)
		}
		expectNoEvent(t, events)
	})
}

func TestReprojectNamespace_ShowsMetalOfBoundNamespace(t *testing.T) {
	w := newFixture(t, Options{})
	unbound := installing
	unbound.namespace = ""
	w.observe("m1", unbound)
	if get(t, w.pods, "m1") != nil {
		t.Fatal("metal of a project that is not bound is shown")
	}
	w.metal.set("m1", installing)
	w.ReprojectNamespace("team-a")
	if get(t, w.pods, "m1") == nil {
		t.Fatal("the metal is not shown")
	}
	w.metal.set("m1", unbound)
	w.ReprojectAll()
	if get(t, w.pods, "m1") != nil {
		t.Fatal("the metal is still shown")
	}
}

func TestReprojectNamespace_ProjectsRecordsAgain(t *testing.T) {
	w := newFixture(t, Options{})
	create(t, w.pods, managed("node-1", "m1", "a1"))
	for phase, rejoin := range map[string]func(){
		"Phoned Home": func() { w.ReprojectNamespace("team-a") },
		"Waiting":     w.ReprojectAll,
	} {
		f := installing
		f.phase = phase
		w.metal.set("m1", f)
		rejoin()
		if got := get(t, w.pods, "node-1").Status.Phase; string(got) != phase {
			t.Errorf("shown as %q, not %q", got, phase)
		}
	}
}

func TestStart_ShowsMetalObservedBeforeUnlessReferenced(t *testing.T) {
	l := newFixture(t, Options{})
	l.observe("m1", installing)
	l.observe("m2", fact{namespace: "team-a", role: "pods", allocation: "a2"})
	create(t, l.firewalls, managed("wall-1", "m1", "a1"))

	w := openFixture(t, l.metal, Options{Ledger: l.ledger})
	w.MetalChanged([]metal.Ref{machineRef("m1"), machineRef("m2")})
	start(t, w.Backend)
	if get(t, w.pods, "m1") != nil {
		t.Error("metal is shown as discovered, although a record of another resource refers to it")
	}
	if get(t, w.pods, "m2") == nil {
		t.Error("metal that no record refers to is not shown")
	}
}

func TestRecordedRefs_AreAllMetalOfRecords(t *testing.T) {
	w := newFixture(t, Options{})
	create(t, w.pods, managed("node-1", "m1", "a1"))
	create(t, w.firewalls, managed("wall-1", "m1", "a1"))
	w.observe("m2", fact{namespace: "team-a", role: "pods", allocation: "a2"})
	if got := w.RecordedRefs(0).Added; len(got) != 2 {
		t.Errorf("named: %v", got)
	}
	remove(t, w.pods, "node-1")
	if got := w.RecordedRefs(0).Added; len(got) != 2 {
		t.Errorf("named by the other one: %v", got)
	}
	remove(t, w.firewalls, "wall-1")
	if got := w.RecordedRefs(0).Added; len(got) != 0 {
		t.Errorf("named by no record: %v", got)
	}
}
