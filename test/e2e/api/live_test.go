// SPDX-License-Identifier: Apache-2.0

package api

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// A running watch gets the changes of metal that other clients made in the metal-api.
func TestWatch_ShowsChangesOfMetal(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(env *environment, id string) error
		seen func(m *machineT) bool
	}{
		"it crashes": {
			func(env *environment, id string) error { return env.sim.Crash(id) },
			func(m *machineT) bool { return m.Status.Metal.LastEvent.Event == "Crashed" }},
		"it is locked": {
			func(env *environment, id string) error { return env.sim.Lock(id, "do not touch") },
			func(m *machineT) bool { return m.Status.Metal.Locked }},
		"a tag changes": {
			func(env *environment, id string) error { return env.sim.SetTags(id, append(env.tags(id), "color=red")) },
			func(m *machineT) bool { return slices.Contains(m.Status.Metal.Tags, "color=red") }},
		"it is freed": {
			func(env *environment, id string) error { return env.sim.ForceFree(id) },
			func(m *machineT) bool { return m.Status.Metal.Phase == "Gone" && !m.Status.Ready }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := start(t, quickSweep)
			id := env.phonedHome(t, "node-1")
			events, err := env.machines(teamA).Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=node-1"})
			require.NoError(t, err)
			defer events.Stop()
			require.NoError(t, c.do(env, id))
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
	env := start(t, noSweep)
	ctx := t.Context()
	id := env.phonedHome(t, "node-1")
	ready := func(want bool, phase string) {
		t.Helper()
		m, err := env.machines(teamA).Get(ctx, "node-1", metav1.GetOptions{})
		require.NoError(t, err)
		require.Equal(t, want, m.Status.Ready)
		require.Equal(t, phase, m.Status.Metal.Phase)
		list, err := env.machines(teamA).List(ctx, metav1.ListOptions{})
		require.NoError(t, err)
		require.Equal(t, m.Status.Metal, list.Items[0].Status.Metal)
	}
	ready(true, "Phoned Home")
	require.NoError(t, env.sim.SendEvent(id, "Crashed", "kernel panic"))
	ready(false, "Crashed")
	require.NoError(t, env.sim.SendEvent(id, "Phoned Home", "back again"))
	ready(true, "Phoned Home")
	require.NoError(t, env.sim.ForceFree(id))
	ready(false, "Gone")
}

func TestGet_FromCacheCallsNoMetalAPI(t *testing.T) {
	t.Parallel()
	env := start(t, noSweep)
	env.phonedHome(t, "node-1")
	// An observation of the machine that was in transition may be under way.
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		env.sim.ResetCalls()
		for range 10 {
			_, err := env.machines(teamA).List(t.Context(), metav1.ListOptions{ResourceVersion: "0"})
			require.NoError(c, err)
		}
		require.Empty(c, env.sim.Calls())
	}, time.Minute, 10*time.Millisecond)
}

func TestProvisioned_NeverGoesBack(t *testing.T) {
	t.Parallel()
	env := start(t, quickSweep)
	ctx := t.Context()
	id := env.phonedHome(t, "node-1")
	provisioned := func() bool {
		m, err := env.machines(teamA).Get(ctx, "node-1", metav1.GetOptions{})
		require.NoError(t, err)
		return m.Status.Initialization.Provisioned != nil && *m.Status.Initialization.Provisioned
	}
	require.Eventually(t, provisioned, time.Minute, 10*time.Millisecond)
	require.NoError(t, env.sim.ForceFree(id))
	require.True(t, provisioned())
	env.restart(t)
	require.True(t, provisioned())
}
