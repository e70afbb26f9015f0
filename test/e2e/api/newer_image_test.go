// SPDX-License-Identifier: Apache-2.0

package api

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// A machine whose alias has come to stand for a newer image is shown with that, without
// another look at the machine, and before and after a restart.
func TestImageUpToDate_FollowsTheImages(t *testing.T) {
	t.Parallel()
	env := start(t, noSweep)
	ctx := t.Context()
	m := env.allocate(t, "node-1")
	newer := func() *metav1.Condition {
		m, err := env.machines(teamA).Get(ctx, "node-1", metav1.GetOptions{ResourceVersion: "0"})
		require.NoError(t, err)
		return meta.FindStatusCondition(m.Status.Conditions, infrastructure.ConditionImageUpToDate)
	}
	require.Nil(t, newer())
	watch, err := env.machines(teamA).Watch(ctx, metav1.ListOptions{ResourceVersion: m.ResourceVersion})
	require.NoError(t, err)
	defer watch.Stop()

	const id = image + ".20270101"
	env.sim.AddImage(simulator.Image{ID: id, Features: []string{"machine"}})
	// An unknown image has the images listed at once, and not when they are due.
	require.Eventually(t, func() bool {
		unknown := machine("other")
		unknown.Spec.Image = "ubuntu-99.04"
		_, err := env.machines(teamA).Create(ctx, unknown, metav1.CreateOptions{})
		require.Error(t, err)
		return newer() != nil
	}, time.Minute, 100*time.Millisecond)
	c := newer()
	require.Equal(t, metav1.ConditionFalse, c.Status)
	require.Equal(t, infrastructure.ReasonNewerImageAvailable, c.Reason)
	require.Contains(t, c.Message, `stands for "`+id+`" now`)
	require.Eventually(t, func() bool {
		event := <-watch.ResultChan()
		m, ok := event.Object.(*machineT)
		return ok && meta.FindStatusCondition(m.Status.Conditions, infrastructure.ConditionImageUpToDate) != nil
	}, time.Minute, time.Millisecond)

	env.restart(t)
	require.Eventually(t, func() bool {
		m, err := env.machines(teamA).Get(ctx, "node-1", metav1.GetOptions{})
		if err != nil {
			return false
		}
		again := meta.FindStatusCondition(m.Status.Conditions, infrastructure.ConditionImageUpToDate)
		return again != nil && again.Message == c.Message && again.LastTransitionTime.Equal(&c.LastTransitionTime)
	}, time.Minute, 10*time.Millisecond)
}
