// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// places are where and as what everything is shown.
func places(t testing.TB, stores ...*Store) map[string]string {
	t.Helper()
	shown := map[string]string{}
	for _, s := range stores {
		for _, p := range list(t, s, everything()).Items {
			shown[s.resource.Resource+"/"+p.Namespace+"/"+p.Name] = strings.TrimSpace(fmt.Sprintf("%s %v", p.Status.Phase, p.Spec.NodeSelector))
		}
	}
	return shown
}

func TestExpander_ShowsSharedMetalInEachNamespace(t *testing.T) {
	t.Parallel()
	f := startNets(t, nil, newFakeNets("a", "b"))
	expect := func(when string, want map[string]string) {
		t.Helper()
		if diff := cmp.Diff(want, places(t, f.nets)); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
	}
	f.observe("n", net{project: "a", phase: "1"})
	expect("private", map[string]string{"nets/team-a/n": "1 map[]"})
	f.observe("n", net{project: "a", shared: true, phase: "1"})
	expect("shared", map[string]string{"nets/team-a/n": "1 map[]", "nets/team-b/n": "1 map[]"})
	f.observe("n", net{project: "a", shared: true, phase: "2"})
	expect("changed", map[string]string{"nets/team-a/n": "2 map[]", "nets/team-b/n": "2 map[]"})
	f.facts.change(func() { f.facts.namespaces["c"] = "team-c" })
	f.ReprojectNamespace("team-c")
	expect("another namespace is bound", map[string]string{"nets/team-a/n": "2 map[]", "nets/team-b/n": "2 map[]", "nets/team-c/n": "2 map[]"})
	f.facts.change(func() { delete(f.facts.namespaces, "b") })
	f.ReprojectNamespace("team-b")
	expect("a namespace is unbound", map[string]string{"nets/team-a/n": "2 map[]", "nets/team-c/n": "2 map[]"})
	f.observe("n", net{project: "a", phase: "3"})
	expect("private again", map[string]string{"nets/team-a/n": "3 map[]"})
	f.facts.change(func() { delete(f.facts.nets, "n") })
	f.MetalChanged([]metal.Ref{netRef("n")})
	expect("gone", map[string]string{})
}

// A projector that still answers about what is not expanded any more does not have it shown.
func TestExpander_HidesWhatIsNotExpandedAnyMore(t *testing.T) {
	t.Parallel()
	f := startNets(t, nil, newFakeNets("a", "b"))
	create(t, f.nets, pod("team-b", "n"))
	f.observe("n", net{project: "a", shared: true, phase: "1"})
	f.observe("n", net{project: "a", phase: "1"})
	out := &example.Pod{}
	// Nothing takes the place of the record.
	if err := f.nets.Delete(t.Context(), "/nets/team-b/n", out, nil, apistorage.ValidateAllObjectFunc, nil, apistorage.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"nets/team-a/n": "1 map[]"}, places(t, f.nets)); diff != "" {
		t.Error(diff)
	}
}

func TestHolders_AreShownWithTheMetalThatTheyName(t *testing.T) {
	t.Parallel()
	l := memory.New()
	f := startNets(t, l, newFakeNets("a"))
	f.observe("n", net{project: "a", phase: "1"})
	events := watchFrom(t, f.nets, list(t, f.nets, everything()).ResourceVersion)
	expect := func(when string, want map[string]string, words ...string) {
		t.Helper()
		if diff := cmp.Diff(want, places(t, f.nets)); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
		expectEvents(t, events, words...)
	}
	create(t, f.clusters, using("team-a", "prod", "n"))
	expect("used", map[string]string{"nets/team-a/n": "1 map[prod:]"}, "MODIFIED n 1")
	create(t, f.clusters, using("team-a", "dev", ""))
	update(t, f.clusters, "dev", func(p *example.Pod) { p.Spec.NodeName = "n" })
	expect("used twice", map[string]string{"nets/team-a/n": "1 map[dev: prod:]"}, "MODIFIED n 1")
	update(t, f.clusters, "dev", func(p *example.Pod) { p.Annotations = map[string]string{"version": "2"} })
	expect("changed user", map[string]string{"nets/team-a/n": "1 map[dev:2 prod:]"}, "MODIFIED n 1")
	create(t, f.nets, using("team-a", "mine", "n"))
	claimed := map[string]string{"nets/team-a/mine": "1 map[dev:2 mine: prod:]"}
	expect("claimed", claimed, "ADDED mine 1", "DELETED n 1")
	if diff := cmp.Diff(claimed, places(t, startNets(t, l, f.facts).nets)); diff != "" {
		t.Errorf("after a restart: %s", diff)
	}
	remove(t, f.clusters, "prod")
	expect("claimed and used once", map[string]string{"nets/team-a/mine": "1 map[dev:2 mine:]"}, "MODIFIED mine 1")
	remove(t, f.nets, "mine")
	expect("not claimed", map[string]string{"nets/team-a/n": "1 map[dev:2]"}, "DELETED mine 1", "ADDED n 1")
	remove(t, f.clusters, "dev")
	expect("not used", map[string]string{"nets/team-a/n": "1 map[]"}, "MODIFIED n 1")
	expectNoEvent(t, events)
}

// Equal facts, bindings and records give equal views, in whichever order they came.
func TestViews_DoNotDependOnTheOrderOfChanges(t *testing.T) {
	t.Parallel()
	for range 20 {
		l := memory.New()
		facts := newFakeNets("a", "b", "c")
		f := startNets(t, l, facts)
		for range 120 {
			changeNets(t, f)
		}
		again := startNets(t, l, facts)
		if diff := cmp.Diff(places(t, again.nets, again.clusters), places(t, f.nets, f.clusters)); diff != "" {
			t.Fatalf("a server that starts now (-) shows something else: %s", diff)
		}
		again.ReprojectAll()
		if diff := cmp.Diff(places(t, f.nets), places(t, again.nets)); diff != "" {
			t.Fatalf("projected once more: %s", diff)
		}
	}
}

// changeNets makes a random change.
func changeNets(t *testing.T, f *netFixture) {
	t.Helper()
	letter := func() string { return string(rune('a' + rand.IntN(3))) }
	id := "n" + letter()
	s, namespace, name := []*Store{f.nets, f.clusters}[rand.IntN(2)], "team-"+letter(), []string{"x", "y", "na"}[rand.IntN(3)]
	key := s.prefix + namespace + "/" + name
	var err error
	switch rand.IntN(6) {
	case 0:
		project := letter()
		f.facts.change(func() {
			if _, bound := f.facts.namespaces[project]; bound {
				delete(f.facts.namespaces, project)
			} else {
				f.facts.namespaces[project] = "team-" + project
			}
		})
		f.ReprojectNamespace("team-" + project)
	case 1:
		f.facts.change(func() { delete(f.facts.nets, id) })
		f.MetalChanged([]metal.Ref{netRef(id)})
	case 2, 3:
		f.observe(id, net{project: letter(), shared: rand.IntN(2) == 0, phase: letter()})
	case 4:
		p := using(namespace, name, id)
		err = s.Create(t.Context(), key, p, nil, 0)
	case 5:
		err = s.Delete(t.Context(), key, &example.Pod{}, nil, apistorage.ValidateAllObjectFunc, nil, apistorage.DeleteOptions{})
	}
	if err != nil && !apistorage.IsExist(err) && !apistorage.IsNotFound(err) && !strings.Contains(err.Error(), "read-only") {
		t.Fatal(err)
	}
}
