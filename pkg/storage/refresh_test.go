// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/utils/ptr"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

func TestRefresh_IsDoneForConsistentReadsOnly(t *testing.T) {
	w := newFixture(t, Options{})
	create(t, w.pods, managed("node-1", "m1", "a1"))
	refs := []metal.Ref{machineRef("m1"), {Kind: "allocation", ID: "a1"}}
	now := list(t, w.pods, everything()).ResourceVersion
	paged := everything()
	paged.Predicate.Limit = 1
	create(t, w.pods, managed("node-2", "", ""))
	token := list(t, w.pods, paged).Continue
	f := &fakeRefresher{}
	w.SetRefresher(f)

	get := func(name, revision string) func() {
		return func() {
			_ = w.pods.Get(t.Context(), w.pods.testKey(name), apistorage.GetOptions{ResourceVersion: revision, IgnoreNotFound: true}, &example.Pod{})
		}
	}
	list := func(key string, opts apistorage.ListOptions) func() {
		return func() {
			if err := w.pods.GetList(t.Context(), key, opts, &example.PodList{}); err != nil {
				t.Error(err)
			}
		}
	}
	watch := func(key string, opts apistorage.ListOptions) func() {
		return func() {
			watch, err := w.pods.Watch(t.Context(), key, opts)
			if err != nil {
				t.Error(err)
			}
			watch.Stop()
		}
	}
	at := func(revision string, edit func(*apistorage.ListOptions)) apistorage.ListOptions {
		opts := everything()
		opts.ResourceVersion = revision
		if edit != nil {
			edit(&opts)
		}
		return opts
	}
	initial := func(opts *apistorage.ListOptions) { opts.SendInitialEvents = ptr.To(true) }
	fleet := []Scope{{AllNamespaces: true}}

	for name, tc := range map[string]struct {
		read func()
		want []Scope
	}{
		`get, ""`:                    {get("node-1", ""), []Scope{{Refs: refs}}},
		`get of a claim, ""`:         {get("node-2", ""), []Scope{{}}},
		`get of an unknown name, ""`: {get("m7", ""), []Scope{{Namespace: "team-a"}}},
		`get, "0"`:                   {get("node-1", "0"), nil},
		`get, N`:                     {get("node-1", now), nil},
		`list of everything, ""`:     {list("/pods", at("", nil)), fleet},
		`list of a namespace, ""`:    {list("/pods/team-a", at("", nil)), []Scope{{Namespace: "team-a", Refs: refs}}},
		`list of one name, ""`:       {list("/pods/team-a/node-1", apistorage.ListOptions{Predicate: apistorage.Everything}), []Scope{{Refs: refs}}},
		`list, "0"`:                  {list("/pods", at("0", nil)), nil},
		`list, not older than N`:     {list("/pods", at(now, func(o *apistorage.ListOptions) { o.ResourceVersionMatch = "NotOlderThan" })), nil},
		`list, exactly N`:            {list("/pods", at(now, func(o *apistorage.ListOptions) { o.ResourceVersionMatch = "Exact" })), nil},
		`list, the next page`:        {list("/pods", at("", func(o *apistorage.ListOptions) { o.Predicate.Continue = token })), nil},
		`watch, ""`:                  {watch("/pods", at("", nil)), fleet},
		`watch, "0"`:                 {watch("/pods", at("0", nil)), nil},
		`watch, N`:                   {watch("/pods", at(now, nil)), nil},
		`watch, "", initial events`:  {watch("/pods", at("", initial)), fleet},
		`watch, "0", initial events`: {watch("/pods", at("0", initial)), nil},
		`guaranteed update`:          {func() { update(t, w.pods, "node-1", func(p *example.Pod) { p.Labels = map[string]string{"a": "b"} }) }, nil},
		`resource without metal, list`: {func() {
			_ = w.plain.GetList(t.Context(), "/plain", at("", nil), &example.PodList{})
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			tc.read()
			if diff := cmp.Diff(tc.want, f.takeScopes()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// recordsProjector shows no metal but what records refer to.
type recordsProjector struct{ fakeProjector }

func (recordsProjector) RecordsOnly() {}

func (recordsProjector) Discovered(metal.Ref) (runtime.Object, []metal.Ref) { return nil, nil }

func TestRefresh_OfRecordsOnlyIsOfTheirMetal(t *testing.T) {
	metals := newFakeMetal()
	w := &fixture{Backend: newBackend(t, Options{})}
	w.pods = openPods(t, w.Backend, "pods", recordsProjector{fakeProjector{metals, "pods"}})
	start(t, w.Backend)
	create(t, w.pods, managed("node-1", "m1", "a1"))
	create(t, w.pods, managed("node-2", "m2", "a2"))
	f := &fakeRefresher{}
	w.SetRefresher(f)
	first := []metal.Ref{{Kind: metal.KindMachine, ID: "m1"}, {Kind: "allocation", ID: "a1"}}
	both := append(first[:2:2], metal.Ref{Kind: metal.KindMachine, ID: "m2"}, metal.Ref{Kind: "allocation", ID: "a2"})
	for key, want := range map[string][]metal.Ref{"/pods": both, "/pods/team-a": both, "/pods/team-a/node-1": first, "/pods/team-b": nil} {
		opts := everything()
		opts.Recursive = key != "/pods/team-a/node-1"
		if err := w.pods.GetList(t.Context(), key, opts, &example.PodList{}); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]Scope{{Refs: want}}, f.takeScopes()); diff != "" {
			t.Errorf("%s: %s", key, diff)
		}
	}
	_ = w.pods.Get(t.Context(), w.pods.testKey("unknown"), apistorage.GetOptions{}, &example.Pod{})
	if diff := cmp.Diff([]Scope{{}}, f.takeScopes()); diff != "" {
		t.Error(diff)
	}
}

func TestRefresh_IsSeenByItsRead(t *testing.T) {
	w := newFixture(t, Options{})
	w.SetRefresher(&fakeRefresher{during: func() { w.observe("m1", installing) }})
	out := &example.Pod{}
	if err := w.pods.Get(t.Context(), w.pods.testKey("m1"), apistorage.GetOptions{}, out); err != nil {
		t.Fatal(err)
	}
	if out.Status.Phase != "Installing" {
		t.Errorf("seen: %q", out.Status.Phase)
	}
}

// warnings notes what a client would be warned of.
type warnings struct{ said []string }

func (w *warnings) AddWarning(_, text string) { w.said = append(w.said, text) }

func TestRefresh_WarnsOnceOfStaleReads(t *testing.T) {
	w := newFixture(t, Options{})
	create(t, w.pods, managed("node-1", "m1", "a1"))
	since := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	f := &fakeRefresher{since: since, cause: errors.New("the metal-api did not answer in 1s")}
	w.SetRefresher(f)
	read := func(ctx context.Context) {
		l := &example.PodList{}
		if err := w.pods.GetList(ctx, "/pods", everything(), l); err != nil || len(l.Items) != 1 {
			t.Errorf("the list has %d objects: %v", len(l.Items), err)
		}
	}
	said := &warnings{}
	read(warning.WithWarningRecorder(t.Context(), said))
	want := []string{"pods: stale: last observed at 2026-05-04T03:02:01Z: the metal-api did not answer in 1s"}
	if !slices.Equal(said.said, want) {
		t.Errorf("warned: %q", said.said)
	}
	f.since = time.Time{}
	said = &warnings{}
	read(warning.WithWarningRecorder(t.Context(), said))
	want = []string{"pods: stale: not observed since the server started: the metal-api did not answer in 1s"}
	if !slices.Equal(said.said, want) {
		t.Errorf("warned: %q", said.said)
	}
	f.cause = nil
	said = &warnings{}
	read(warning.WithWarningRecorder(t.Context(), said))
	if len(said.said) != 0 {
		t.Errorf("warned of a confirmed state: %q", said.said)
	}
}
