// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

var midAttempt = []v1alpha4.RemediationPhase{
	v1alpha4.RemediationPoweringOff, v1alpha4.RemediationFencing, v1alpha4.RemediationPoweringOn, v1alpha4.RemediationWaiting,
}

// inPhase is a harness whose remediation is in a phase, in the middle of it.
func inPhase(t *testing.T, phase v1alpha4.RemediationPhase) *remediationHarness {
	t.Helper()
	h := newRemediationHarness(t)
	switch phase {
	case v1alpha4.RemediationPoweringOff:
		h.power.silent = ptr.To(metav1.NewTime(h.clock.Now()))
	case v1alpha4.RemediationFencing:
		require.NoError(t, h.workload.Create(t.Context(), podOn("m-node", "stuck")))
	case v1alpha4.RemediationPoweringOn:
		h.until(v1alpha4.RemediationFencing)
		h.power.err = unavailable
	}
	h.until(phase)
	h.tick()
	require.Equal(t, phase, h.remediation().Status.Phase)
	h.power.err, h.power.silent = nil, nil
	return h
}

func TestRemediationDeletion_UndoesWhatWasDone(t *testing.T) {
	t.Parallel()
	for _, phase := range midAttempt {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			h := inPhase(t, phase)
			require.NoError(t, h.api.Delete(t.Context(), h.remediation()))
			h.tick()
			assert.Nil(t, h.remediation())
			assert.Empty(t, h.node().Spec.Taints)
			assert.Equal(t, 1, h.count("On"))
			assert.Equal(t, v1alpha4.PowerStateOn, h.power.state)
			assert.Zero(t, h.count("hand back"))
		})
	}
}

func TestRemediationDeletion_MachineThatGoesIsNotSwitchedOn(t *testing.T) {
	t.Parallel()
	for _, phase := range midAttempt[:3] {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			h := inPhase(t, phase)
			require.NoError(t, h.api.Delete(t.Context(), h.machine()))
			h.ticksFor(10 * time.Minute)
			reason, _ := h.said()
			assert.Equal(t, infrastructure.ReasonMachineDeleting, reason)
			require.NoError(t, h.api.Delete(t.Context(), h.remediation()))
			h.tick()
			assert.Nil(t, h.remediation())
			assert.Empty(t, h.node().Spec.Taints)
			assert.Zero(t, h.count("On"))
			assert.Zero(t, h.count("hand back"))
		})
	}
}

func TestRemediationDeletion_WaitsForBothAPIs(t *testing.T) {
	t.Parallel()
	h := inPhase(t, v1alpha4.RemediationFencing)
	require.NoError(t, h.api.Delete(t.Context(), h.remediation()))
	h.workloadAway, h.power.err = true, unavailable
	h.ticksFor(2 * time.Hour)
	reason, _ := h.said()
	assert.Equal(t, infrastructure.ReasonMetalAPIUnavailable, reason)
	h.workloadAway = false
	h.ticksFor(time.Minute)
	assert.Empty(t, h.node().Spec.Taints)
	h.ticksFor(2 * time.Hour)
	reason, _ = h.said()
	assert.Equal(t, infrastructure.ReasonMetalAPIUnavailable, reason)
	h.power.err = nil
	h.ticksFor(time.Minute)
	assert.Nil(t, h.remediation())
	assert.Equal(t, []string{"Off", "taint", "untaint", "On"}, h.steps)
}

func TestRemediationDeletion_CrashAfterEachStepLeavesNothing(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 5; n++ {
		h := inPhase(t, v1alpha4.RemediationFencing)
		h.effects, h.crashAfter = 0, n
		require.NoError(t, h.api.Delete(t.Context(), h.remediation()))
		h.ticksFor(time.Minute)
		assert.Nil(t, h.remediation())
		assert.Equal(t, reboot, h.steps, "crash after %d", n)
	}
}

func TestRemediationDeletion_ClusterThatGoesHoldsNothingUp(t *testing.T) {
	t.Parallel()
	h := inPhase(t, v1alpha4.RemediationFencing)
	require.NoError(t, h.api.Delete(t.Context(), h.machine()))
	cluster := capiCluster()
	require.NoError(t, h.api.Delete(t.Context(), cluster))
	require.NoError(t, h.api.Delete(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "c-kubeconfig"}}))
	h.r.connections = newWorkloadConnections()
	require.NoError(t, h.api.Delete(t.Context(), h.remediation()))
	h.tick()
	assert.Nil(t, h.remediation())
}

// The owner is taken off by a client that may: what was done is undone, and nothing else is.
func TestRemediation_WithoutItsOwnerIsUndone(t *testing.T) {
	t.Parallel()
	h := inPhase(t, v1alpha4.RemediationFencing)
	r := h.remediation()
	r.OwnerReferences = nil
	require.NoError(t, h.api.Update(t.Context(), r))
	h.ticksFor(time.Hour)
	assert.Equal(t, reboot, h.steps)
	assert.Empty(t, h.remediation().Finalizers)
}

func TestRemediation_OtherMachineMeanwhileIsNotSwitched(t *testing.T) {
	t.Parallel()
	for _, phase := range midAttempt {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			h := inPhase(t, phase)
			was := len(h.steps)
			h.changeMetal(func(m *v1alpha4.MetalStackMachine) { m.Status.Allocation.AllocationUUID = "allocation-2" })
			h.until(v1alpha4.RemediationFailed)
			h.ticksFor(time.Minute)
			reason, _ := h.said()
			assert.Equal(t, infrastructure.ReasonMachineGone, reason)
			assert.Empty(t, h.node().Spec.Taints)
			assert.NotContains(t, h.steps[was:], "Off")
			assert.NotContains(t, h.steps[was:], "On")
			assert.Empty(t, h.remediation().Finalizers)
		})
	}
}

func TestRemediation_DoesNotFightOverPower(t *testing.T) {
	t.Parallel()
	t.Run("switched on meanwhile", func(t *testing.T) {
		t.Parallel()
		h := inPhase(t, v1alpha4.RemediationPoweringOff)
		h.operate(v1alpha4.PowerOn, "a-person's", v1alpha4.OperationSent)
		h.power.state, h.power.switched, h.hangs = v1alpha4.PowerStateOn, h.clock.Now(), true
		h.until(v1alpha4.RemediationWaiting)
		assert.Equal(t, []string{"Off", "On"}, h.steps)
		assert.Empty(t, h.node().Spec.Taints)
	})
	t.Run("switched off meanwhile", func(t *testing.T) {
		t.Parallel()
		h := inPhase(t, v1alpha4.RemediationWaiting)
		h.clock.Step(2 * time.Second)
		h.operate(v1alpha4.PowerOff, "a-person's", v1alpha4.OperationSent)
		h.power.state = v1alpha4.PowerStateOff
		h.ticksFor(4 * time.Minute)
		assert.Equal(t, 1, h.count("On"))
		h.hangs = true
		h.until(v1alpha4.RemediationFailed)
		assert.Equal(t, 2, h.count("On"), "one for each attempt")
		assert.Equal(t, 1, h.count("hand back"))
	})
}

// Cluster API deletes the object when the Machine is healthy. If it never is, though its Node is
// ready, the reboot did not help.
func TestRemediation_ReadyNodeOfAnUnhealthyMachineIsNotTheEnd(t *testing.T) {
	t.Parallel()
	h := newRemediationHarness(t)
	h.until(v1alpha4.RemediationSucceeded)
	h.until(v1alpha4.RemediationPoweringOff)
	h.until(v1alpha4.RemediationFailed)
	assert.Equal(t, 2, h.count("Off"))
	assert.Equal(t, 1, h.count("hand back"))

	h = newRemediationHarness(t)
	h.changeMachine(func(m *clusterv1.Machine) {
		conditions.Set(m, metav1.Condition{Type: clusterv1.MachineHealthCheckSucceededCondition, Status: metav1.ConditionFalse, Reason: clusterv1.MachineHealthCheckHasRemediateAnnotationReason})
	})
	h.until(v1alpha4.RemediationSucceeded)
	h.ticksFor(time.Hour)
	assert.Equal(t, reboot, h.steps, "a person asked for one reboot")
}

func controlPlaneMachine(name string, changes ...func(*clusterv1.Machine)) *clusterv1.Machine {
	return unhealthyMachine(append([]func(*clusterv1.Machine){func(m *clusterv1.Machine) {
		m.Name, m.Labels[clusterv1.MachineControlPlaneLabel] = name, ""
		if name == "m" {
			return
		}
		m.UID, m.Status.NodeRef.Name = types.UID("uid-of-"+name), name+"-node"
		setHealth(m, metav1.ConditionTrue)
		for _, kind := range append([]string{clusterv1.MachineNodeReadyCondition}, controlPlaneConditions...) {
			conditions.Set(m, metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: "Healthy"})
		}
	}}, changes...)...)
}

func TestRemediation_ControlPlaneKeepsItsQuorum(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change  func(*clusterv1.Machine)
		also    []client.Object
		message string
	}{
		"healthy":       {func(*clusterv1.Machine) {}, nil, ""},
		"being deleted": {func(m *clusterv1.Machine) { m.DeletionTimestamp = ptr.To(metav1.Now()) }, nil, "is being deleted"},
		"no Node":       {func(m *clusterv1.Machine) { m.Status.NodeRef.Name = "" }, nil, "has no Node yet"},
		"unhealthy":     {func(m *clusterv1.Machine) { setHealth(m, metav1.ConditionFalse) }, nil, "has failed a health check"},
		"etcd":          {func(m *clusterv1.Machine) { setCondition(m, "EtcdMemberHealthy", metav1.ConditionUnknown) }, nil, "its condition EtcdMemberHealthy is Unknown"},
		"API server":    {func(m *clusterv1.Machine) { setCondition(m, "APIServerPodHealthy", metav1.ConditionFalse) }, nil, "its condition APIServerPodHealthy is False"},
		"Node not ready": {func(m *clusterv1.Machine) {
			setCondition(m, clusterv1.MachineNodeReadyCondition, metav1.ConditionUnknown)
		}, nil, "has a Node that is not ready"},
		"to be replaced": {func(m *clusterv1.Machine) {
			setCondition(m, clusterv1.MachineOwnerRemediatedCondition, metav1.ConditionFalse)
		}, nil, "is to be replaced"},
		"remediated": {func(*clusterv1.Machine) {}, []client.Object{remediationOf(func(r *v1alpha4.MetalStackRemediation) {
			r.Name, r.UID, r.Status.PoweredOff = "cp-1", "another", true
		})}, "Machine cp-1 of the control plane is being remediated"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newRemediationHarness(t, append(test.also, controlPlaneMachine("m"), controlPlaneMachine("cp-1", test.change), controlPlaneMachine("cp-2"))...)
			if test.message == "" {
				h.until(v1alpha4.RemediationSucceeded)
				return
			}
			h.ticksFor(4 * time.Minute)
			reason, message := h.said()
			assert.Equal(t, infrastructure.ReasonWaitingForControlPlane, reason)
			assert.Contains(t, message, test.message)
			assert.Empty(t, h.steps)
			assert.Equal(t, v1alpha4.RemediationPhase(""), h.remediation().Status.Phase)
			h.until(v1alpha4.RemediationFailed)
			assert.Equal(t, []string{"hand back"}, h.steps, "its provider decides")
		})
	}
	t.Run("two machines", func(t *testing.T) {
		t.Parallel()
		h := newRemediationHarness(t, controlPlaneMachine("m"), controlPlaneMachine("cp-1"))
		h.ticksFor(4 * time.Minute)
		_, message := h.said()
		assert.Contains(t, message, "The control plane has 2 machines")
		assert.Empty(t, h.steps)
	})
}

func setCondition(m *clusterv1.Machine, kind string, status metav1.ConditionStatus) {
	conditions.Set(m, metav1.Condition{Type: kind, Status: status, Reason: "Changed"})
}

func TestStaysOnNode_ByTolerationOrEnd(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		pod  *corev1.Pod
		want bool
	}{
		{podOn("n", "p"), false},
		{podOn("n", "p", corev1.Toleration{Operator: corev1.TolerationOpExists}), true},
		{podOn("n", "p", corev1.Toleration{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}), true},
		{podOn("n", "p", corev1.Toleration{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}), false},
		{podOn("n", "p", corev1.Toleration{Key: outOfService.Key, Value: outOfService.Value}), true},
		{podOn("n", "p", corev1.Toleration{Key: outOfService.Key, Value: "other"}), false},
		{podOn("n", "p", corev1.Toleration{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists}), false},
		{podOn("n", "p", corev1.Toleration{Operator: corev1.TolerationOpExists, TolerationSeconds: ptr.To(int64(300))}), false},
		{&corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodSucceeded}}, true},
	} {
		assert.Equal(t, test.want, staysOnNode(test.pod), "%+v", test.pod.Spec.Tolerations)
	}
}
