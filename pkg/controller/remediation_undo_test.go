// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

func (h *remediationHarness) delete() {
	h.t.Helper()
	require.NoError(h.t, h.api.Delete(h.t.Context(), h.remediation()))
}

// The clock of the server is ahead, or the request was late: it is no other user's.
func TestRemediationDeletion_OwnOffIsNoOtherUsers(t *testing.T) {
	t.Parallel()
	h := inPhase(t, v1alpha4.RemediationPoweringOff)
	h.changeMetal(func(m *v1alpha4.MetalStackMachine) {
		m.Status.LastOperation.RequestTime = ptr.To(metav1.NewMicroTime(h.clock.Now().Add(30 * time.Second)))
	})
	h.delete()
	h.tick()
	assert.Nil(t, h.remediation())
	assert.Equal(t, v1alpha4.PowerStateOn, h.power.state)
}

// That another user was refused something says nothing of the power.
func TestRemediationDeletion_RefusedOperationOfAnotherUserIsNoReasonToLeaveItOff(t *testing.T) {
	t.Parallel()
	h := inPhase(t, v1alpha4.RemediationPoweringOff)
	h.operate(v1alpha4.PowerReset, "a-person's", v1alpha4.OperationRefused)
	h.delete()
	h.tick()
	assert.Nil(t, h.remediation())
	assert.Equal(t, v1alpha4.PowerStateOn, h.power.state)
}

func TestRemediationDeletion_WaitsUntilItIsCertainThatTheMachineIsOn(t *testing.T) {
	t.Parallel()
	for _, phase := range []v1alpha4.RemediationPhase{v1alpha4.RemediationFencing, v1alpha4.RemediationWaiting} {
		for _, outcome := range []v1alpha4.MachineOperationOutcome{v1alpha4.OperationRequested, v1alpha4.OperationUncertain} {
			t.Run(string(phase)+"/"+string(outcome), func(t *testing.T) {
				t.Parallel()
				h := inPhase(t, v1alpha4.RemediationFencing)
				h.power.outcome, h.power.dead, h.power.lost = outcome, true, apierrors.NewTimeoutError("it may have been sent", 0)
				if phase == v1alpha4.RemediationWaiting {
					h.until(phase)
				}
				h.delete()
				h.ticksFor(time.Minute)
				require.NotNil(t, h.remediation())
				assert.True(t, h.remediation().Status.PoweredOff)
				assert.Equal(t, 1, h.count("On"), "it may be in flight")
				h.power.outcome, h.power.dead, h.power.lost = v1alpha4.OperationSent, false, nil
				h.ticksFor(powerInFlight)
				assert.Nil(t, h.remediation())
				assert.Equal(t, 2, h.count("On"))
				assert.Equal(t, v1alpha4.PowerStateOn, h.power.state)
				assert.Empty(t, h.node().Spec.Taints)
			})
		}
	}
	t.Run("for the timeout", func(t *testing.T) {
		t.Parallel()
		h := inPhase(t, v1alpha4.RemediationFencing)
		h.power.outcome, h.power.dead = v1alpha4.OperationRequested, true
		h.delete()
		h.ticksFor(10 * time.Minute)
		assert.Nil(t, h.remediation())
		events := h.eventsOf(infrastructure.ReasonPowerRefused)
		require.NotEmpty(t, events)
		assert.Contains(t, events[0], "Machine machine-1 may be off, and was not switched on within 5m0s")
	})
}

// Another user had it switched off since: that is not undone.
func TestRemediationDeletion_OffOfAnotherUserStays(t *testing.T) {
	t.Parallel()
	h := inPhase(t, v1alpha4.RemediationFencing)
	h.power.err = unavailable
	h.delete()
	h.ticksFor(time.Minute)
	h.operate(v1alpha4.PowerOff, "a-person's", v1alpha4.OperationSent)
	h.power.err = nil
	h.ticksFor(time.Minute)
	assert.Nil(t, h.remediation())
	assert.Zero(t, h.count("On"))
}

// This is how a remediation is stopped for good.
func TestRemediationDeletion_PausedMachineIsUndone(t *testing.T) {
	t.Parallel()
	for _, phase := range midAttempt {
		h := inPhase(t, phase)
		h.changeMachine(func(m *clusterv1.Machine) { m.Annotations = map[string]string{infrastructure.PausedAnnotation: ""} })
		h.tick()
		h.delete()
		h.tick()
		assert.Nil(t, h.remediation())
		assert.Empty(t, h.node().Spec.Taints)
		assert.Equal(t, v1alpha4.PowerStateOn, h.power.state)
	}
	for name, pause := range map[string]func(*remediationHarness){
		"Cluster": func(h *remediationHarness) {
			c := &clusterv1.Cluster{}
			require.NoError(h.t, h.api.Get(h.t.Context(), requestOf("c").NamespacedName, c))
			c.Spec.Paused = ptr.To(true)
			require.NoError(h.t, h.api.Update(h.t.Context(), c))
		},
		"object": func(h *remediationHarness) {
			r := h.remediation()
			metav1.SetMetaDataAnnotation(&r.ObjectMeta, infrastructure.PausedAnnotation, "")
			require.NoError(h.t, h.api.Update(h.t.Context(), r))
		},
	} {
		h := inPhase(t, v1alpha4.RemediationFencing)
		pause(h)
		h.delete()
		h.ticksFor(time.Hour)
		assert.NotNil(t, h.remediation(), name)
		assert.Zero(t, h.count("On"), name)
	}
}

// The request that sets the taint may be in flight although the taint is not there.
func TestRemediationDeletion_TaintInFlightIsRefused(t *testing.T) {
	t.Parallel()
	h := inPhase(t, v1alpha4.RemediationPoweringOff)
	r := h.remediation()
	r.Status.FencedNode = "m-node"
	require.NoError(t, h.api.Status().Update(t.Context(), r))
	before := h.node()
	h.delete()
	h.tick()
	require.Nil(t, h.remediation())
	late := before.DeepCopy()
	late.Spec.Taints = append(late.Spec.Taints, outOfService)
	err := h.workload.Patch(t.Context(), late, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	assert.True(t, apierrors.IsConflict(err), err)
	assert.Empty(t, h.node().Spec.Taints)
}

func (h *remediationHarness) nodeIsReady() {
	h.t.Helper()
	node := h.node()
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.NewTime(h.clock.Now())}}
	require.NoError(h.t, h.workload.Status().Update(h.t.Context(), node))
}

// Cluster API deletes the object the moment that the Node is ready.
func TestRemediationDeletion_RebootThatHelpedIsToldAndCounted(t *testing.T) {
	t.Parallel()
	h := inPhase(t, v1alpha4.RemediationWaiting)
	h.nodeIsReady()
	h.delete()
	h.effects, h.crashAfter = 0, 2
	h.tick()
	h.tick()
	assert.Nil(t, h.remediation())
	assert.Equal(t, reboot, h.steps)
	events := h.eventsOf(infrastructure.ReasonRemediated)
	require.LessOrEqual(t, len(events), 2, "of the object and of the Machine")

	h = inPhase(t, v1alpha4.RemediationWaiting)
	h.nodeIsReady()
	h.delete()
	h.tick()
	assert.Nil(t, h.remediation())
	assert.Equal(t, reboot, h.steps)
	events = h.eventsOf(infrastructure.ReasonRemediated)
	require.Len(t, events, 2)
	assert.Contains(t, events[0], "Node m-node is ready again (attempt 1 of 2)")

	h = inPhase(t, v1alpha4.RemediationWaiting)
	h.delete()
	h.tick()
	assert.Nil(t, h.remediation())
	assert.Empty(t, h.eventsOf(infrastructure.ReasonRemediated))
}

func TestRemediation_TaintThatStaysAfterTheEndIsToldOnce(t *testing.T) {
	t.Parallel()
	h := inPhase(t, v1alpha4.RemediationFencing)
	h.changeMetal(func(m *v1alpha4.MetalStackMachine) { m.Status.Metal.Phase = infrastructure.PhaseGone })
	h.workloadAway = true
	h.ticksFor(time.Hour)
	require.Equal(t, v1alpha4.RemediationFailed, h.remediation().Status.Phase)
	told := 0
	for _, e := range h.eventsOf(infrastructure.ReasonWorkloadClusterUnavailable) {
		if strings.Contains(e, "cannot be taken off Node m-node") {
			told++
		}
	}
	assert.Equal(t, 1, told)
	h.workloadAway = false
	h.ticksFor(time.Minute)
	assert.Empty(t, h.node().Spec.Taints)
}

func TestRemediation_ConnectionIsClosedWhenTheObjectIsGone(t *testing.T) {
	t.Parallel()
	h := newRemediationHarness(t)
	h.until(v1alpha4.RemediationSucceeded)
	h.tick()
	require.NotNil(t, h.r.connections.get(requestOf("m")))
	h.delete()
	require.Nil(t, h.remediation())
	h.tick()
	assert.Nil(t, h.r.connections.get(requestOf("m")))
}
