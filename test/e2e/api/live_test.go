package api

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// A running watch is told what happens to metal that nobody touched through us.
func TestWatch_ShowsChangesOfMetal(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(w *world, id string) error
		seen func(m *machineT) bool
	}{
		"it crashes": {
			func(w *world, id string) error { return w.sim.Crash(id) },
			func(m *machineT) bool { return m.Status.Metal.LastEvent.Event == "Crashed" }},
		"it is locked": {
			func(w *world, id string) error { return w.sim.Lock(id, "do not touch") },
			func(m *machineT) bool { return m.Status.Metal.Locked }},
		"a tag changes": {
			func(w *world, id string) error { return w.sim.SetTags(id, append(w.tags(id), "color=red")) },
			func(m *machineT) bool { return slices.Contains(m.Status.Metal.Tags, "color=red") }},
		"it is freed": {
			func(w *world, id string) error { return w.sim.ForceFree(id) },
			func(m *machineT) bool { return m.Status.Metal.Phase == "Gone" && !m.Status.Ready }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, quickSweep)
			id := w.phonedHome(t, "node-1")
			events, err := w.machines(teamA).Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=node-1"})
			require.NoError(t, err)
			defer events.Stop()
			require.NoError(t, c.do(w, id))
			began := time.Now()
			for {
				e := next(t, events)
				require.NotEqual(t, watch.Deleted, e.Type, "an object never disappears because of its metal")
				if c.seen(e.Object.(*machineT)) {
					break
				}
			}
			t.Logf("seen after %s", time.Since(began).Round(time.Millisecond))
		})
	}
}

func TestGet_ShowsCurrentMetal(t *testing.T) {
	t.Parallel()
	w := start(t, noSweep)
	ctx := t.Context()
	id := w.phonedHome(t, "node-1")
	ready := func(want bool, phase string) {
		t.Helper()
		m, err := w.machines(teamA).Get(ctx, "node-1", metav1.GetOptions{})
		require.NoError(t, err)
		require.Equal(t, want, m.Status.Ready)
		require.Equal(t, phase, m.Status.Metal.Phase)
		list, err := w.machines(teamA).List(ctx, metav1.ListOptions{})
		require.NoError(t, err)
		require.Equal(t, m.Status.Metal, list.Items[0].Status.Metal)
	}
	ready(true, "Phoned Home")
	require.NoError(t, w.sim.SendEvent(id, "Crashed", "kernel panic"))
	ready(false, "Crashed")
	require.NoError(t, w.sim.SendEvent(id, "Phoned Home", "back again"))
	ready(true, "Phoned Home")
	require.NoError(t, w.sim.ForceFree(id))
	ready(false, "Gone")
}

func TestGet_FromCacheCallsNoMetalAPI(t *testing.T) {
	t.Parallel()
	w := start(t, noSweep)
	w.phonedHome(t, "node-1")
	w.sim.ResetCalls()
	for range 10 {
		_, err := w.machines(teamA).List(t.Context(), metav1.ListOptions{ResourceVersion: "0"})
		require.NoError(t, err)
	}
	require.Empty(t, w.sim.Calls())
}

func TestProvisioned_NeverGoesBack(t *testing.T) {
	t.Parallel()
	w := start(t, quickSweep)
	ctx := t.Context()
	id := w.phonedHome(t, "node-1")
	provisioned := func() bool {
		m, err := w.machines(teamA).Get(ctx, "node-1", metav1.GetOptions{})
		require.NoError(t, err)
		return m.Status.Initialization.Provisioned != nil && *m.Status.Initialization.Provisioned
	}
	require.Eventually(t, provisioned, time.Minute, 10*time.Millisecond)
	require.NoError(t, w.sim.ForceFree(id))
	require.True(t, provisioned())
	w.restart(t)
	require.True(t, provisioned())
}
