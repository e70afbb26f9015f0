// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// Two members of a control plane of five hang. The second to begin waits for the first, also between
// the attempts of that one, and not the reverse.
func TestRemediation_ControlPlaneMachineGoesOnBeforeOneThatHasNotBegun(t *testing.T) {
	t.Parallel()
	h := newRemediationHarness(t, controlPlaneMachine("m"), controlPlaneMachine("a"), controlPlaneMachine("cp-2"), controlPlaneMachine("cp-3"), controlPlaneMachine("cp-4"))
	h.hangs = true
	h.until(v1alpha4.RemediationWaiting)
	require.NoError(t, h.api.Create(t.Context(), remediationOf(func(r *v1alpha4.MetalStackRemediation) {
		r.Name, r.UID = "a", "another"
		r.OwnerReferences[0].Name, r.OwnerReferences[0].UID = "a", "uid-of-a"
	})))
	require.NoError(t, h.api.Status().Update(t.Context(), h.failed("a")))
	_, err := h.r.Reconcile(t.Context(), requestOf("a"))
	require.NoError(t, err)
	h.until(v1alpha4.RemediationPoweringOff, v1alpha4.RemediationFailed)
	assert.Equal(t, int32(2), h.remediation().Status.Attempt)
	assert.Zero(t, h.count("hand back"))
}

// The server crashed after it had sent an Off, and before it recorded that. What speaks against
// another Off says nothing of what the first one did.
func TestRemediation_MachineThatMayBeOffIsNotHeld(t *testing.T) {
	t.Parallel()
	crashed := func(t *testing.T, dead bool) *remediationHarness {
		h := newRemediationHarness(t)
		h.power.outcome, h.power.stateErr = v1alpha4.OperationRequested, nil
		h.power.silent, h.power.dead = ptr.To(metav1.NewTime(h.clock.Now())), dead
		h.until(v1alpha4.RemediationPoweringOff)
		h.tick()
		if !dead {
			h.power.state, h.power.switched = v1alpha4.PowerStateOff, h.clock.Now()
		}
		h.power.outcome = v1alpha4.OperationSent
		h.changeMachine(func(m *clusterv1.Machine) {
			m.Annotations = map[string]string{clusterv1.MachineSkipRemediationAnnotation: ""}
		})
		h.ticksFor(powerInFlight + time.Minute)
		require.Equal(t, []string{"Off"}, h.steps)
		require.Equal(t, v1alpha4.RemediationPoweringOff, h.remediation().Status.Phase)
		return h
	}
	t.Run("seen off", func(t *testing.T) {
		t.Parallel()
		h := crashed(t, false)
		h.power.silent = nil
		h.until(v1alpha4.RemediationSucceeded)
		assert.Equal(t, reboot, h.steps)
	})
	t.Run("not seen off", func(t *testing.T) {
		t.Parallel()
		h := crashed(t, true)
		h.power.dead = false
		h.until(v1alpha4.RemediationSucceeded)
		assert.Equal(t, []string{"Off", "On"}, h.steps)
	})
}

// The record of an Off is replaced by that of another user's request, which was refused.
func TestRemediation_RefusedRequestOfAnotherUserIsNoSecondOff(t *testing.T) {
	t.Parallel()
	h := inPhase(t, v1alpha4.RemediationPoweringOff)
	h.power.silent = ptr.To(metav1.NewTime(h.clock.Now()))
	h.clock.Step(2 * time.Second)
	h.operate(v1alpha4.PowerOn, "a-person's", v1alpha4.OperationRefused)
	h.ticksFor(4 * time.Minute)
	assert.Equal(t, []string{"Off"}, h.steps)
	h.until(v1alpha4.RemediationWaiting)
	assert.Equal(t, []string{"Off", "On"}, h.steps)
}

func TestRemediation_RefusedRequestOfAnotherUserDoesNotEndTheFencing(t *testing.T) {
	t.Parallel()
	h := inPhase(t, v1alpha4.RemediationFencing)
	h.operate(v1alpha4.PowerOn, "a-person's", v1alpha4.OperationRefused)
	h.ticksFor(time.Minute)
	assert.Equal(t, v1alpha4.RemediationFencing, h.remediation().Status.Phase)

	h = fencing(t)
	h.operate(v1alpha4.PowerOn, "a-person's", v1alpha4.OperationRefused)
	h.workloadAway = false
	h.until(v1alpha4.RemediationWaiting)
	assert.Equal(t, reboot[:3], h.steps)

	h = inPhase(t, v1alpha4.RemediationFencing)
	h.operate(v1alpha4.PowerOn, "a-person's", v1alpha4.OperationSent)
	h.tick()
	assert.NotEqual(t, v1alpha4.RemediationFencing, h.remediation().Status.Phase)
}

// An On of the attempt before would switch on a machine whose Node is fenced.
func TestRemediation_SuspendedManagerSwitchesNothingOn(t *testing.T) {
	t.Parallel()
	h := inPhase(t, v1alpha4.RemediationFencing)
	h.hangs = true
	h.power.outcome, h.power.dead, h.power.lost = v1alpha4.OperationUncertain, true, apierrors.NewTimeoutError("it may have been sent", 0)
	h.until(v1alpha4.RemediationWaiting)
	h.ticksFor(powerInFlight - 20*time.Second)
	h.clock.Step(time.Minute)
	h.power.outcome, h.power.dead, h.power.lost = v1alpha4.OperationSent, false, nil
	suspended, were := h.r, 0
	h.restart()
	h.power.onState = func() {
		require.NoError(t, h.workload.Create(t.Context(), podOn("m-node", "stuck-again")))
		h.until(v1alpha4.RemediationFencing)
		require.Equal(t, int32(2), h.remediation().Status.Attempt)
		were = h.count("On")
	}
	_, err := suspended.Reconcile(t.Context(), requestOf("m"))
	require.NoError(t, err)
	require.NotZero(t, were)
	assert.Equal(t, were, h.count("On"))
	assert.Equal(t, v1alpha4.PowerStateOff, h.power.state)
}

// The volumes of a Pod that has ended are detached, also if it tolerates the taint.
func TestRemediation_VolumesOfPodsThatHaveEndedAreWaitedFor(t *testing.T) {
	t.Parallel()
	h := newRemediationHarness(t)
	ended := podOn("m-node", "ended", corev1.Toleration{Operator: corev1.TolerationOpExists})
	ended.Status.Phase = corev1.PodSucceeded
	ended.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
	require.NoError(t, h.workload.Create(t.Context(), ended))
	require.NoError(t, h.workload.Create(t.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv-1"},
	}))
	attached := &storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: "pv-1"},
		Spec:       storagev1.VolumeAttachmentSpec{NodeName: "m-node", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: ptr.To("pv-1")}},
	}
	require.NoError(t, h.workload.Create(t.Context(), attached))
	h.until(v1alpha4.RemediationFencing)
	h.ticksFor(3 * time.Minute)
	require.Equal(t, v1alpha4.RemediationFencing, h.remediation().Status.Phase)
	require.NoError(t, h.workload.Delete(t.Context(), attached))
	h.ticksFor(10 * time.Second)
	assert.Equal(t, v1alpha4.RemediationWaiting, h.remediation().Status.Phase)
}

func TestRemediation_ObjectThatIsGoneIsForgotten(t *testing.T) {
	t.Parallel()
	h := newRemediationHarness(t)
	h.power.err = unavailable
	h.until(v1alpha4.RemediationPoweringOff)
	h.tick()
	h.r.warned.set(requestOf("m").NamespacedName, "uid-of-remediation", true)
	require.NotEmpty(t, h.r.unsent.keys)
	r := h.remediation()
	r.Finalizers = nil
	require.NoError(t, h.api.Update(t.Context(), r))
	h.delete()
	h.tick()
	assert.Empty(t, h.r.unsent.keys)
	assert.Empty(t, h.r.warned.keys)
	assert.Empty(t, h.r.undoing.keys)
}
