// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"testing"
	"testing/synctest"

	"k8s.io/apiserver/pkg/apis/example"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

func TestMetalChanged_UpdatesEveryViewBeforeReturning(t *testing.T) {
	w := newFixture(t, Options{})
	create(t, w.pods, managed("node-1", "m1", "a1"))
	create(t, w.firewalls, managed("wall-1", "m1", "a1"))
	for _, phase := range []string{"Installing", "Booting New Kernel", "Phoned Home"} {
		w.observe("m1", fact{phase: phase, allocation: "a1"})
		for s, name := range map[*Store]string{w.pods: "node-1", w.firewalls: "wall-1"} {
			if got := get(t, s, name).Status.Phase; string(got) != phase {
				t.Errorf("%s shows %q, not %q", name, got, phase)
			}
		}
	}
}

func TestMetalChanged_WithoutVisibleChangeIssuesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t, Options{})
		create(t, w.pods, managed("node-1", "m1", "a1"))
		w.observe("m1", installing)
		w.observe("m2", fact{namespace: "team-a", role: "pods", allocation: "a2"})
		before := list(t, w.pods, everything())
		events := watchFrom(t, w.pods, before.ResourceVersion)
		w.MetalChanged([]metal.Ref{machineRef("m1"), machineRef("m2"), machineRef("m3")})
		w.ReprojectAll()
		unseen := installing
		unseen.uid = "another" // no object shows it
		w.observe("m1", unseen)
		after := list(t, w.pods, everything())
		if after.ResourceVersion != before.ResourceVersion {
			t.Errorf("the revision went from %s to %s", before.ResourceVersion, after.ResourceVersion)
		}
		synctest.Wait()
		expectNoEvent(t, events)
	})
}

func TestMetalChanged_ReprojectsRecordOfTheIdentity(t *testing.T) {
	w := newFixture(t, Options{})
	w.observe("m1", installing)
	p := managed("node-1", "", "")
	p.Annotations = map[string]string{uidAnnotation: "u1"}
	create(t, w.pods, p)
	calls := 0
	w.pods.projector = countingProjector{w.pods.projector, &calls}
	w.MetalChanged([]metal.Ref{machineRef("m1")})
	if calls != 1 {
		t.Errorf("the record was projected %d times", calls)
	}
}

func TestStore_UpdateDropsMetalHalf(t *testing.T) {
	w := newFixture(t, Options{})
	w.observe("m1", installing)
	create(t, w.pods, managed("node-1", "m1", "a1"))
	before := get(t, w.pods, "node-1")
	after := update(t, w.pods, "node-1", func(p *example.Pod) { p.Status.Phase = "Dreamt Up" })
	if after.Status.Phase != "Installing" || after.ResourceVersion != before.ResourceVersion {
		t.Errorf("phase %q at revision %s, before %s", after.Status.Phase, after.ResourceVersion, before.ResourceVersion)
	}
}
