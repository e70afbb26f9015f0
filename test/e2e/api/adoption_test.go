// SPDX-License-Identifier: Apache-2.0

package api

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// A machine is adopted as it is. That it is not what the spec says is a warning, and a
// condition that is no part of Ready.
func TestAdopt_MachineOfAnotherSizeAndImage(t *testing.T) {
	t.Parallel()
	env := start(t, quickSweep)
	ctx := t.Context()
	id, err := env.sim.AllocateFor(simulator.AllocateRequest{
		Project: projectA, Partition: partition, Name: "by-hand", Hostname: "by-hand",
		Size: simulator.LargeSize, Image: otherImage, Networks: []string{env.privateNetwork(t, projectA)},
	})
	require.NoError(t, err)
	require.NoError(t, env.sim.PhoneHome(id))

	adopted := machine("node-1")
	adopted.Spec.ProviderID = "metal:///" + id
	env.warnings.reset()
	_, err = env.machines(teamA).Create(ctx, adopted, metav1.CreateOptions{})
	require.NoError(t, err)
	require.Contains(t, env.warnings.all(), `has size "`+simulator.LargeSize+`", not "`+small+`" (machineType)`)
	require.Regexp(t, `has image "`+otherImage+`\.\d+", not "`+image+`" \(image\)`, env.warnings.all())

	m, err := env.machines(teamA).Allocate(ctx, "node-1", &v1alpha4.Allocation{}, metav1.CreateOptions{})
	require.NoError(t, err)
	require.True(t, m.Status.Allocation.Adopted)
	require.Eventually(t, func() bool {
		m, err = env.machines(teamA).Get(ctx, "node-1", metav1.GetOptions{})
		return err == nil && m.Status.Ready
	}, time.Minute, 10*time.Millisecond)
	c := meta.FindStatusCondition(m.Status.Conditions, infrastructure.ConditionMatchesSpec)
	require.NotNil(t, c)
	require.Equal(t, metav1.ConditionFalse, c.Status)
	require.Equal(t, infrastructure.ReasonOtherSize, c.Reason)
	require.Contains(t, c.Message, `size "`+simulator.LargeSize+`" (spec.machineType: "`+small+`") and image "`+m.Status.Metal.Image+`"`)
}
