// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util"
	"sigs.k8s.io/cluster-api/util/annotations"
	"sigs.k8s.io/cluster-api/util/conditions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

const (
	// minControlPlane is the smallest control plane that bears that a machine is away.
	minControlPlane = 3
	// remediationInProgress is on a KubeadmControlPlane that replaces a machine.
	remediationInProgress = "controlplane.cluster.x-k8s.io/remediation-in-progress"
	kubeadmControlPlane   = "KubeadmControlPlane"
)

// controlPlaneConditions are the conditions of a Machine of a control plane, set by its
// provider, that are not other than True while it serves.
var controlPlaneConditions = []string{
	"APIServerPodHealthy", "ControllerManagerPodHealthy", "SchedulerPodHealthy", "EtcdPodHealthy", "EtcdMemberHealthy",
}

// waitForControlPlane waits until the control plane would bear that the machine is switched off, for
// the timeout: then it is left to the provider of the control plane, which has rules of its own.
func (r *remediationRun) waitForControlPlane(ctx context.Context, why string) (objection, error) {
	limit, restart := r.timeout(), r.waitedFor() != infrastructure.ReasonWaitingForControlPlane
	if phase := r.obj.Status.Phase; phase == v1alpha4.RemediationWaiting || phase == v1alpha4.RemediationSucceeded {
		// The phase is over already.
		limit, restart = 2*limit, r.waitedForOthers()
	}
	if restart {
		if err := r.restartPhase(ctx); err != nil {
			return objection{}, err
		}
	}
	if r.clock.Since(r.phaseBegan()) >= limit {
		return handBackFor(infrastructure.ReasonWaitingForControlPlane, "%s, for %s", why, r.timeout()), nil
	}
	return waitBefore(infrastructure.ReasonWaitingForControlPlane, "%s", why), nil
}

// controlPlaneObjection says why a machine of a control plane is not switched off: as many others
// as the quorum of etcd have to be healthy, and nothing else may be under way. "" if nothing is
// against it, or it is a worker.
func (r *remediationRun) controlPlaneObjection(ctx context.Context) (string, error) {
	if !util.IsControlPlaneMachine(r.machine) {
		return "", nil
	}
	list := &clusterv1.MachineList{}
	err := r.live.List(ctx, list, client.InNamespace(r.obj.Namespace),
		client.MatchingLabels{clusterv1.ClusterNameLabel: r.machine.Spec.ClusterName}, client.HasLabels{clusterv1.MachineControlPlaneLabel})
	if err != nil {
		return "", err
	}
	if len(list.Items) < minControlPlane {
		return fmt.Sprintf("The control plane has %d machines; it would not bear that one is switched off with fewer than %d", len(list.Items), minControlPlane), nil
	}
	healthy, unhealthy := 0, ""
	for i := range list.Items {
		other := &list.Items[i]
		if other.UID == r.machine.UID {
			continue
		}
		if why := isChanging(other); why != "" {
			return fmt.Sprintf("Machine %s of the control plane %s", other.Name, why), nil
		}
		switch why := unfitFor(other); {
		case why == "":
			healthy++
		case unhealthy == "":
			unhealthy = fmt.Sprintf("Machine %s of the control plane %s", other.Name, why)
		}
	}
	if healthy < len(list.Items)/2+1 {
		return unhealthy, nil
	}
	if why, err := r.otherRemediation(ctx); why != "" || err != nil {
		return why, err
	}
	return r.kubeadmObjection(ctx)
}

// isChanging says how the members of the control plane change; "" if they do not.
func isChanging(m *clusterv1.Machine) string {
	switch {
	case m.DeletionTimestamp != nil:
		return "is being deleted"
	case !m.Status.NodeRef.IsDefined():
		return "has no Node yet"
	case conditions.IsFalse(m, clusterv1.MachineOwnerRemediatedCondition):
		return "is to be replaced"
	}
	return ""
}

// unfitFor says why the control plane would not be left to a machine; "" if it may be.
func unfitFor(m *clusterv1.Machine) string {
	switch {
	case healthCheckFailure(m) != nil:
		return "has failed a health check"
	case !conditions.IsTrue(m, clusterv1.MachineNodeReadyCondition):
		return "has a Node that is not ready"
	}
	for _, kind := range controlPlaneConditions {
		c := conditions.Get(m, kind)
		switch {
		case c != nil && c.Status != metav1.ConditionTrue:
			return fmt.Sprintf("is not healthy: its condition %s is %s", kind, c.Status)
		case c == nil && kind == controlPlaneConditions[0] && ownerOfKind(m, kubeadmControlPlane) != nil:
			return fmt.Sprintf("has no condition %s yet", kind)
		}
	}
	return ""
}

func ownerOfKind(m *clusterv1.Machine, kind string) *metav1.OwnerReference {
	if c := metav1.GetControllerOf(m); c != nil && c.Kind == kind {
		return c
	}
	return nil
}

// otherRemediation says which other machine of the control plane is remediated.
func (r *remediationRun) otherRemediation(ctx context.Context) (string, error) {
	list := &v1alpha4.MetalStackRemediationList{}
	err := r.live.List(ctx, list, client.InNamespace(r.obj.Namespace), client.MatchingLabels{clusterv1.ClusterNameLabel: r.machine.Spec.ClusterName})
	if err != nil {
		return "", err
	}
	for i := range list.Items {
		other := &list.Items[i]
		if other.UID == r.obj.UID || !r.goesBefore(other) {
			continue
		}
		machine := &clusterv1.Machine{}
		err := r.live.Get(ctx, client.ObjectKeyFromObject(other), machine)
		if client.IgnoreNotFound(err) != nil {
			return "", err
		}
		if err == nil && util.IsControlPlaneMachine(machine) && (other.Status.Phase != "" || other.Status.PoweredOff || isToBeRemediated(machine)) {
			return fmt.Sprintf("Machine %s of the control plane is being remediated", machine.Name), nil
		}
	}
	return "", nil
}

// isToBeRemediated returns whether a remediation of a Machine would begin.
func isToBeRemediated(m *clusterv1.Machine) bool {
	return healthCheckFailure(m) != nil && !annotations.HasSkipRemediation(m) && !annotations.HasPaused(m)
}

// goesBefore returns whether another remediation is under way, or has to be before this one. Of
// those that have not begun, or could not see one another begin, it is the first by name. One that
// has not begun waits for one in Waiting, which may make another attempt, and not the reverse.
func (r *remediationRun) goesBefore(other *v1alpha4.MetalStackRemediation) bool {
	began, waiting := r.obj.Status.PoweredOff, r.obj.Status.Phase == v1alpha4.RemediationWaiting
	switch phase := other.Status.Phase; {
	case phase == v1alpha4.RemediationPoweringOff:
		return !began || other.Name < r.obj.Name
	case other.Status.PoweredOff:
		return true
	case phase == v1alpha4.RemediationWaiting:
		return !waiting || other.Name < r.obj.Name
	}
	return other.Status.Phase == "" && !began && !waiting && other.DeletionTimestamp == nil && other.Name < r.obj.Name
}

// kubeadmObjection says whether the KubeadmControlPlane that owns the Machine replaces another one.
func (r *remediationRun) kubeadmObjection(ctx context.Context) (string, error) {
	owner := ownerOfKind(r.machine, kubeadmControlPlane)
	if owner == nil {
		return "", nil
	}
	controlPlane := &unstructured.Unstructured{}
	controlPlane.SetAPIVersion(owner.APIVersion)
	controlPlane.SetKind(owner.Kind)
	err := r.live.Get(ctx, client.ObjectKey{Namespace: r.obj.Namespace, Name: owner.Name}, controlPlane)
	switch {
	case client.IgnoreNotFound(err) != nil:
		return "", err
	case err == nil && hasKey(controlPlane.GetAnnotations(), remediationInProgress):
		return fmt.Sprintf("%s %s is replacing a machine", owner.Kind, owner.Name), nil
	}
	return "", nil
}
