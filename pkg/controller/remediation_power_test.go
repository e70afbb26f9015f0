// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// heldUp is a harness whose remediation has begun, and could not have the machine switched off.
func heldUp(t *testing.T) *remediationHarness {
	t.Helper()
	h := newRemediationHarness(t)
	h.power.err = unavailable
	h.until(v1alpha4.RemediationPoweringOff)
	h.ticksFor(time.Hour)
	require.Equal(t, v1alpha4.RemediationPoweringOff, h.remediation().Status.Phase)
	require.Empty(t, h.steps)
	h.power.err = nil
	return h
}

// eventsOf are the Events with a reason.
func (h *remediationHarness) eventsOf(reason string) (notes []string) {
	for {
		select {
		case e := <-h.events.Events:
			if strings.Contains(e, " "+reason+" ") {
				notes = append(notes, e)
			}
		default:
			return notes
		}
	}
}

func TestRemediation_IsAssessedAgainBeforeTheMachineIsSwitchedOff(t *testing.T) {
	t.Parallel()
	t.Run("healthy meanwhile", func(t *testing.T) {
		t.Parallel()
		h := heldUp(t)
		h.changeMachine(func(m *clusterv1.Machine) { setHealth(m, metav1.ConditionTrue) })
		h.ticksFor(time.Hour)
		reason, _ := h.said()
		assert.Equal(t, infrastructure.ReasonWaitingForMachine, reason)
		assert.Empty(t, h.steps)
		h.changeMachine(func(m *clusterv1.Machine) { setHealth(m, metav1.ConditionFalse) })
		h.until(v1alpha4.RemediationSucceeded)
		assert.Equal(t, reboot, h.steps)
	})
	t.Run("crash loop meanwhile", func(t *testing.T) {
		t.Parallel()
		h := heldUp(t)
		h.changeMetal(func(m *v1alpha4.MetalStackMachine) { m.Status.Metal.CrashLoop = true })
		h.until(v1alpha4.RemediationFailed)
		assert.Zero(t, h.count("Off"))
		assert.Equal(t, 1, h.count("hand back"))
	})
	t.Run("quorum lost meanwhile", func(t *testing.T) {
		t.Parallel()
		h := newRemediationHarness(t, controlPlaneMachine("m"), controlPlaneMachine("cp-1"), controlPlaneMachine("cp-2"))
		h.power.err = unavailable
		h.until(v1alpha4.RemediationPoweringOff)
		h.tick()
		require.NoError(t, h.api.Status().Update(t.Context(), h.failed("cp-1")))
		h.power.err = nil
		h.ticksFor(4 * time.Minute)
		reason, _ := h.said()
		assert.Equal(t, infrastructure.ReasonWaitingForControlPlane, reason)
		assert.Zero(t, h.count("Off"))
	})
	t.Run("timeout begins with the request", func(t *testing.T) {
		t.Parallel()
		h := heldUp(t)
		h.power.silent = ptr.To(metav1.NewTime(h.clock.Now()))
		h.ticksFor(4 * time.Minute)
		assert.Equal(t, []string{"Off"}, h.steps)
		assert.Equal(t, v1alpha4.RemediationPoweringOff, h.remediation().Status.Phase)
		h.power.silent = nil
		h.until(v1alpha4.RemediationSucceeded)
		assert.Equal(t, reboot, h.steps)
	})
}

// failed is a Machine of the API whose health check has failed.
func (h *remediationHarness) failed(name string) *clusterv1.Machine {
	h.t.Helper()
	m := &clusterv1.Machine{}
	require.NoError(h.t, h.api.Get(h.t.Context(), requestOf(name).NamespacedName, m))
	setHealth(m, metav1.ConditionFalse)
	return m
}

func TestRemediation_SuspendedManagerSendsNothingOld(t *testing.T) {
	t.Parallel()
	h := heldUp(t)
	suspended := h.r
	h.restart()
	h.power.onState = func() { h.until(v1alpha4.RemediationSucceeded) }
	_, err := suspended.Reconcile(t.Context(), requestOf("m"))
	require.NoError(t, err)
	h.ticksFor(time.Minute)
	assert.Equal(t, reboot, h.steps)
	assert.Equal(t, v1alpha4.PowerStateOn, h.power.state)
}

// fencing is a harness whose remediation has seen the machine off, and could not fence the Node yet.
func fencing(t *testing.T) *remediationHarness {
	t.Helper()
	h := inPhase(t, v1alpha4.RemediationPoweringOff)
	h.workloadAway, h.hangs = true, true
	h.until(v1alpha4.RemediationFencing)
	return h
}

func TestRemediation_FencesNoMachineThatMayBeOnMeanwhile(t *testing.T) {
	t.Parallel()
	t.Run("switched on by a button", func(t *testing.T) {
		t.Parallel()
		h := fencing(t)
		h.power.state, h.workloadAway = v1alpha4.PowerStateOn, false
		h.until(v1alpha4.RemediationWaiting)
		assert.Equal(t, []string{"Off", "On"}, h.steps)
	})
	t.Run("its kubelet reports", func(t *testing.T) {
		t.Parallel()
		h := fencing(t)
		h.power.silent = ptr.To(metav1.NewTime(h.clock.Now()))
		h.clock.Step(2 * time.Second)
		node := h.node()
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.NewTime(h.clock.Now())}}
		require.NoError(t, h.workload.Status().Update(t.Context(), node))
		h.workloadAway = false
		h.until(v1alpha4.RemediationWaiting)
		assert.NotContains(t, h.steps, "taint")
	})
	t.Run("still off", func(t *testing.T) {
		t.Parallel()
		h := fencing(t)
		h.workloadAway = false
		h.until(v1alpha4.RemediationWaiting)
		assert.Equal(t, reboot[:3], h.steps)
	})
}

// A proxy says that it did not reach the server also when the request was made.
func TestRemediation_LostAnswerIsNoSecondOffAgainstAnotherUser(t *testing.T) {
	t.Parallel()
	h := newRemediationHarness(t)
	h.power.silent = ptr.To(metav1.NewTime(h.clock.Now()))
	h.power.lost = unreached
	h.until(v1alpha4.RemediationPoweringOff)
	h.tick()
	h.tick()
	h.operate(v1alpha4.PowerOn, "a-person's", v1alpha4.OperationSent)
	h.power.lost = nil
	h.ticksFor(time.Minute)
	assert.Equal(t, []string{"Off"}, h.steps)
}

// What the server itself says that it did not send is sent, whatever another user asked for.
func TestRemediation_BusyMachineIsSwitchedOffLater(t *testing.T) {
	t.Parallel()
	for _, err := range []error{busy, unavailable, webhookAway, notReady} {
		h := newRemediationHarness(t)
		h.power.err = err
		h.until(v1alpha4.RemediationPoweringOff)
		h.clock.Step(2 * time.Second)
		h.operate(v1alpha4.PowerOn, "a-person's", v1alpha4.OperationSent)
		h.power.err = nil
		h.until(v1alpha4.RemediationSucceeded)
		assert.Equal(t, reboot, h.steps)
	}
}

func once(r *v1alpha4.MetalStackRemediation) {
	r.Spec.Strategy.RetryLimit, r.Spec.Strategy.Timeout.Duration = 1, time.Minute
}

func TestRemediation_IsNotLeftOff(t *testing.T) {
	t.Parallel()
	for _, err := range []error{busy, unavailable} {
		h := newRemediationHarness(t, remediationOf(once), unhealthyMachine())
		h.until(v1alpha4.RemediationFencing)
		h.power.err = err
		h.ticksFor(90 * time.Second)
		require.True(t, h.remediation().Status.PoweredOff)
		require.Equal(t, v1alpha4.PowerStateOff, h.power.state)
		h.power.err = nil
		h.tick()
		h.ticksFor(30 * time.Second)
		assert.Equal(t, 1, h.count("On"))
		assert.Equal(t, v1alpha4.PowerStateOn, h.power.state)
		assert.False(t, h.remediation().Status.PoweredOff)
	}
	t.Run("handed back", func(t *testing.T) {
		t.Parallel()
		h := newRemediationHarness(t, remediationOf(once))
		h.until(v1alpha4.RemediationFencing)
		h.power.err = busy
		h.until(v1alpha4.RemediationFailed)
		require.Equal(t, v1alpha4.PowerStateOff, h.power.state)
		h.power.err = nil
		h.ticksFor(30 * time.Second)
		assert.Equal(t, v1alpha4.PowerStateOn, h.power.state)
		assert.Empty(t, h.remediation().Finalizers)
		assert.NotContains(t, h.remediation().Annotations, infrastructure.BlockMoveAnnotation)
	})
	t.Run("handed back, and busy for good", func(t *testing.T) {
		t.Parallel()
		h := newRemediationHarness(t, remediationOf(once))
		h.until(v1alpha4.RemediationFencing)
		h.power.err = busy
		h.until(v1alpha4.RemediationFailed)
		h.ticksFor(10 * time.Minute)
		assert.Empty(t, h.remediation().Finalizers)
		reason, _ := h.said()
		assert.Equal(t, infrastructure.ReasonRetriesExhausted, reason)
		assert.True(t, slices.ContainsFunc(h.eventsOf(infrastructure.ReasonPowerRefused), func(e string) bool { return strings.Contains(e, "Machine machine-1 may be off") }))
	})
}

func TestRemediation_MachineThatIsSwitchedOffByHandStaysOff(t *testing.T) {
	t.Parallel()
	h := inPhase(t, v1alpha4.RemediationWaiting)
	h.power.state = v1alpha4.PowerStateOff
	h.ticksFor(4 * time.Minute)
	assert.Equal(t, 1, h.count("On"))
}

// What is shown while the metal-api is away is what was so before.
func TestRemediation_MetalAPIAwayHandsNothingBack(t *testing.T) {
	t.Parallel()
	for away, play := range map[string]func(*remediationHarness, bool){
		"stale": func(h *remediationHarness, away bool) { h.stale = away },
		"no power state": func(h *remediationHarness, away bool) {
			if h.power.stateErr = nil; away {
				h.power.stateErr = unavailable
			}
		},
	} {
		for name, change := range map[string]func(*remediationHarness){
			"Gone": func(h *remediationHarness) {
				h.changeMetal(func(m *v1alpha4.MetalStackMachine) { m.Status.Metal.Phase = infrastructure.PhaseGone })
			},
			"crash loop": func(h *remediationHarness) {
				h.changeMetal(func(m *v1alpha4.MetalStackMachine) { m.Status.Metal.CrashLoop = true })
			},
			"never joined": func(h *remediationHarness) {
				h.changeMachine(func(m *clusterv1.Machine) { m.Status.NodeRef.Name = "" })
			},
			"Node gone": func(h *remediationHarness) { require.NoError(h.t, h.workload.Delete(h.t.Context(), h.node())) },
			"healthy":   func(*remediationHarness) {},
		} {
			t.Run(away+"/"+name, func(t *testing.T) {
				t.Parallel()
				h := newRemediationHarness(t)
				play(h, true)
				change(h)
				h.ticksFor(time.Hour)
				reason, _ := h.said()
				assert.Equal(t, infrastructure.ReasonMetalAPIUnavailable, reason)
				assert.Empty(t, h.steps)
				assert.Zero(t, h.remediation().Status.Attempt)
				play(h, false)
				h.until(v1alpha4.RemediationFailed, v1alpha4.RemediationSucceeded)
			})
		}
		t.Run(away+"/Gone in an attempt", func(t *testing.T) {
			t.Parallel()
			h := inPhase(t, v1alpha4.RemediationFencing)
			h.changeMetal(func(m *v1alpha4.MetalStackMachine) { m.Status.Metal.Phase = infrastructure.PhaseGone })
			play(h, true)
			h.ticksFor(time.Hour)
			assert.Zero(t, h.count("hand back"))
			play(h, false)
			h.until(v1alpha4.RemediationFailed)
		})
	}
}

func TestRemediation_MachineThatWasHandedBackIsNotRebooted(t *testing.T) {
	t.Parallel()
	h := newRemediationHarness(t, unhealthyMachine(func(m *clusterv1.Machine) {
		conditions.Set(m, metav1.Condition{Type: clusterv1.MachineOwnerRemediatedCondition, Status: metav1.ConditionFalse, Reason: clusterv1.MachineOwnerRemediatedWaitingForRemediationReason})
	}))
	assert.Equal(t, v1alpha4.RemediationFailed, h.tick())
	h.ticksFor(time.Hour)
	reason, _ := h.said()
	assert.Equal(t, infrastructure.ReasonHandedBack, reason)
	assert.Empty(t, h.steps)
}

// A reinstallation that was asked for just now is not observed yet.
func TestRemediation_WaitsForAReinstallationThatBegins(t *testing.T) {
	t.Parallel()
	h := newRemediationHarness(t)
	h.operate(v1alpha4.OperationReinstall, "a-person's", v1alpha4.OperationSent)
	h.ticksFor(powerInFlight - 10*time.Second)
	reason, _ := h.said()
	assert.Equal(t, infrastructure.ReasonReinstalling, reason)
	assert.Empty(t, h.steps)
	h.until(v1alpha4.RemediationSucceeded)

	h = newRemediationHarness(t)
	h.operate(v1alpha4.OperationReinstall, "a-person's", v1alpha4.OperationRefused)
	h.until(v1alpha4.RemediationSucceeded)
}

// A machine that is marked for a reinstallation, and does not begin it, is rebooted after the
// timeout; one whose installation is in a crash loop is handed back.
func TestRemediation_OfAReinstallationThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	reinstalling := func(h *remediationHarness, reason string, crashLoop bool) {
		h.changeMetal(func(m *v1alpha4.MetalStackMachine) {
			m.Status.Metal.CrashLoop = crashLoop
			conditions.Set(m, metav1.Condition{Type: infrastructure.ConditionReinstalling, Status: metav1.ConditionTrue, Reason: reason, LastTransitionTime: metav1.NewTime(h.clock.Now())})
		})
	}
	h := newRemediationHarness(t)
	reinstalling(h, infrastructure.ReasonReinstallMarked, false)
	timeout := h.remediation().Spec.Strategy.Timeout.Duration
	h.ticksFor(timeout - time.Minute)
	reason, _ := h.said()
	assert.Equal(t, infrastructure.ReasonReinstalling, reason)
	assert.Empty(t, h.steps)
	h.until(v1alpha4.RemediationSucceeded)
	assert.Equal(t, reboot, h.steps)

	h = newRemediationHarness(t)
	reinstalling(h, infrastructure.ReasonReinstallInstalling, false)
	h.ticksFor(2 * timeout)
	assert.Empty(t, h.steps)

	h = newRemediationHarness(t)
	reinstalling(h, infrastructure.ReasonCrashLoop, true)
	assert.Equal(t, v1alpha4.RemediationFailed, h.tick())
	assert.Equal(t, []string{"hand back"}, h.steps)
}

// A control plane of five bears that two hang: they are rebooted one after the other.
func TestRemediation_ControlPlaneOfFiveWithTwoThatHang(t *testing.T) {
	t.Parallel()
	fails := func(m *clusterv1.Machine) { setHealth(m, metav1.ConditionFalse) }
	members := func(hung string) []client.Object {
		return []client.Object{
			controlPlaneMachine("m"), controlPlaneMachine(hung, fails), controlPlaneMachine("cp-2"), controlPlaneMachine("cp-3"), controlPlaneMachine("cp-4"),
			remediationOf(func(r *v1alpha4.MetalStackRemediation) { r.Name, r.UID = hung, "another" }),
		}
	}
	h := newRemediationHarness(t, members("z")...)
	h.until(v1alpha4.RemediationSucceeded)
	assert.Equal(t, reboot, h.steps)

	h = newRemediationHarness(t, members("a")...)
	h.ticksFor(4 * time.Minute)
	_, message := h.said()
	assert.Contains(t, message, "Machine a of the control plane is being remediated")
	h.until(v1alpha4.RemediationFailed)
	assert.Equal(t, []string{"hand back"}, h.steps)

	h = newRemediationHarness(t, append(members("z"), controlPlaneMachine("cp-2", fails))...)
	h.until(v1alpha4.RemediationFailed)
	assert.Equal(t, []string{"hand back"}, h.steps, "there is no quorum without it")
}

// The volumes of a Pod that tolerates the taint are not detached.
func TestRemediation_VolumesOfPodsThatStayAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	h := newRemediationHarness(t)
	stays := podOn("m-node", "stays", corev1.Toleration{Operator: corev1.TolerationOpExists})
	stays.Spec.Volumes = []corev1.Volume{
		{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}},
		{Name: "scratch", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}},
	}
	require.NoError(t, h.workload.Create(t.Context(), stays))
	for claim, volume := range map[string]string{"data": "pv-1", "stays-scratch": "pv-2"} {
		require.NoError(t, h.workload.Create(t.Context(), &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: claim}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: volume},
		}))
		require.NoError(t, h.workload.Create(t.Context(), &storagev1.VolumeAttachment{
			ObjectMeta: metav1.ObjectMeta{Name: volume},
			Spec:       storagev1.VolumeAttachmentSpec{NodeName: "m-node", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: ptr.To(volume)}},
		}))
	}
	h.until(v1alpha4.RemediationPoweringOff)
	began := h.clock.Now()
	h.until(v1alpha4.RemediationWaiting)
	assert.Equal(t, reboot[:3], h.steps)
	assert.Less(t, h.clock.Since(began), 2*time.Minute)
}
