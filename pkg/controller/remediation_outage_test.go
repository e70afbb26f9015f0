// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// The workload cluster may not answer without the machine.
func TestRemediationDeletion_MachineIsSwitchedOnWithoutTheWorkloadCluster(t *testing.T) {
	t.Parallel()
	t.Run("deleted", func(t *testing.T) {
		t.Parallel()
		h := inPhase(t, v1alpha4.RemediationFencing)
		h.workloadAway = true
		h.delete()
		h.ticksFor(time.Minute)
		assert.Equal(t, v1alpha4.PowerStateOn, h.power.state)
		reason, _ := h.said()
		assert.Equal(t, infrastructure.ReasonWorkloadClusterUnavailable, reason)
		h.workloadAway = false
		h.ticksFor(time.Minute)
		assert.Nil(t, h.remediation())
		assert.Equal(t, reboot, h.steps)
	})
	t.Run("without its owner", func(t *testing.T) {
		t.Parallel()
		h := inPhase(t, v1alpha4.RemediationFencing)
		h.workloadAway = true
		r := h.remediation()
		r.OwnerReferences = nil
		require.NoError(t, h.api.Update(t.Context(), r))
		h.ticksFor(time.Minute)
		assert.Equal(t, v1alpha4.PowerStateOn, h.power.state)
	})
	t.Run("handed back", func(t *testing.T) {
		t.Parallel()
		h := newRemediationHarness(t, remediationOf(once))
		require.NoError(t, h.workload.Create(t.Context(), podOn("m-node", "stuck")))
		h.until(v1alpha4.RemediationFencing)
		h.tick()
		h.power.err = busy
		h.until(v1alpha4.RemediationFailed)
		h.workloadAway, h.power.err = true, nil
		r := h.remediation()
		r.Status.FencedNode = "m-node"
		require.NoError(t, h.api.Status().Update(t.Context(), r))
		h.ticksFor(time.Minute)
		assert.Equal(t, v1alpha4.PowerStateOn, h.power.state)
		assert.Equal(t, "m-node", h.remediation().Status.FencedNode)
		h.workloadAway = false
		h.ticksFor(time.Minute)
		assert.Empty(t, h.remediation().Finalizers)
	})
}

// A machine gets the whole timeout to boot.
func TestRemediation_TimeWithoutABootIsNoPartOfTheTimeout(t *testing.T) {
	t.Parallel()
	for name, play := range map[string]func(*testing.T) *remediationHarness{
		"On that was not certain": func(t *testing.T) *remediationHarness {
			h := inPhase(t, v1alpha4.RemediationFencing)
			h.power.outcome, h.power.dead, h.power.lost = v1alpha4.OperationUncertain, true, apierrors.NewTimeoutError("it may have been sent", 0)
			h.until(v1alpha4.RemediationWaiting)
			h.power.err, h.power.stateErr = busy, unavailable
			h.ticksFor(4*time.Minute + 30*time.Second)
			h.power.outcome, h.power.dead, h.power.lost, h.power.err, h.power.stateErr = v1alpha4.OperationSent, false, nil, nil, nil
			return h
		},
		"metal-api away": func(t *testing.T) *remediationHarness {
			h := inPhase(t, v1alpha4.RemediationFencing)
			h.power.err = busy
			h.until(v1alpha4.RemediationWaiting)
			h.power.err, h.power.stateErr = unavailable, unavailable
			h.ticksFor(time.Hour)
			h.power.err, h.power.stateErr = nil, nil
			return h
		},
		"workload cluster away": func(t *testing.T) *remediationHarness {
			h := inPhase(t, v1alpha4.RemediationWaiting)
			h.workloadAway, h.hangs = true, true
			h.ticksFor(time.Hour)
			// The machine has its Node reported only now.
			h.workloadAway, h.hangs, h.power.switched = false, false, h.clock.Now()
			return h
		},
		"reinstallation": func(t *testing.T) *remediationHarness {
			h := inPhase(t, v1alpha4.RemediationWaiting)
			reinstalling := func(status metav1.ConditionStatus) {
				h.changeMetal(func(m *v1alpha4.MetalStackMachine) {
					conditions.Set(m, metav1.Condition{Type: infrastructure.ConditionReinstalling, Status: status, Reason: infrastructure.ReasonReinstallInstalling})
				})
			}
			h.hangs = true
			reinstalling(metav1.ConditionTrue)
			h.ticksFor(time.Hour)
			reinstalling(metav1.ConditionFalse)
			h.hangs, h.power.switched = false, h.clock.Now()
			return h
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := play(t)
			require.Equal(t, v1alpha4.RemediationWaiting, h.remediation().Status.Phase)
			h.until(v1alpha4.RemediationSucceeded, v1alpha4.RemediationFailed)
			r := h.remediation()
			assert.Equal(t, v1alpha4.RemediationSucceeded, r.Status.Phase)
			assert.Equal(t, int32(1), r.Status.Attempt)
		})
	}
}

// An outage while the control plane is waited for after the Node is no part of the timeout either.
func TestRemediation_ControlPlaneIsWaitedForAfterAnOutage(t *testing.T) {
	t.Parallel()
	h := newRemediationHarness(t, controlPlaneMachine("m"), controlPlaneMachine("cp-1"), controlPlaneMachine("cp-2"))
	h.hangs = true
	h.until(v1alpha4.RemediationWaiting)
	h.power.stateErr = unavailable
	h.ticksFor(time.Hour)
	reason, _ := h.said()
	require.Equal(t, infrastructure.ReasonMetalAPIUnavailable, reason)
	require.NoError(t, h.api.Status().Update(t.Context(), h.failed("cp-1")))
	h.power.stateErr = nil
	h.ticksFor(4 * time.Minute)
	assert.Zero(t, h.count("hand back"))
	h.until(v1alpha4.RemediationFailed)
	assert.Equal(t, 1, h.count("hand back"))
}

// The timeout after which it is given up to switch a machine on begins when it could be asked to.
func TestRemediationDeletion_GivesUpOnlyAfterTheWholeTimeout(t *testing.T) {
	t.Parallel()
	for name, play := range map[string]func(*testing.T) *remediationHarness{
		"outage after it was handed back": func(t *testing.T) *remediationHarness {
			h := newRemediationHarness(t, remediationOf(once))
			h.until(v1alpha4.RemediationFencing)
			h.power.err = busy
			h.until(v1alpha4.RemediationFailed)
			h.power.err = unavailable
			h.ticksFor(20 * time.Minute)
			return h
		},
		"pause before": func(t *testing.T) *remediationHarness {
			h := inPhase(t, v1alpha4.RemediationPoweringOn)
			h.power.err = busy
			h.ticksFor(time.Minute)
			h.changeMachine(func(m *clusterv1.Machine) { m.Annotations = map[string]string{infrastructure.PausedAnnotation: ""} })
			h.ticksFor(20 * time.Minute)
			h.delete()
			return h
		},
		"pause meanwhile": func(t *testing.T) *remediationHarness {
			h := inPhase(t, v1alpha4.RemediationFencing)
			h.power.err = busy
			h.delete()
			h.ticksFor(time.Minute)
			pauseCluster(h, true)
			h.ticksFor(20 * time.Minute)
			pauseCluster(h, false)
			return h
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := play(t)
			h.power.err = busy
			h.ticksFor(3 * time.Minute)
			require.NotNil(t, h.remediation())
			require.True(t, h.remediation().Status.PoweredOff)
			h.power.err = nil
			h.ticksFor(time.Minute)
			assert.Equal(t, v1alpha4.PowerStateOn, h.power.state)
		})
	}
}

func pauseCluster(h *remediationHarness, paused bool) {
	h.t.Helper()
	c := &clusterv1.Cluster{}
	require.NoError(h.t, h.api.Get(h.t.Context(), requestOf("c").NamespacedName, c))
	c.Spec.Paused = ptr.To(paused)
	require.NoError(h.t, h.api.Update(h.t.Context(), c))
}
