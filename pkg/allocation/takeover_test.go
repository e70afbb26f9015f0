// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

func TestRelease_HoldsObjectMarkedBeforeTakeover(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("c")
	env.machine("m")
	_, err := env.allocate(env.p, "m", "c")
	require.NoError(t, err)
	held := env.getMachine("m").Status.Allocation.MachineID
	takenOver := env.clock.Now()
	env.p.opts.TakenOver = func(namespace string) time.Time {
		assert.Equal(t, teamA, namespace)
		return takenOver
	}
	mark := func(at time.Time, annotations map[string]string) {
		marked := metav1.NewTime(at)
		_, err := env.machines.Update(env.context(), teamA, "m", func(m *infrastructure.MetalStackMachine) error {
			m.DeletionTimestamp, m.Annotations = &marked, annotations
			return nil
		})
		require.NoError(t, err)
		_, err = env.clusters.Update(env.context(), teamA, "c", func(c *infrastructure.MetalStackCluster) error {
			c.DeletionTimestamp, c.Annotations = &marked, annotations
			return nil
		})
		require.NoError(t, err)
	}
	mark(takenOver.Add(-time.Hour), nil)
	_, err = env.release(env.p, "m")
	require.ErrorContains(t, err, "keeps its metal until it has the annotation "+infrastructure.ForceReleaseAnnotation)
	assert.True(t, apierrors.HasStatusCause(err, metav1.CauseType(infrastructure.ReasonMarkedBeforeTakeover)), "%v", err)
	_, err = env.releaseCluster(env.p, "c")
	require.ErrorContains(t, err, "keeps its metal until it has the annotation "+infrastructure.ForceReleaseAnnotation)
	assert.True(t, apierrors.HasStatusCause(err, metav1.CauseType(infrastructure.ReasonMarkedBeforeTakeover)), "%v", err)
	assert.True(t, env.machineState(held).Allocated)
	assert.Equal(t, infrastructure.AllocationAllocated, env.getMachine("m").Status.Allocation.Phase)

	mark(takenOver.Add(-time.Hour), map[string]string{infrastructure.ForceReleaseAnnotation: "true"})
	_, err = env.release(env.p, "m")
	require.NoError(t, err, "the annotation lifts the hold")
	mark(takenOver.Add(time.Hour), nil)
	_, err = env.releaseCluster(env.p, "c")
	require.NoError(t, err, "it was deleted in this namespace")
	env.requireNothingAllocated()
}
