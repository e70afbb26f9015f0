// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/test/framework"
)

func deadWorkersAreReplaced(t *testing.T, env *environment, namespace string, projectMetal ProjectMetal) {
	before := projectMetal.Inventory()
	c := env.Order(t, Order{Namespace: namespace, Name: "iris", ControlPlane: 1, Workers: 3, Variables: map[string]string{"UNHEALTHY_TIMEOUT": "3"}})
	c.AwaitMachines(t, slow, 1, 3)

	sim := env.Site.Metal.Sim
	for _, death := range []struct {
		name string
		die  func(id string) error
	}{
		{"crashes over and over", sim.Crash},
		{"falls silent", func(id string) error {
			defer env.Site.Later(6 * time.Minute)
			return sim.Silence(id)
		}},
		{"is freed behind our back", sim.ForceFree},
	} {
		workers, err := c.Machines(t.Context(), false)
		require.NoError(t, err)
		dead := workers[0]
		hardware := c.hardwareOf(t.Context(), t, &dead)
		mark := projectMetal.Mark()
		require.NoError(t, death.die(hardware.Status.Metal.MachineID), death.name)
		c.awaitGone(t, &dead)
		c.AwaitMachines(t, slow, 1, 3)
		account := projectMetal.Since(mark, "machine")
		assert.Equal(t, 1, account.Allocated, "%s: one in its place", death.name)
		assert.Equal(t, 1, account.Freed, "%s: freed once, by whoever", death.name)
		assert.LessOrEqual(t, account.Most, 5, death.name)
	}
	c.Delete(t, slow)
	awaitProjectMetal(t, projectMetal, before)
}

func provisioningResumesAfterMetalAPIOutage(t *testing.T, env *environment, namespace string, projectMetal ProjectMetal) {
	before := projectMetal.Inventory()
	// The only machine of the size is another client's.
	sim := env.Site.Metal.Sim
	var rare string
	for _, m := range sim.Inventory().Machines {
		if m.Size == RareSize {
			rare = m.ID
		}
	}
	require.NoError(t, sim.Reserve(rare, "another client's"))
	require.NoError(t, env.Apply(t.Context(), helmAddOns))
	c := env.Order(t, Order{
		Namespace: namespace, Name: "lily", Flavor: "calico", ControlPlane: 1, Workers: 1, Variables: map[string]string{"WORKER_MACHINE_SIZE": RareSize},
	})
	var waiting types.NamespacedName
	framework.Eventually(t, slow, func(ctx context.Context) error {
		workers, err := c.Machines(ctx, false)
		if err != nil {
			return err
		}
		if len(workers) != 1 || workers[0].Spec.InfrastructureRef.Name == "" {
			return fmt.Errorf("%d workers", len(workers))
		}
		waiting = types.NamespacedName{Namespace: namespace, Name: workers[0].Spec.InfrastructureRef.Name}
		return nil
	})
	c.awaitCondition(t, waiting, infrastructure.ConditionReady, func(condition *metav1.Condition) bool {
		return condition.Status == metav1.ConditionFalse && condition.Reason == infrastructure.ReasonAllocationRefused
	})
	hardware := &v1alpha4.MetalStackMachine{}
	require.NoError(t, c.Client.Get(t.Context(), waiting, hardware))
	for _, condition := range hardware.Status.Conditions {
		if condition.Type == infrastructure.ConditionReady {
			assert.Contains(t, condition.Message, "no machine available", "in the metal-api's words")
		}
	}
	addOnsArrive(t, c)
	require.NoError(t, sim.Unlock(rare))
	c.AwaitMachines(t, slow, 1, 1)
	c.Delete(t, slow)
	awaitProjectMetal(t, projectMetal, before)
}
