// SPDX-License-Identifier: Apache-2.0

package refresh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
)

const project = "10000000-0000-4000-8000-00000000000a"

// fakeObserver records the scopes that it is to observe.
type fakeObserver struct {
	scopes  []metal.Scope
	watched []metal.Ref
	err     error
	// known has the kinds of which everything was observed.
	known map[metal.RefKind]bool
}

func (o *fakeObserver) HasSynced() bool { return o.known[metal.KindMachine] }
func (o *fakeObserver) NetworksObserved(p string) bool {
	return o.known[metal.KindNetwork] && p == project
}
func (o *fakeObserver) IPsObserved(p string) bool { return o.known[metal.KindIP] && p == project }
func (o *fakeObserver) AllNetworksObserved() bool { return o.known[metal.KindNetwork] }
func (o *fakeObserver) AllIPsObserved() bool      { return o.known[metal.KindIP] }

func (o *fakeObserver) Watching(kind metal.RefKind, project string) (stop func()) {
	o.watched = append(o.watched, metal.Ref{Kind: kind, ID: project})
	return func() { o.watched = nil }
}

// fakeCatalogue records what it is to read.
type fakeCatalogue struct {
	kinds    []metal.RefKind
	projects []string
	err      error
	loaded   map[metal.RefKind]bool
	watched  []metal.RefKind
}

func (c *fakeCatalogue) Watching(kind metal.RefKind) (stop func()) {
	c.watched = append(c.watched, kind)
	return func() { c.watched = nil }
}

func (c *fakeCatalogue) Refresh(_ context.Context, kinds ...metal.RefKind) error {
	c.kinds = append(c.kinds, kinds...)
	return c.err
}

func (c *fakeCatalogue) RefreshProject(_ context.Context, id string) error {
	c.projects = append(c.projects, id)
	return c.err
}

func (c *fakeCatalogue) Loaded(kind metal.RefKind) bool { return c.loaded[kind] }

func (c *fakeCatalogue) ProjectLoaded(id string) bool { return slices.Contains(c.projects, id) }

func (o *fakeObserver) Refresh(_ context.Context, scope metal.Scope) error {
	o.scopes = append(o.scopes, scope)
	return o.err
}

func newRefresher(t *testing.T, o *fakeObserver) storage.Refresher {
	t.Helper()
	bindings, err := tenancy.NewStatic([]string{"team-a=" + project})
	require.NoError(t, err)
	return New(o, &fakeCatalogue{}, bindings)
}

func TestRefresh_TranslatesScope(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		scope storage.Scope
		want  metal.Scope
	}{
		"all namespaces":    {storage.Scope{AllNamespaces: true}, metal.Scope{Fleet: true}},
		"bound namespace":   {storage.Scope{Namespace: "team-a"}, metal.Scope{Project: project}},
		"unbound namespace": {storage.Scope{Namespace: "team-b"}, metal.Scope{}},
		"objects": {
			storage.Scope{Refs: []metal.Ref{
				{Kind: metal.KindMachine, ID: "m1"}, {Kind: metal.KindNetwork, ID: "n1"}, {Kind: metal.KindIP, ID: "203.0.113.1"}, {Kind: metal.KindMachine, ID: "m2"},
			}},
			metal.Scope{Machines: []string{"m1", "m2"}, Networks: []string{"n1"}, IPs: []string{"203.0.113.1"}},
		},
		"networks of a namespace": {
			storage.Scope{Kind: metal.KindNetwork, Namespace: "team-a", Refs: []metal.Ref{{Kind: metal.KindNetwork, ID: "n1"}}},
			metal.Scope{ProjectNetworks: project, Networks: []string{"n1"}},
		},
		"a network in a namespace": {
			storage.Scope{Kind: metal.KindNetwork, Refs: []metal.Ref{{Kind: metal.KindNetworkIn, ID: project + "/n1"}}},
			metal.Scope{Networks: []string{"n1"}},
		},
		"networks of an unbound namespace": {storage.Scope{Kind: metal.KindNetwork, Namespace: "team-b"}, metal.Scope{}},
		"networks of all namespaces":       {storage.Scope{Kind: metal.KindNetwork, AllNamespaces: true}, metal.Scope{AllNetworks: true}},
		"addresses of a namespace":         {storage.Scope{Kind: metal.KindIP, Namespace: "team-a"}, metal.Scope{ProjectIPs: project}},
		"addresses of all namespaces":      {storage.Scope{Kind: metal.KindIP, AllNamespaces: true}, metal.Scope{AllIPs: true}},
		"namespace with objects": {
			storage.Scope{Namespace: "team-a", Refs: []metal.Ref{{Kind: metal.KindNetwork, ID: "n1"}}},
			metal.Scope{Project: project, Networks: []string{"n1"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &fakeObserver{}
			since, err := newRefresher(t, o).Refresh(t.Context(), c.scope)
			require.NoError(t, err)
			assert.Zero(t, since)
			assert.Equal(t, []metal.Scope{c.want}, o.scopes)
		})
	}
}

func TestRefresh_StaleScopeHasTimeAndCause(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	o := &fakeObserver{err: fmt.Errorf("wrapped: %w", &metal.StaleError{Since: since, Cause: metal.ErrBudgetExceeded})}
	got, err := newRefresher(t, o).Refresh(t.Context(), storage.Scope{AllNamespaces: true})
	assert.Equal(t, since, got)
	assert.Equal(t, metal.ErrBudgetExceeded, err, "the cause alone: the time is in the result")
}

func TestRefresh_OtherErrorIsNoSuccess(t *testing.T) {
	t.Parallel()
	failed := errors.New("failed")
	since, err := newRefresher(t, &fakeObserver{err: failed}).Refresh(t.Context(), storage.Scope{AllNamespaces: true})
	assert.Zero(t, since)
	assert.Equal(t, failed, err)
}

func TestRefresh_ReadsCatalogueForItsKinds(t *testing.T) {
	t.Parallel()
	bindings, err := tenancy.NewStatic([]string{"team-a=" + project})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		scope    storage.Scope
		kinds    []metal.RefKind
		projects []string
		observed []metal.Scope
	}{
		"sizes":                           {scope: storage.Scope{Kind: metal.KindSize, AllNamespaces: true}, kinds: []metal.RefKind{metal.KindSize}},
		"images":                          {scope: storage.Scope{Kind: metal.KindImage}, kinds: []metal.RefKind{metal.KindImage}},
		"partitions":                      {scope: storage.Scope{Kind: metal.KindPartition}, kinds: []metal.RefKind{metal.KindPartition}, observed: []metal.Scope{{Capacities: true}}},
		"projects":                        {scope: storage.Scope{Kind: metal.KindProject, AllNamespaces: true}, kinds: []metal.RefKind{metal.KindProject}},
		"project of a namespace":          {scope: storage.Scope{Kind: metal.KindProject, Namespace: "team-a"}, projects: []string{project}},
		"project by its id":               {scope: storage.Scope{Kind: metal.KindProject, Refs: []metal.Ref{{Kind: metal.KindProject, ID: project}}}, projects: []string{project}},
		"project of an unbound namespace": {scope: storage.Scope{Kind: metal.KindProject, Namespace: "team-b"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, catalogue := &fakeObserver{}, &fakeCatalogue{}
			_, err := New(o, catalogue, bindings).Refresh(t.Context(), c.scope)
			require.NoError(t, err)
			assert.Equal(t, c.kinds, catalogue.kinds)
			assert.Equal(t, c.projects, catalogue.projects)
			assert.Equal(t, c.observed, o.scopes)
		})
	}
}

func TestRefresh_StalePartitionsHaveOlderTime(t *testing.T) {
	t.Parallel()
	older := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	stale := func(since time.Time) error { return &metal.StaleError{Since: since, Cause: metal.ErrTimeout} }
	for name, c := range map[string]struct{ capacities, catalogue error }{
		"capacities":       {stale(older), nil},
		"catalogue":        {nil, stale(older)},
		"capacities older": {stale(older), stale(older.Add(time.Minute))},
		"catalogue older":  {stale(older.Add(time.Minute)), stale(older)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := New(&fakeObserver{err: c.capacities}, &fakeCatalogue{err: c.catalogue}, nil)
			since, err := r.Refresh(t.Context(), storage.Scope{Kind: metal.KindPartition})
			assert.Equal(t, older, since)
			assert.Equal(t, metal.ErrTimeout, err)
		})
	}
}

func TestRefresh_KnowsWhatWasObservedOnce(t *testing.T) {
	t.Parallel()
	bindings, err := tenancy.NewStatic([]string{"team-a=" + project})
	require.NoError(t, err)
	kinds := []metal.RefKind{metal.KindPartition, metal.KindSize, metal.KindImage, metal.KindProject, metal.KindNetwork, metal.KindIP}
	o, catalogue := &fakeObserver{known: map[metal.RefKind]bool{}}, &fakeCatalogue{loaded: map[metal.RefKind]bool{}}
	r := New(o, catalogue, bindings)
	scopes := func(kind metal.RefKind) []storage.Scope {
		return []storage.Scope{{Kind: kind, AllNamespaces: true}, {Kind: kind, Namespace: "team-a"}}
	}
	for _, kind := range kinds {
		for _, scope := range scopes(kind) {
			assert.False(t, r.Known(scope), "%v", scope)
		}
	}
	assert.True(t, r.Known(storage.Scope{Kind: metal.KindNetwork, Namespace: "team-b"}), "a namespace that is not bound has none")
	assert.True(t, r.Known(storage.Scope{Kind: metal.KindMachine, AllNamespaces: true}), "the initial sync is waited for elsewhere")

	catalogue.loaded[metal.KindPartition] = true
	assert.False(t, r.Known(storage.Scope{Kind: metal.KindPartition}), "capacities are not")
	_, err = r.Refresh(t.Context(), storage.Scope{Kind: metal.KindProject, Namespace: "team-a"})
	require.NoError(t, err)
	assert.True(t, r.Known(storage.Scope{Kind: metal.KindProject, Namespace: "team-a"}), "it was read by its id")
	assert.False(t, r.Known(storage.Scope{Kind: metal.KindProject, AllNamespaces: true}))
	for _, kind := range []metal.RefKind{metal.KindMachine, metal.KindNetwork, metal.KindIP} {
		o.known[kind] = true
	}
	for _, kind := range kinds {
		catalogue.loaded[kind] = true
		for _, scope := range scopes(kind) {
			assert.True(t, r.Known(scope), "%v", scope)
		}
	}
}

func TestRefresh_WatchesProjectOfNamespace(t *testing.T) {
	t.Parallel()
	bindings, err := tenancy.NewStatic([]string{"team-a=" + project})
	require.NoError(t, err)
	o, c := &fakeObserver{}, &fakeCatalogue{}
	r := New(o, c, bindings)
	for _, scope := range []storage.Scope{{Kind: metal.KindNetwork, Namespace: "team-b"}, {Kind: metal.KindNetwork, AllNamespaces: true}} {
		stop := r.Watching(scope)
		assert.Empty(t, o.watched, "%v", scope)
		stop()
	}
	stop := r.Watching(storage.Scope{Kind: metal.KindNetwork, Namespace: "team-a"})
	assert.Equal(t, []metal.Ref{{Kind: metal.KindNetwork, ID: project}}, o.watched)
	stop()
	assert.Empty(t, o.watched)
	stop = r.Watching(storage.Scope{Kind: metal.KindPartition, AllNamespaces: true})
	assert.Equal(t, []metal.RefKind{metal.KindPartition}, c.watched)
	assert.Empty(t, o.watched)
	stop()
	assert.Empty(t, c.watched)
}

// rebound are bindings that change.
type rebound map[string]string

func (b rebound) Project(namespace string) (string, bool) { p, bound := b[namespace]; return p, bound }
func (rebound) Namespace(string) (string, bool)           { return "", false }

func TestBindingsChanged_OpenWatchesFollowTheirNamespaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bindings, o := rebound{}, &fakeObserver{}
		r := New(o, &fakeCatalogue{}, bindings)
		change := func(edit func()) (watched []metal.Ref, observed []metal.Scope) {
			o.scopes = nil
			edit()
			r.BindingsChanged(t.Context(), []string{"team-a", "team-b"})
			synctest.Wait()
			return o.watched, o.scopes
		}
		stop := r.Watching(storage.Scope{Kind: metal.KindNetwork, Namespace: "team-a"})
		again := r.Watching(storage.Scope{Kind: metal.KindNetwork, Namespace: "team-a"})
		assert.Empty(t, o.watched, "it is not bound")
		watched, observed := change(func() { bindings["team-a"], bindings["team-b"] = project, "other" })
		assert.Equal(t, []metal.Ref{{Kind: metal.KindNetwork, ID: project}}, watched)
		assert.Equal(t, []metal.Scope{{ProjectNetworks: project}}, observed, "nothing of a namespace that is not watched")
		watched, observed = change(func() {})
		assert.Len(t, watched, 1)
		assert.Empty(t, observed)
		watched, _ = change(func() { bindings["team-a"] = "other" })
		assert.Equal(t, []metal.Ref{{Kind: metal.KindNetwork, ID: "other"}}, watched)
		watched, observed = change(func() { delete(bindings, "team-a") })
		assert.Empty(t, watched)
		assert.Empty(t, observed)
		change(func() { bindings["team-a"] = project })
		stop()
		assert.Len(t, o.watched, 1)
		again()
		assert.Empty(t, o.watched)
		assert.Empty(t, r.watches)
	})
}
