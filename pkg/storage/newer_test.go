// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
	"metal-stack.io/infrastructure-apiserver/pkg/recordformat"
)

// newerValue is a record that only a newer server can read.
var newerValue = fmt.Appendf(nil, `{"format":%d,"parts":["elsewhere"]}`, recordformat.Newest+1)

// records returns what a ledger has.
func records(t *testing.T, l ledger.Ledger) []ledger.Record {
	t.Helper()
	list, err := l.List(t.Context())
	require.NoError(t, err)
	return list
}

// makeNewer replaces a record as a newer server would, or creates it.
func makeNewer(t *testing.T, l ledger.Ledger, key string) {
	t.Helper()
	var err error
	if r := recordOf(t, l, key); r != nil {
		_, err = l.Update(t.Context(), key, r.Version, newerValue)
	} else {
		_, err = l.Create(t.Context(), key, newerValue)
	}
	require.NoError(t, err)
}

// requireNewerRefused requires that err is the 503 of a server that must be upgraded.
func requireNewerRefused(t *testing.T, err error, call string) {
	t.Helper()
	require.True(t, apierrors.IsServiceUnavailable(err), "%s: %v", call, err)
	require.ErrorContains(t, err, "records have format 2", call)
	require.ErrorContains(t, err, "upgrade the server", call)
	seconds, ok := apierrors.SuggestsClientDelay(err)
	require.True(t, ok && seconds > 0, "%s has no Retry-After", call)
}

func TestStart_RefusesNewerRecords(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"pods/team-a/node-1", markKey, "_meta/bindings", "other/team-a/x"} {
		l := memory.New()
		makeNewer(t, l, key)
		before := records(t, l)
		b := newBackend(t, Options{Ledger: l})
		openPods(t, b, "pods", nil)
		for call, read := range map[string]func(context.Context) error{"preload": b.Preload, "start": b.Start} {
			err := read(t.Context())
			require.True(t, recordformat.IsNewer(err), "%s with a newer %s: %v", call, key, err)
		}
		assert.Equal(t, before, records(t, l))
	}
}

func TestMark_NamesItsWriter(t *testing.T) {
	t.Parallel()
	l := memory.New()
	startPods(t, Options{Ledger: l})
	value := string(recordOf(t, l, markKey).Value)
	require.True(t, strings.HasPrefix(value, `{"format":1,"writtenBy":"`), value)
}

func TestNewerRecord_StopsAllWritesAndKeepsWhatIsShown(t *testing.T) {
	t.Parallel()
	l := memory.New()
	s := startPods(t, Options{Ledger: l})
	one, two := create(t, s, pod("team-a", "node-1")), create(t, s, pod("team-a", "node-2"))
	create(t, s, pod("team-a", "node-3"))
	events := watchFrom(t, s, list(t, s, everything()).ResourceVersion)

	// The newer server changed one record, and deleted another, or keeps it elsewhere.
	makeNewer(t, l, "pods/team-a/node-1")
	require.NoError(t, l.Delete(t.Context(), "pods/team-a/node-2", recordOf(t, l, "pods/team-a/node-2").Version))
	before := records(t, l)
	label := func(p *example.Pod) { p.Labels = map[string]string{"a": "b"} }
	err := tryUpdatePod(s, "node-1", &example.Pod{}, label)
	require.True(t, apierrors.IsTimeout(err), "the write that meets it has an unknown outcome: %v", err)
	require.ErrorContains(t, err, "records have format 2")

	requireNewerRefused(t, tryUpdatePod(s, "node-1", &example.Pod{}, label), "update of the newer record")
	requireNewerRefused(t, tryUpdatePod(s, "node-3", &example.Pod{}, label), "update of another record")
	requireNewerRefused(t, tryRemove(s, "node-3", &example.Pod{}), "delete")
	requireNewerRefused(t, s.Create(t.Context(), s.testKey("node-4"), pod("team-a", "node-4"), nil, 0), "create")
	dryRun := WithDryRun(t.Context(), 0)
	requireNewerRefused(t, s.Get(dryRun, s.testKey("node-3"), apistorage.GetOptions{}, &example.Pod{}), "dry run")
	cur := s.view.get(s.testKey("node-3"))
	_, err = s.swap(t.Context(), s.testKey("node-3"), cur, nil)
	requireNewerRefused(t, err, "write that began before")
	_, err = s.backend.AdvanceRevision(t.Context())
	requireNewerRefused(t, err, "revision")
	require.True(t, recordformat.IsNewer(s.backend.Resync(t.Context())))
	require.NoError(t, s.backend.CompleteOrigins(t.Context()))
	s.backend.MetalChanged(nil)
	s.backend.HiddenNamespacesChanged()
	assert.Equal(t, before, records(t, l), "records")

	// Nothing looks deleted, or changed.
	for _, p := range []*example.Pod{one, two} {
		assert.Equal(t, p, get(t, s, p.Name))
	}
	assert.Len(t, list(t, s, everything()).Items, 3)
	select {
	case e := <-events.ResultChan():
		t.Errorf("event: %v", e)
	default:
	}
}

// A write of an uncertain outcome is not resolved any more: what a newer server made of
// it is not known.
func TestNewerRecord_LeavesUncertainWritesUncertain(t *testing.T) {
	t.Parallel()
	l := &faulty{Ledger: memory.New()}
	s := startPods(t, Options{Ledger: l})
	create(t, s, pod("team-a", "node-1"))
	l.inject(failOn("delete"), nil)
	require.True(t, apierrors.IsTimeout(tryRemove(s, "node-1", &example.Pod{})))
	makeNewer(t, l.Ledger, "pods/team-a/other")
	require.NoError(t, l.Ledger.Delete(t.Context(), "pods/team-a/node-1", recordOf(t, l.Ledger, "pods/team-a/node-1").Version))
	out := &example.Pod{}
	require.NoError(t, s.Get(t.Context(), s.testKey("node-1"), apistorage.GetOptions{}, out))
	assert.Equal(t, "node-1", out.Name, "it looks deleted")
	require.Error(t, s.backend.guard.Check())
	requireNewerRefused(t, tryRemove(s, "node-1", out), "delete")
	assert.True(t, s.backend.MayHaveRecords("team-a"))
}

// What the newer server created is not shown, and must not look deleted to who saw it there.
func TestNewerRecord_OfUnknownObjectIsNotMissing(t *testing.T) {
	t.Parallel()
	l := memory.New()
	s := startPods(t, Options{Ledger: l})
	create(t, s, pod("team-a", "node-1"))
	makeNewer(t, l, "pods/team-b/node-9")
	require.Error(t, s.backend.Resync(t.Context()))

	opts := apistorage.GetOptions{IgnoreNotFound: true}
	requireNewerRefused(t, s.Get(t.Context(), s.prefix+"team-b/node-9", opts, &example.Pod{}), "get")
	for _, prefix := range []string{s.prefix, s.prefix + "team-b/"} {
		err := s.GetList(t.Context(), prefix, everything(), &example.PodList{})
		requireNewerRefused(t, err, "list of "+prefix)
		assert.NotContains(t, err.Error(), "node-9", "whoever lists may not see it")
		w, err := s.Watch(t.Context(), prefix, everything())
		require.NoError(t, err)
		e := <-w.ResultChan()
		require.Equal(t, watch.Error, e.Type, "%v", e)
		requireNewerRefused(t, apierrors.FromObject(e.Object), "watch")
	}
	require.NoError(t, s.GetList(t.Context(), s.prefix+"team-a/", everything(), &example.PodList{}))
	require.NotNil(t, get(t, s, "node-1"))
}

func TestRecord_WithoutFormatGetsOneWhenItIsWritten(t *testing.T) {
	t.Parallel()
	l := memory.New()
	version, err := l.Create(t.Context(), "pods/team-a/node-1", []byte(`{"object":{"kind":"Pod","apiVersion":"example.apiserver.k8s.io/v1","metadata":{"name":"node-1","namespace":"team-a"},"spec":{},"status":{}}}`))
	require.NoError(t, err)
	s := startPods(t, Options{Ledger: l})
	require.NotNil(t, get(t, s, "node-1"))
	require.Equal(t, version, recordOf(t, l, "pods/team-a/node-1").Version, "the start wrote it")
	update(t, s, "node-1", func(*example.Pod) {})
	r := recordOf(t, l, "pods/team-a/node-1")
	require.True(t, strings.HasPrefix(string(r.Value), `{"format":1,"object":{`), string(r.Value))
	update(t, s, "node-1", func(*example.Pod) {})
	require.Equal(t, r.Version, recordOf(t, l, "pods/team-a/node-1").Version, "written again without a change")
}

func TestRecord_MalformedFormatIsDamage(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"pods/team-a/node-1", markKey} {
		for _, format := range []string{`0`, `-1`, `1.5`, `"1"`, `null`, `99999999999999999999`} {
			l := memory.New()
			_, err := l.Create(t.Context(), key, []byte(`{"format":`+format+`,"reserved":5,"object":{"kind":"Pod","apiVersion":"example.apiserver.k8s.io/v1"}}`))
			require.NoError(t, err)
			b := newBackend(t, Options{Ledger: l})
			openPods(t, b, "pods", nil)
			err = b.Start(t.Context())
			require.ErrorContains(t, err, "format: ")
			require.ErrorContains(t, err, key)
			require.False(t, recordformat.IsNewer(err))
		}
	}
}

// A running server keeps the last state of a record that was damaged, and goes on with all others.
func TestRecord_MalformedFormatConcernsItsObjectOnly(t *testing.T) {
	t.Parallel()
	l := memory.New()
	s := startPods(t, Options{Ledger: l})
	create(t, s, pod("team-a", "node-1"))
	create(t, s, pod("team-a", "node-2"))
	_, err := l.Update(t.Context(), "pods/team-a/node-1", recordOf(t, l, "pods/team-a/node-1").Version, []byte(`{"format":-2}`))
	require.NoError(t, err)
	label := func(p *example.Pod) { p.Labels = map[string]string{"a": "b"} }
	require.True(t, apierrors.IsInternalError(tryUpdatePod(s, "node-1", &example.Pod{}, label)))
	update(t, s, "node-2", label)
	require.NotNil(t, get(t, s, "node-1"))
}

// Of what was never observed the view has nothing, which must not look as if there were none.
func TestNewerRecord_LeavesNeverObservedUnavailable(t *testing.T) {
	t.Parallel()
	l := memory.New()
	f := startNets(t, l, newFakeNets("a"))
	create(t, f.nets, using("team-a", "mine", "n"))
	observed := map[string]bool{"team-a": true}
	r := &fakeRefresher{known: func(scope Scope) bool { return observed[scope.Namespace] }}
	f.SetRefresher(r)
	makeNewer(t, l, markKey)
	require.Error(t, f.nets.backend.Resync(t.Context()))
	for _, revision := range []string{"", "0"} {
		opts := everything()
		opts.ResourceVersion = revision
		require.NoError(t, f.nets.GetList(t.Context(), "/nets/team-a", opts, &example.PodList{}))
		for _, key := range []string{"/nets", "/nets/team-b"} {
			requireNewerRefused(t, f.nets.GetList(t.Context(), key, opts, &example.PodList{}), "list of "+key)
			_, err := f.nets.Watch(t.Context(), key, opts)
			requireNewerRefused(t, err, "watch of "+key)
		}
		get := apistorage.GetOptions{ResourceVersion: revision}
		require.NoError(t, f.nets.Get(t.Context(), f.nets.testKey("mine"), get, &example.Pod{}))
		requireNewerRefused(t, f.nets.Get(t.Context(), "/nets/team-b/other", get, &example.Pod{}), "get")
	}
	assert.Empty(t, r.takeScopes(), "what is observed now is not shown")
}
