// SPDX-License-Identifier: Apache-2.0

package api

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

func TestMetalAPIOutage_CostsOnlyFreshness(t *testing.T) {
	t.Parallel()
	env := start(t, quickSweep)
	ctx := t.Context()
	id := env.phonedHome(t, "node-1")
	discovered := env.somebodyElses(t, projectA)
	env.seen(t, teamA, discovered)
	_, err := env.machines(teamA).Create(ctx, machine("claim"), metav1.CreateOptions{})
	require.NoError(t, err)
	events, err := env.machines(teamA).Watch(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	defer events.Stop()

	comeBack := env.metalAPIAway()
	env.warnings.reset()
	list, err := env.machines(teamA).List(ctx, metav1.ListOptions{})
	require.NoError(t, err, "reads go on")
	require.ElementsMatch(t, []string{"node-1", "claim", discovered}, namesOf(list.Items), "nothing disappears")
	require.Regexp(t, `stale: last observed at \d{4}-\d\d-\d\dT`, env.warnings.all(), "with a warning that says since when")

	_, err = env.tryAllocate(t, "claim")
	require.True(t, apierrors.IsServiceUnavailable(err), "writes that need metal fail: %v", err)
	require.ErrorContains(t, err, "metal-api")
	_, err = env.machines(teamA).Create(ctx, machine("another"), metav1.CreateOptions{})
	require.NoError(t, err, "writes that need no metal go on")

	comeBack()
	require.NoError(t, env.sim.SendEvent(id, "Crashed", "while nobody looked"))
	require.Eventually(t, func() bool {
		env.warnings.reset()
		m, err := env.machines(teamA).Get(ctx, "node-1", metav1.GetOptions{})
		return err == nil && m.Status.Metal.Phase == "Crashed" && env.warnings.all() == ""
	}, time.Minute, 20*time.Millisecond, "it recovers by itself")
	require.Eventually(t, func() bool {
		_, err := env.tryAllocate(t, "claim")
		return err == nil
	}, time.Minute, 100*time.Millisecond, "after the pause that a refusal costs")
	for drained := false; !drained; {
		select {
		case e := <-events.ResultChan():
			require.NotEqual(t, watch.Deleted, e.Type, "nothing ever disappeared")
		default:
			drained = true
		}
	}
}

func TestTruncatedList_MakesNothingDisappear(t *testing.T) {
	t.Parallel()
	env := start(t, quickSweep)
	ctx := t.Context()
	env.phonedHome(t, "node-1")
	discovered := env.somebodyElses(t, projectA)
	env.seen(t, teamA, discovered)
	for _, f := range []fault{truncatedList, truncatedBody} {
		events, err := env.machines(teamA).Watch(ctx, metav1.ListOptions{ResourceVersion: env.revision(t, teamA)})
		require.NoError(t, err)
		remove := env.inject(f)
		env.sweeps(t, 2)
		list, err := env.machines(teamA).List(ctx, metav1.ListOptions{})
		require.NoError(t, err)
		require.ElementsMatch(t, []string{"node-1", discovered}, namesOf(list.Items))
		remove()
		select {
		case e := <-events.ResultChan():
			require.NotEqual(t, watch.Deleted, e.Type)
			require.NotEqual(t, "Gone", e.Object.(*machineT).Status.Metal.Phase)
		default:
		}
		events.Stop()
	}
}
