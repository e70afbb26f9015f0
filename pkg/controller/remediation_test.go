// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// reboot are the effects of an attempt.
var reboot = []string{"Off", "taint", "On", "untaint"}

func TestRemediation_RebootsAndFences(t *testing.T) {
	t.Parallel()
	h := newRemediationHarness(t)

	h.until(v1alpha4.RemediationPoweringOff)
	r := h.remediation()
	assert.Equal(t, int32(1), r.Status.Attempt)
	assert.True(t, r.Status.PoweredOff)
	assert.Equal(t, &v1alpha4.RemediatedMachine{Name: "m-infra", AllocationUUID: "allocation-1"}, r.Status.Machine)
	assert.Equal(t, []string{infrastructure.RemediationFinalizer}, r.Finalizers)
	assert.Contains(t, r.Annotations, infrastructure.BlockMoveAnnotation)

	h.until(v1alpha4.RemediationWaiting)
	r = h.remediation()
	assert.False(t, r.Status.PoweredOff)
	assert.Equal(t, "m-node", r.Status.FencedNode)
	assert.Equal(t, reboot[:3], h.steps)
	assert.True(t, isOutOfService(h.node()), "until the Node is ready")

	h.until(v1alpha4.RemediationSucceeded)
	h.tick()
	r = h.remediation()
	assert.Equal(t, reboot, h.steps)
	assert.Empty(t, h.node().Spec.Taints)
	assert.Empty(t, r.Status.FencedNode)
	assert.Empty(t, r.Finalizers)
	assert.NotContains(t, r.Annotations, infrastructure.BlockMoveAnnotation)
	assert.True(t, meta.IsStatusConditionTrue(r.Status.Conditions, infrastructure.ConditionRemediated))
	assert.Nil(t, conditions.Get(h.machine(), clusterv1.MachineOwnerRemediatedCondition))
	h.changeMachine(func(m *clusterv1.Machine) { setHealth(m, metav1.ConditionTrue) })
	h.ticksFor(time.Hour)
	assert.Equal(t, reboot, h.steps)
}

// A controller manager that is killed after whichever of its effects repeats none of them.
func TestRemediation_CrashAfterEachStepRepeatsNothing(t *testing.T) {
	t.Parallel()
	for _, hangs := range []bool{false, true} {
		quick := func() *v1alpha4.MetalStackRemediation {
			return remediationOf(func(r *v1alpha4.MetalStackRemediation) {
				if hangs {
					r.Spec.Strategy.Timeout.Duration = time.Minute
				}
			})
		}
		whole := newRemediationHarness(t, quick())
		whole.hangs = hangs
		whole.until(v1alpha4.RemediationSucceeded, v1alpha4.RemediationFailed)
		whole.tick()
		require.Greater(t, whole.effects, 8)
		for n := 1; n <= whole.effects; n++ {
			t.Run(fmt.Sprintf("hangs=%t/%d", hangs, n), func(t *testing.T) {
				t.Parallel()
				h := newRemediationHarness(t, quick())
				h.hangs, h.crashAfter = hangs, n
				h.until(v1alpha4.RemediationSucceeded, v1alpha4.RemediationFailed)
				h.tick()
				h.tick()
				assert.Equal(t, whole.steps, h.steps)
				assert.Empty(t, h.node().Spec.Taints)
				assert.Empty(t, h.remediation().Finalizers)
			})
		}
	}
}

func TestRemediation_HandsBackWhenRetriesAreExhausted(t *testing.T) {
	t.Parallel()
	h := newRemediationHarness(t)
	h.hangs = true
	h.until(v1alpha4.RemediationFailed)
	h.tick()
	reason, message := h.said()
	assert.Equal(t, infrastructure.ReasonRetriesExhausted, reason)
	assert.Contains(t, message, "Node m-node was not ready within 5m0s after the machine was switched on (attempt 2 of 2)")
	assert.Equal(t, []string{"Off", "taint", "On", "Off", "On", "hand back", "untaint"}, h.steps, "the taint stays for the second attempt")
	c := conditions.Get(h.machine(), clusterv1.MachineOwnerRemediatedCondition)
	require.NotNil(t, c)
	assert.Equal(t, metav1.ConditionFalse, c.Status)
	assert.Equal(t, clusterv1.MachineOwnerRemediatedWaitingForRemediationReason, c.Reason)
	h.ticksFor(time.Hour)
	assert.Equal(t, 1, h.count("hand back"))
	assert.Equal(t, 2, h.count("Off"))
	assert.Empty(t, h.remediation().Finalizers)
}

// A report that is older than the request says nothing of what the request did.
func TestRemediation_FencesOnlyWhatIsSeenOffAfterTheRequest(t *testing.T) {
	t.Parallel()
	for name, play := range map[string]func(*remediationHarness){
		"stale report": func(h *remediationHarness) {
			h.power.state, h.power.dead, h.power.silent = v1alpha4.PowerStateOff, true, ptr.To(metav1.NewTime(h.clock.Now().Add(-time.Second)))
		},
		"no report":   func(h *remediationHarness) { h.power.state, h.power.dead = v1alpha4.PowerStateUnknown, true },
		"it stays on": func(h *remediationHarness) { h.power.dead = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newRemediationHarness(t)
			h.hangs = true
			play(h)
			h.until(v1alpha4.RemediationFailed)
			assert.Equal(t, []string{"Off", "On", "Off", "On", "hand back"}, h.steps)
			assert.Empty(t, h.node().Spec.Taints)
		})
	}
}

func TestRemediation_LostAnswerIsNoSecondRequest(t *testing.T) {
	t.Parallel()
	h := newRemediationHarness(t)
	h.power.lost, h.power.outcome = apierrors.NewTimeoutError("it may have been sent", 0), v1alpha4.OperationUncertain
	h.until(v1alpha4.RemediationSucceeded)
	assert.Equal(t, reboot, h.steps)
}

func TestRemediation_MetalAPIAwayCountsNoAttempt(t *testing.T) {
	t.Parallel()
	h := newRemediationHarness(t)
	h.power.err, h.power.stateErr = unavailable, unavailable
	h.ticksFor(time.Hour)
	reason, _ := h.said()
	assert.Equal(t, infrastructure.ReasonMetalAPIUnavailable, reason)
	assert.Zero(t, h.remediation().Status.Attempt)
	assert.Empty(t, h.steps)

	// It goes away again before the request.
	h.power.stateErr = nil
	h.ticksFor(time.Hour)
	assert.Equal(t, int32(1), h.remediation().Status.Attempt)
	assert.Equal(t, v1alpha4.RemediationPoweringOff, h.remediation().Status.Phase)
	assert.Empty(t, h.steps)
	h.power.err = nil
	h.until(v1alpha4.RemediationSucceeded)
	assert.Equal(t, int32(1), h.remediation().Status.Attempt)
	assert.Equal(t, 1, h.count("Off"))
	assert.Equal(t, 1, h.count("On"))
	assert.Empty(t, h.node().Spec.Taints)
}

func TestRemediation_HandsBackAtOnceWhatARebootDoesNotHelp(t *testing.T) {
	t.Parallel()
	for reason, change := range map[string]func(*remediationHarness){
		infrastructure.ReasonMachineGone: func(h *remediationHarness) {
			h.changeMetal(func(m *v1alpha4.MetalStackMachine) { m.Status.Metal.Phase = infrastructure.PhaseGone })
		},
		infrastructure.ReasonMachineCrashLoop: func(h *remediationHarness) {
			h.changeMetal(func(m *v1alpha4.MetalStackMachine) { m.Status.Metal.CrashLoop = true })
		},
		infrastructure.ReasonNodeNeverJoined: func(h *remediationHarness) {
			h.changeMachine(func(m *clusterv1.Machine) { m.Status.NodeRef.Name = "" })
		},
		infrastructure.ReasonNodeGone: func(h *remediationHarness) {
			require.NoError(h.t, h.workload.Delete(h.t.Context(), h.node()))
		},
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			h := newRemediationHarness(t)
			change(h)
			assert.Equal(t, v1alpha4.RemediationFailed, h.tick())
			h.tick()
			said, _ := h.said()
			assert.Equal(t, reason, said)
			assert.Equal(t, []string{"hand back"}, h.steps)
			assert.Zero(t, h.remediation().Status.Attempt)
			assert.Empty(t, h.remediation().Finalizers)
		})
	}
}

func TestRemediation_DoesNothing(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		reason string
		object client.Object
	}{
		"Machine is being deleted": {infrastructure.ReasonMachineDeleting, unhealthyMachine(func(m *clusterv1.Machine) { m.DeletionTimestamp = ptr.To(metav1.Now()) })},
		"Machine is healthy":       {infrastructure.ReasonWaitingForMachine, unhealthyMachine(func(m *clusterv1.Machine) { setHealth(m, metav1.ConditionTrue) })},
		"Machine was not checked":  {infrastructure.ReasonWaitingForMachine, unhealthyMachine(func(m *clusterv1.Machine) { m.Status.Conditions = nil })},
		"Machine is skipped": {infrastructure.ReasonWaitingForMachine, unhealthyMachine(func(m *clusterv1.Machine) {
			m.Annotations = map[string]string{clusterv1.MachineSkipRemediationAnnotation: ""}
		})},
		"Machine of another provider":         {infrastructure.ReasonWaitingForMachine, unhealthyMachine(func(m *clusterv1.Machine) { m.Spec.InfrastructureRef.Kind = "DockerMachine" })},
		"another Machine of that name":        {infrastructure.ReasonWaitingForMachine, unhealthyMachine(func(m *clusterv1.Machine) { m.UID = "another" })},
		"without owner":                       {infrastructure.ReasonWaitingForMachine, remediationOf(func(r *v1alpha4.MetalStackRemediation) { r.OwnerReferences = nil })},
		"for another Machine":                 {infrastructure.ReasonWaitingForMachine, remediationOf(func(r *v1alpha4.MetalStackRemediation) { r.OwnerReferences[0].Name = "other" })},
		"another Machine's MetalStackMachine": {infrastructure.ReasonWaitingForMachine, rebootable(func(obj client.Object) { obj.SetOwnerReferences(nil); ownedBy("Machine", "m", "another")(obj) })},
		"MetalStackMachine is being deleted":  {infrastructure.ReasonMachineDeleting, rebootable(deleted)},
		"machine is being reinstalled": {infrastructure.ReasonReinstalling, rebootable(func(obj client.Object) {
			conditions.Set(obj.(*v1alpha4.MetalStackMachine), metav1.Condition{Type: infrastructure.ConditionReinstalling, Status: metav1.ConditionTrue, Reason: infrastructure.ReasonReinstallInstalling})
		})},
		"machine was not observed": {infrastructure.ReasonMetalAPIUnavailable, rebootable(func(obj client.Object) {
			obj.(*v1alpha4.MetalStackMachine).Status.Metal.Phase = infrastructure.PhaseUnknown
		})},
		"kubeconfig names a command": {infrastructure.ReasonWorkloadClusterUnavailable, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "c-kubeconfig"}, Data: map[string][]byte{"value": []byte("{")}}},
		"Cluster is paused":          {"", capiCluster(func(c *clusterv1.Cluster) { c.Spec.Paused = ptr.To(true) })},
		"Machine is paused":          {"", unhealthyMachine(func(m *clusterv1.Machine) { m.Annotations = map[string]string{infrastructure.PausedAnnotation: ""} })},
		"remediation is paused": {"", remediationOf(func(r *v1alpha4.MetalStackRemediation) {
			r.Annotations = map[string]string{infrastructure.PausedAnnotation: ""}
		})},
		"remediation was moved": {"", remediationOf(func(r *v1alpha4.MetalStackRemediation) {
			r.Annotations = map[string]string{infrastructure.DeleteForMoveAnnotation: ""}
		})},
		"control plane of one": {infrastructure.ReasonWaitingForControlPlane, controlPlaneMachine("m")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newRemediationHarness(t, test.object)
			h.ticksFor(4 * time.Minute)
			reason, message := h.said()
			assert.Equal(t, test.reason, reason, message)
			assert.Empty(t, h.steps)
			assert.Zero(t, h.remediation().Status.Attempt)
			assert.Empty(t, h.remediation().Finalizers)
		})
	}
}

func TestRemediation_WorkloadClusterAwayRemediatesNothing(t *testing.T) {
	t.Parallel()
	h := newRemediationHarness(t)
	h.workloadAway = true
	h.ticksFor(time.Hour)
	reason, _ := h.said()
	assert.Equal(t, infrastructure.ReasonWorkloadClusterUnavailable, reason)
	assert.Empty(t, h.steps)
	h.workloadAway = false
	h.until(v1alpha4.RemediationPoweringOff)
	h.workloadAway = true
	h.until(v1alpha4.RemediationWaiting)
	assert.Equal(t, []string{"Off", "On"}, h.steps, "it is not left off")
	h.ticksFor(time.Hour)
	assert.Equal(t, v1alpha4.RemediationWaiting, h.remediation().Status.Phase, "that a Node cannot be read says nothing of it")
	h.workloadAway = false
	h.until(v1alpha4.RemediationSucceeded)
	assert.Equal(t, int32(1), h.remediation().Status.Attempt)
}

func TestRemediation_TaintOfOthersStays(t *testing.T) {
	t.Parallel()
	h := newRemediationHarness(t)
	node := h.node()
	node.Spec.Taints = []corev1.Taint{outOfService, {Key: "theirs", Effect: corev1.TaintEffectNoSchedule}}
	require.NoError(t, h.workload.Update(t.Context(), node))
	h.until(v1alpha4.RemediationSucceeded)
	assert.Equal(t, []string{"Off", "On"}, h.steps)
	assert.Equal(t, node.Spec.Taints, h.node().Spec.Taints)
}

func TestRemediation_RefusedPowerRequestsAreBounded(t *testing.T) {
	t.Parallel()
	h := newRemediationHarness(t)
	h.hangs, h.power.outcome = true, v1alpha4.OperationRefused
	h.until(v1alpha4.RemediationPoweringOff)
	h.tick()
	reason, message := h.said()
	assert.Equal(t, infrastructure.ReasonPowerRefused, reason)
	assert.Contains(t, message, "the machine is locked")
	h.until(v1alpha4.RemediationFailed)
	assert.Empty(t, h.node().Spec.Taints)
	assert.Equal(t, 1, h.count("hand back"))
	assert.LessOrEqual(t, len(h.steps), 2*3*12, "one each 30 s, for 5 min in each phase")
}

// What a server recorded and never sent, because it crashed, is requested again.
func TestRemediation_RequestThatWasNeverSentIsRepeatedWithAnotherID(t *testing.T) {
	t.Parallel()
	h := newRemediationHarness(t)
	h.power.outcome = v1alpha4.OperationRequested
	h.until(v1alpha4.RemediationPoweringOff)
	h.ticksFor(time.Minute)
	assert.Equal(t, []string{"Off"}, h.steps, "it may be in flight")
	h.power.outcome = v1alpha4.OperationSent
	h.until(v1alpha4.RemediationPoweringOn, v1alpha4.RemediationWaiting)
	assert.Equal(t, 2, h.count("Off"))

	h = newRemediationHarness(t)
	h.until(v1alpha4.RemediationFencing)
	h.power.outcome = v1alpha4.OperationRequested
	h.until(v1alpha4.RemediationWaiting)
	h.ticksFor(powerInFlight / 2)
	h.power.outcome = v1alpha4.OperationSent
	h.until(v1alpha4.RemediationSucceeded)
	assert.Equal(t, 1, h.count("Off"))
	assert.Equal(t, 2, h.count("On"), "it is off, long after it was asked to switch on")
	assert.Equal(t, int32(1), h.remediation().Status.Attempt)
}

// Cluster API creates a remediation before it writes that the Machine has failed, and may not get
// to write that.
func TestRemediation_WithoutAFailedHealthCheckIsDeleted(t *testing.T) {
	t.Parallel()
	h := newRemediationHarness(t)
	h.changeMachine(func(m *clusterv1.Machine) { setHealth(m, metav1.ConditionUnknown) })
	h.ticksFor(staleRemediation - time.Minute)
	require.NotNil(t, h.remediation())
	h.ticksFor(2 * time.Minute)
	assert.Nil(t, h.remediation())
	assert.Empty(t, h.steps)

	h = newRemediationHarness(t)
	h.until(v1alpha4.RemediationSucceeded)
	h.changeMachine(func(m *clusterv1.Machine) { setHealth(m, metav1.ConditionTrue) })
	h.ticksFor(time.Hour)
	assert.NotNil(t, h.remediation(), "Cluster API deletes it")
}
