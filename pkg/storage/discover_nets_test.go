// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"maps"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/warning"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// Whose network it is decides what the refusal of a write advises.
func TestDiscoveredNetwork_IsReadOnly(t *testing.T) {
	t.Parallel()
	f := startNets(t, nil, newFakeNets("a", "b"))
	f.observe("n", net{project: "a", shared: true, phase: "1"})
	for key, want := range map[string]string{
		"/nets/team-a/n": "to manage it, create a Pod of another name with spec.networkID: n; deleting the object releases nothing",
		"/nets/team-b/n": "this is not the project's own",
	} {
		for _, ctx := range []bool{false, true} {
			request := t.Context()
			if ctx {
				request = WithDryRun(request, 0)
			}
			err := f.nets.Get(request, key, apistorage.GetOptions{}, &example.Pod{})
			if !ctx {
				err = f.nets.Delete(request, key, &example.Pod{}, nil, apistorage.ValidateAllObjectFunc, nil, apistorage.DeleteOptions{})
			}
			if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s, dry run %v: %v", key, ctx, err)
			}
		}
	}
}

// Whether a network was observed yet does not decide whether a claim of its id's name can be
// created.
func TestCreate_TakesTheNameOfADiscoveredNetwork(t *testing.T) {
	t.Parallel()
	l := memory.New()
	f := startNets(t, l, newFakeNets("a"))
	f.observe("n", net{project: "a", phase: "1"})
	events := watchFrom(t, f.nets, list(t, f.nets, everything()).ResourceVersion)
	refresher := &fakeRefresher{known: func(Scope) bool { return false }}
	f.SetRefresher(refresher)
	dryRun := WithRecordsOnly(t.Context())
	if err := f.nets.Get(dryRun, "/nets/team-a/n", apistorage.GetOptions{}, &example.Pod{}); !apistorage.IsNotFound(err) {
		t.Errorf("the read of a dry run of the create: %v", err)
	}
	var warned warnings
	ctx := warning.WithWarningRecorder(context.Background(), &warned)
	if err := f.nets.Create(ctx, "/nets/team-a/n", pod("team-a", "n"), &example.Pod{}, 0); err != nil {
		t.Fatal(err)
	}
	if len(warned.said) != 1 || !strings.Contains(warned.said[0], `nets "n": the discovered object of this name is not shown`) {
		t.Errorf("warned of %q", warned.said)
	}
	if scopes := refresher.takeScopes(); len(scopes) > 0 {
		t.Errorf("observed: %v", scopes)
	}
	f.SetRefresher(&fakeRefresher{})
	expectEvents(t, events, "DELETED n 1", "ADDED n Pending")
	if err := f.nets.Create(t.Context(), "/nets/team-a/n", pod("team-a", "n"), &example.Pod{}, 0); !apistorage.IsExist(err) {
		t.Errorf("another create: %v", err)
	}
	f.observe("n", net{project: "a", phase: "2"})
	want := places(t, f.nets)
	if len(want) != 1 || want["nets/team-a/n"] != "Pending map[]" {
		t.Errorf("shown: %v", want)
	}
	if got := places(t, startNets(t, l, f.facts).nets); !maps.Equal(want, got) {
		t.Errorf("after a restart: %v", got)
	}
	remove(t, f.nets, "n")
	expectEvents(t, events, "DELETED n Pending", "ADDED n 2")
}

// What shows the same in a namespace is not projected there again.
func TestExpander_ProjectsOnlyWhatDiffers(t *testing.T) {
	t.Parallel()
	f := startNets(t, nil, newFakeNets("a", "b", "c"))
	f.observe("n", net{project: "a", shared: true, phase: "1"})
	asked := func(change func()) int {
		f.facts.change(func() { f.facts.asked = 0 })
		change()
		return f.facts.asked
	}
	if n := asked(func() { f.MetalChanged([]metal.Ref{netRef("n")}) }); n != 1 {
		t.Errorf("asked %d times, without a change", n)
	}
	if n := asked(func() { f.observe("n", net{project: "a", shared: true, phase: "2"}) }); n != 3 {
		t.Errorf("asked %d times, after a change", n)
	}
	if n := asked(func() {
		f.facts.change(func() { f.facts.namespaces["d"] = "team-d" })
		f.ReprojectNamespace("team-d")
	}); n != 2 {
		t.Errorf("asked %d times, after a namespace was bound", n)
	}
	f.facts.change(func() { f.facts.namespaces["d"] = "team-e" })
	f.ReprojectNamespace("team-d")
	f.ReprojectNamespace("team-e")
	if shown := places(t, f.nets); shown["nets/team-d/n"] != "" || shown["nets/team-e/n"] == "" {
		t.Errorf("after a project was bound to another namespace: %v", shown)
	}
}
