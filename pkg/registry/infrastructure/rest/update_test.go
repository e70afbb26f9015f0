// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/cluster"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/firewall"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/machine"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/remediation"
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

func TestStatusUpdate_TakesWhatIsRecordedOfAFirewallController(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	create(t, w, firewall.Resource, &infrastructure.MetalStackFirewall{
		ObjectMeta: metav1.ObjectMeta{Name: "fw", Namespace: "team-a"}, Spec: infrastructure.MetalStackFirewallSpec{Image: "firewall-ubuntu-3.0", MachineType: "v1-small-x86"},
	})
	recorded := infrastructure.MetalStackFirewallStatus{
		Distance:         3,
		Controller:       &infrastructure.FirewallControllerStatus{Version: "v2.4.1", LastRun: &metav1.Time{Time: time.Unix(1e9, 0)}, Distance: new(int32(3))},
		ManagementAccess: &infrastructure.FirewallManagementAccess{URL: "https://kubernetes.example.org:6443", ServiceAccountUID: "uid"},
		WorkloadAccess:   &infrastructure.FirewallWorkloadAccess{KubeconfigSecretName: "config", TokenSecretName: "token", APIServerURL: "https://web.example.org"},
	}
	connected := metav1.Condition{Type: infrastructure.ConditionControllerConnected, Status: "True", Reason: "Connected", LastTransitionTime: metav1.Now()}
	upToDate := metav1.Condition{Type: infrastructure.ConditionImageUpToDate, Status: "True", Reason: "Lie", LastTransitionTime: metav1.Now()}
	status, main := w.all[firewall.Resource].status, w.all[firewall.Resource].main
	_, err := update(t, status, "fw", func(f *infrastructure.MetalStackFirewall) {
		f.Status.Ready, f.Status.Distance, f.Status.Controller = true, recorded.Distance, recorded.Controller
		f.Status.ManagementAccess, f.Status.WorkloadAccess = recorded.ManagementAccess, recorded.WorkloadAccess
		f.Status.Conditions = append(f.Status.Conditions, connected, upToDate)
		f.Status.LastOperation = &infrastructure.MachineOperation{Action: "On"}
	})
	require.NoError(t, err)
	// What is recorded is in the record: a change of the spec does not touch it.
	out, err := update(t, main, "fw", func(f *infrastructure.MetalStackFirewall) {
		f.Spec.ProvisioningTimeout, f.Status = &metav1.Duration{Duration: time.Hour}, infrastructure.MetalStackFirewallStatus{Distance: 8}
	})
	require.NoError(t, err)
	assert.False(t, out.Status.Ready)
	assert.EqualValues(t, 3, out.Status.Distance)
	assert.True(t, apiequality.Semantic.DeepEqual(recorded.Controller, out.Status.Controller))
	assert.Equal(t, recorded.ManagementAccess, out.Status.ManagementAccess)
	assert.Equal(t, recorded.WorkloadAccess, out.Status.WorkloadAccess)
	assert.True(t, meta.IsStatusConditionTrue(out.Status.Conditions, infrastructure.ConditionControllerConnected))
	assert.Nil(t, meta.FindStatusCondition(out.Status.Conditions, infrastructure.ConditionImageUpToDate), "the server computes it")
	assert.Nil(t, out.Status.LastOperation, "the server records it")

	_, err = update(t, status, "fw", func(f *infrastructure.MetalStackFirewall) { f.Status.Distance = 9 })
	require.ErrorContains(t, err, "status.distance: Invalid value: 9")
	out, err = update(t, status, "fw", func(f *infrastructure.MetalStackFirewall) {
		f.Status.Distance, f.Status.Controller, f.Status.ManagementAccess, f.Status.WorkloadAccess = 0, nil, nil, nil
	})
	require.NoError(t, err)
	assert.Zero(t, out.Status.Distance)
	assert.Nil(t, out.Status.Controller)
	assert.Nil(t, out.Status.ManagementAccess)
	assert.Nil(t, out.Status.WorkloadAccess)
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

// A remediation is a record alone: what the controller manager writes into its status is read back.
func TestStatusUpdate_TakesTheStatusOfARemediation(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	created := create(t, w, remediation.Resource, &infrastructure.MetalStackRemediation{
		ObjectMeta: metav1.ObjectMeta{Name: "node-1", Namespace: "team-a"}, Status: infrastructure.MetalStackRemediationStatus{Attempt: 7},
	})
	assert.Zero(t, created.Status, "nothing of it is created")
	assert.Empty(t, created.Finalizers, "the controller manager adds its own")
	want := infrastructure.MetalStackRemediationStatus{
		Phase: infrastructure.RemediationFencing, Attempt: 1, PoweredOff: true, FencedNode: "node-1",
		Machine:    &infrastructure.RemediatedMachine{Name: "node-1", AllocationUUID: "a"},
		Conditions: []metav1.Condition{{Type: infrastructure.ConditionRemediated, Status: metav1.ConditionFalse, Reason: "Fencing", LastTransitionTime: metav1.Now().Rfc3339Copy()}},
	}
	out, err := update(t, w.all[remediation.Resource].status, "node-1", func(r *infrastructure.MetalStackRemediation) {
		r.Spec.Strategy.RetryLimit = 5
		r.Status = want
	})
	require.NoError(t, err)
	assert.True(t, apiequality.Semantic.DeepEqual(want, out.Status), "%+v", out.Status)
	assert.Equal(t, created.Spec, out.Spec)
}
