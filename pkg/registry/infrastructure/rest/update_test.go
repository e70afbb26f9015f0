// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/cluster"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/machine"
)

func TestUpdate_KeepsStatusAndServerSetFields(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	create(t, w, machine.Resource, newMachine("node-1"))
	_, err := w.Machines().Update(context.Background(), "team-a", "node-1", func(m *infrastructure.MetalStackMachine) error {
		m.Spec.ProviderID = "metal://fra-01/" + idleID
		m.Status.Allocation = &infrastructure.MachineAllocation{AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocated}, MachineID: idleID}
		return nil
	})
	require.NoError(t, err)
	out, err := update(t, w.all[machine.Resource].main, "node-1", func(m *infrastructure.MetalStackMachine) {
		m.Labels = map[string]string{"a": "b"}
		m.Spec.ProviderID = ""
		m.Status = infrastructure.MetalStackMachineStatus{Ready: true}
	})
	require.NoError(t, err)
	assert.Equal(t, "metal://fra-01/"+idleID, out.Spec.ProviderID)
	assert.Equal(t, idleID, out.Status.Allocation.MachineID)
	assert.False(t, out.Status.Ready)
	assert.EqualValues(t, 1, out.Generation, "the spec has not changed")
}

// A manifest that is applied again says nothing of an endpoint that has arrived since.
func TestUpdate_KeepsEndpointOfHostedControlPlane(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	claim := newCluster("hosted")
	claim.Spec.ControlPlaneEndpointProvider, claim.Spec.ControlPlaneEndpoint = infrastructure.EndpointOfControlPlane, infrastructure.APIEndpoint{}
	assert.Zero(t, create(t, w, cluster.Resource, claim).Spec.ControlPlaneEndpoint)
	endpoint := infrastructure.APIEndpoint{Host: "api.example.org", Port: 443}
	for _, submitted := range []infrastructure.APIEndpoint{endpoint, {}} {
		out, err := update(t, w.all[cluster.Resource].main, "hosted", func(c *infrastructure.MetalStackCluster) { c.Spec.ControlPlaneEndpoint = submitted })
		require.NoError(t, err)
		assert.Equal(t, endpoint, out.Spec.ControlPlaneEndpoint)
	}
}

func TestStatusUpdate_TakesOnlyConditionsAndInitialization(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	created := create(t, w, machine.Resource, newMachine("node-1"))
	yes, no := true, false
	status := w.all[machine.Resource].status
	paused := metav1.Condition{Type: infrastructure.ConditionPaused, Status: "False", Reason: "NotPaused", LastTransitionTime: metav1.Now()}
	out, err := update(t, status, "node-1", func(m *infrastructure.MetalStackMachine) {
		m.Labels = map[string]string{"a": "b"}
		m.Spec.Image = "other"
		m.Status.Ready = true
		m.Status.Addresses = []infrastructure.MachineAddress{{Type: infrastructure.MachineInternalIP, Address: "10.0.0.1"}}
		m.Status.Metal.Managed = false
		m.Status.Allocation = &infrastructure.MachineAllocation{MachineID: idleID}
		m.Status.Initialization.Provisioned = &yes
		m.Status.Conditions = []metav1.Condition{paused, {Type: infrastructure.ConditionReady, Status: "True", Reason: "Lie", LastTransitionTime: metav1.Now()}}
	})
	require.NoError(t, err)
	assert.Empty(t, out.Labels)
	assert.Equal(t, "ubuntu-24.04", out.Spec.Image)
	assert.False(t, out.Status.Ready)
	assert.Empty(t, out.Status.Addresses)
	assert.True(t, out.Status.Metal.Managed)
	assert.Nil(t, out.Status.Allocation)
	assert.True(t, *out.Status.Initialization.Provisioned)
	assert.NotNil(t, meta.FindStatusCondition(out.Status.Conditions, infrastructure.ConditionPaused))
	assert.Equal(t, meta.FindStatusCondition(created.Status.Conditions, infrastructure.ConditionReady).Reason,
		meta.FindStatusCondition(out.Status.Conditions, infrastructure.ConditionReady).Reason)

	out, err = update(t, status, "node-1", func(m *infrastructure.MetalStackMachine) { m.Status.Initialization.Provisioned = &no })
	require.NoError(t, err)
	assert.True(t, *out.Status.Initialization.Provisioned, "it never goes back")
}
