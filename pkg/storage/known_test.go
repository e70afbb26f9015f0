// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/utils/ptr"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// Until networks were observed once, a read of them has them observed, whatever state it requests.
func TestReads_AreUnavailableWhileNothingWasObserved(t *testing.T) {
	t.Parallel()
	f := startNets(t, nil, newFakeNets("a"))
	create(t, f.nets, using("team-a", "mine", "n"))
	now := list(t, f.nets, everything()).ResourceVersion
	asked := Scope{}
	r := &fakeRefresher{cause: errors.New("the metal-api did not answer in 1s"), known: func(scope Scope) bool {
		asked = scope
		return false
	}}
	f.SetRefresher(r)
	get := func(name, revision string) func() error {
		return func() error {
			return f.nets.Get(t.Context(), f.nets.testKey(name), apistorage.GetOptions{ResourceVersion: revision}, &example.Pod{})
		}
	}
	list := func(key, revision string, edit func(*apistorage.ListOptions)) func() error {
		return func() error {
			opts := everything()
			opts.ResourceVersion = revision
			edit(&opts)
			return f.nets.GetList(t.Context(), key, opts, &example.PodList{})
		}
	}
	watch := func(key, revision string, edit func(*apistorage.ListOptions)) func() error {
		return func() error {
			opts := everything()
			opts.ResourceVersion = revision
			edit(&opts)
			w, err := f.nets.Watch(t.Context(), key, opts)
			if err == nil {
				w.Stop()
			}
			return err
		}
	}
	all := func(*apistorage.ListOptions) {}
	exact := func(opts *apistorage.ListOptions) { opts.ResourceVersionMatch = metav1.ResourceVersionMatchExact }
	initial := func(opts *apistorage.ListOptions) { opts.SendInitialEvents = ptr.To(true) }
	managed := func(opts *apistorage.ListOptions) {
		opts.Predicate = apistorage.SelectionPredicate{Label: labels.Everything(), Field: fields.OneTermEqualSelector("status.managed", "true"), GetAttrs: func(runtime.Object) (labels.Set, fields.Set, error) {
			return nil, fields.Set{"status.managed": "true"}, nil
		}}
	}
	team, fleet := Scope{Kind: metal.KindNetwork, Namespace: "team-a"}, Scope{Kind: metal.KindNetwork, AllNamespaces: true}
	for name, tc := range map[string]struct {
		read func() error
		want *Scope // nil: it is answered
	}{
		`list, ""`:                      {list("/nets/team-a", "", all), &team},
		`list, "0"`:                     {list("/nets/team-a", "0", all), &team},
		`list, not older than N`:        {list("/nets", now, all), &fleet},
		`list, exactly N`:               {list("/nets/team-a", now, exact), &team},
		`list of records, ""`:           {list("/nets", "", managed), nil},
		`list of records, "0"`:          {list("/nets", "0", managed), nil},
		`watch, ""`:                     {watch("/nets/team-a", "", all), &team},
		`watch, "0"`:                    {watch("/nets", "0", all), &fleet},
		`watch, N`:                      {watch("/nets", now, all), nil},
		`watch, N, initial events`:      {watch("/nets", now, initial), &fleet},
		`watch of records, ""`:          {watch("/nets", "", managed), nil},
		`get of a record, ""`:           {get("mine", ""), nil},
		`get of a record, "0"`:          {get("mine", "0"), nil},
		`get of what is not there, ""`:  {get("other", ""), &team},
		`get of what is not there, "0"`: {get("other", "0"), &team},
	} {
		asked = Scope{}
		err := tc.read()
		if tc.want == nil {
			if err != nil {
				t.Errorf("%s answered %v", name, err)
			}
			continue
		}
		if seconds, retry := apierrors.SuggestsClientDelay(err); !apierrors.IsServiceUnavailable(err) || !retry || seconds < 1 {
			t.Errorf("%s answered %v", name, err)
		}
		if diff := cmp.Diff(*tc.want, asked); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	// A read that has it observed is answered, and warns of nothing.
	observed := false
	r.cause, r.known, r.during = nil, func(Scope) bool { return observed }, func() { observed = true }
	for _, revision := range []string{"0", ""} {
		observed = false
		if err := list("/nets/team-a", revision, all)(); err != nil {
			t.Errorf("%q: %v", revision, err)
		}
	}
	r.takeScopes()
	if err := list("/nets/team-a", "0", all)(); err != nil || len(r.takeScopes()) != 0 {
		t.Errorf("known, and refreshed once more: %v", err)
	}
}

// interested is a refresher that counts the watches of each scope.
type interested struct {
	fakeRefresher
	open map[string]int
}

func (i *interested) Watching(scope Scope) func() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.open[scope.Namespace]++
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.open[scope.Namespace]--
	}
}

func TestWatches_KeepInterestWhileTheyAreOpen(t *testing.T) {
	t.Parallel()
	f := startNets(t, nil, newFakeNets("a"))
	r := &interested{open: map[string]int{}}
	f.SetRefresher(r)
	open := func() map[string]int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return map[string]int{"": r.open[""], "team-a": r.open["team-a"]}
	}
	first, err := f.nets.Watch(t.Context(), "/nets/team-a", everything())
	if err != nil {
		t.Fatal(err)
	}
	second, err := f.nets.Watch(t.Context(), "/nets", everything())
	if err != nil {
		t.Fatal(err)
	}
	r.takeScopes()
	records, err := f.nets.Watch(WithRecordsOnly(t.Context()), "/nets", everything())
	if err != nil || len(r.takeScopes()) != 0 {
		t.Errorf("a watch of records: %v", err)
	}
	records.Stop()
	if diff := cmp.Diff(map[string]int{"": 1, "team-a": 1}, open()); diff != "" {
		t.Error(diff)
	}
	for _, w := range []interface{ Stop() }{first, second} {
		w.Stop()
	}
	for range first.ResultChan() {
	}
	for range second.ResultChan() {
	}
	if diff := cmp.Diff(map[string]int{"": 0, "team-a": 0}, open()); diff != "" {
		t.Error(diff)
	}
}

func TestRecordsOnly_LeavesOutWhatIsDiscovered(t *testing.T) {
	t.Parallel()
	f := startNets(t, nil, newFakeNets("a"))
	create(t, f.nets, using("team-a", "mine", "n0"))
	for _, id := range []string{"n1", "n2"} {
		f.observe(id, net{project: "a", phase: "1"})
	}
	ctx := WithRecordsOnly(t.Context())
	w, err := f.nets.Watch(ctx, "/nets", everything())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if got := names(listAs(ctx, t, f.nets, everything())); got != "mine" {
		t.Errorf("list: %s", got)
	}
	if page := listAs(ctx, t, f.nets, paged(1, "")); names(page) != "mine" || page.Continue != "" || page.RemainingItemCount != nil {
		t.Errorf("a page: %s, %q, %v", names(page), page.Continue, page.RemainingItemCount)
	}
	expectEvents(t, w, "ADDED mine")
	f.observe("n1", net{project: "a", phase: "2"})
	f.observe("n3", net{project: "a", phase: "1"})
	// The record takes the place of what was discovered.
	create(t, f.nets, using("team-a", "other", "n1"))
	expectEvents(t, w, "ADDED other 2")
}
