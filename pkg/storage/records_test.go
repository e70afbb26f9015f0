// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/example"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// recordNames are the names of what Records returns.
func recordNames(objs []runtime.Object) (names []string) {
	for _, obj := range objs {
		p := obj.(*example.Pod)
		names = append(names, p.Name+" "+string(p.Status.Phase))
	}
	return names
}

func TestRecords_LeaveOutDiscoveredAndHiddenObjects(t *testing.T) {
	t.Parallel()
	hidden := &hiddenSet{}
	w := newFixture(t, Options{HiddenNamespaces: hidden.get})
	w.observe("m1", installing)
	other := installing
	other.allocation, other.uid = "a2", "u2"
	w.observe("m2", other)
	create(t, w.pods, managed("node-1", "m1", "a1"))
	create(t, w.pods, pod("team-b", "node-2"))
	objs, err := w.pods.Records(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := recordNames(objs); !slices.Equal(got, []string{"node-1 Installing", "node-2 Pending"}) {
		t.Errorf("records: %v", got)
	}

	hidden.hide(w.Backend, "team-b")
	if objs, err = w.pods.Records(t.Context()); err != nil || !slices.Equal(recordNames(objs), []string{"node-1 Installing"}) {
		t.Errorf("without the hidden namespace: %v, %v", recordNames(objs), err)
	}
	if objs, err = w.pods.Records(WithHiddenNamespaces(t.Context())); err != nil || len(objs) != 2 {
		t.Errorf("with the hidden namespace: %v, %v", recordNames(objs), err)
	}
	w.Stop()
	if _, err := w.pods.Records(t.Context()); err == nil {
		t.Error("a stopped backend answers")
	}
}

func TestChanges_AreWhatWritesAndMetalChanged(t *testing.T) {
	t.Parallel()
	w := newFixture(t, Options{History: 4})
	w.observe("m1", installing)
	create(t, w.pods, managed("node-1", "m1", "a1"))
	_, position, ok := w.pods.Changes(0)
	if ok {
		t.Error("the first call knows of no earlier one")
	}
	changes := func() (changed []string, ok bool) {
		names, next, ok := w.pods.Changes(position)
		position = next
		for _, n := range names {
			changed = append(changed, n.String())
		}
		return changed, ok
	}
	expect := func(why string, want ...string) {
		t.Helper()
		if got, ok := changes(); !ok || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", why, got, ok)
		}
	}
	expect("nothing changed")
	create(t, w.pods, pod("team-b", "node-2"))
	expect("a write", "team-b/node-2")
	expect("known since the last call")
	phoned := installing
	phoned.phase = "Phoned Home"
	w.observe("m1", phoned)
	expect("metal", "team-a/node-1")
	w.MetalChanged([]metal.Ref{machineRef("m1")})
	expect("no visible change")
	remove(t, w.pods, "node-1")
	expect("a deletion, after which the machine is discovered", "team-a/node-1", "team-a/m1")

	for i := range 4*historyBurst + 1 {
		phoned.phase = string(rune('a' + i))
		w.observe("m1", phoned)
	}
	if _, ok := changes(); ok {
		t.Error("events were dropped")
	}
	expect("known since then")
	w.HiddenNamespacesChanged()
	create(t, w.pods, pod("team-b", "node-3"))
	expect("after the events before were dropped", "team-b/node-3")
}

func TestRecordedRefs_ChangesAddUpToAll(t *testing.T) {
	t.Parallel()
	w := newFixture(t, Options{})
	known := map[metal.Ref]struct{}{}
	var position uint64
	// take takes over what changed, and reports whether that was everything.
	take := func() bool {
		changes := w.RecordedRefs(position)
		position = changes.Position
		if changes.Complete {
			clear(known)
		}
		for _, ref := range changes.Removed {
			delete(known, ref)
		}
		for _, ref := range changes.Added {
			known[ref] = struct{}{}
		}
		all := w.RecordedRefs(0)
		if len(all.Added) != len(known) || !all.Complete || all.Position != position {
			t.Fatalf("%v are known at %d of %v at %d", known, position, all.Added, all.Position)
		}
		for _, ref := range all.Added {
			if _, found := known[ref]; !found {
				t.Fatalf("%v is not known", ref)
			}
		}
		return changes.Complete
	}
	if !take() {
		t.Error("the first call knows of no earlier one")
	}
	random := rand.New(rand.NewPCG(1, 1))
	for step := range 2000 {
		name := fmt.Sprintf("node-%d", random.IntN(5))
		switch p := get(t, w.pods, name); {
		case p == nil:
			// Several may refer to one machine.
			create(t, w.pods, managed(name, fmt.Sprintf("m%d", random.IntN(4)), fmt.Sprintf("a%d", random.IntN(4))))
		case random.IntN(2) == 0:
			remove(t, w.pods, name)
		default:
			update(t, w.pods, name, func(p *example.Pod) { p.Spec.NodeName = fmt.Sprintf("m%d/a1", random.IntN(4)) })
		}
		if random.IntN(4) == 0 && take() {
			t.Errorf("everything is returned after step %d", step)
		}
	}
	for range maxChangedRefs {
		create(t, w.pods, managed("node", "m", "a"))
		remove(t, w.pods, "node")
	}
	if !take() {
		t.Error("changes were forgotten")
	}
	if take() {
		t.Error("nothing changed")
	}
}
