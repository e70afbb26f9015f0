// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util"
	"sigs.k8s.io/cluster-api/util/annotations"
	"sigs.k8s.io/cluster-api/util/conditions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// resolve finds the Machine that owns the remediation and has its name, its Cluster, and its
// machine, all of them as the servers know them now.
func (r *remediationRun) resolve(ctx context.Context) error {
	for _, ref := range r.obj.OwnerReferences {
		if ref.Kind != "Machine" || !isClusterAPI(ref.APIVersion) || ref.Name != r.obj.Name {
			continue
		}
		machine := &clusterv1.Machine{}
		err := r.live.Get(ctx, client.ObjectKey{Namespace: r.obj.Namespace, Name: ref.Name}, machine)
		if client.IgnoreNotFound(err) != nil {
			return err
		}
		if err == nil && machine.UID == ref.UID {
			r.machine = machine
		}
	}
	if name := r.clusterName(); name != "" {
		cluster, err := util.GetClusterByName(ctx, r.live, r.obj.Namespace, name)
		switch {
		case err == nil:
			r.cluster = cluster
		case !apierrors.IsNotFound(err):
			return err
		}
	}
	return r.readMetal(ctx)
}

// readMetal reads the machine from the server, and whether that could observe it.
func (r *remediationRun) readMetal(ctx context.Context) error {
	name := r.metalName()
	r.metal, r.stale = nil, false
	if name == "" {
		return nil
	}
	metal := &v1alpha4.MetalStackMachine{}
	withWarnings, stale := watchForStaleReads(ctx)
	err := r.live.Get(withWarnings, client.ObjectKey{Namespace: r.obj.Namespace, Name: name}, metal)
	if err == nil {
		r.metal, r.stale = metal, stale()
	}
	return client.IgnoreNotFound(err)
}

// metalAPIAway says why what the server shows of the machine may be no more so; "" if it is known.
func (r *remediationRun) metalAPIAway(ctx context.Context) string {
	switch {
	case r.metal == nil:
		return ""
	case r.stale:
		return "The server shows what it observed of the machine before"
	}
	if _, err := r.power.state(ctx, r.metal); err != nil && (powerAnswerOf(err) == powerUnavailable || apierrors.IsTooManyRequests(err)) {
		return fmt.Sprintf("The power state of the machine cannot be read: %v", err)
	}
	return ""
}

// clusterName is the name of the Cluster.
func (r *remediationRun) clusterName() string {
	if r.machine != nil {
		return r.machine.Spec.ClusterName
	}
	return r.obj.Labels[infrastructure.ClusterNameLabel]
}

// metalName is the name of the MetalStackMachine; empty if there is none.
func (r *remediationRun) metalName() string {
	if m := r.obj.Status.Machine; m != nil && m.Name != "" {
		return m.Name
	}
	if r.machine == nil || r.machine.Spec.InfrastructureRef.APIGroup != v1alpha4.GroupName || r.machine.Spec.InfrastructureRef.Kind != machines.kind {
		return ""
	}
	return r.machine.Spec.InfrastructureRef.Name
}

func allocationUUID(m *v1alpha4.MetalStackMachine) string {
	if a := m.Status.Allocation; a != nil {
		return a.AllocationUUID
	}
	return ""
}

func machineID(m *v1alpha4.MetalStackMachine) string {
	if a := m.Status.Allocation; a != nil {
		return a.MachineID
	}
	return m.Name
}

// healthCheckFailure returns the condition of a health check that a Machine has failed; nil if
// it has failed none.
func healthCheckFailure(m *clusterv1.Machine) *metav1.Condition {
	if c := conditions.Get(m, clusterv1.MachineHealthCheckSucceededCondition); c != nil && c.Status == metav1.ConditionFalse {
		return c
	}
	return nil
}

// isRequestedByAnnotation returns whether a person asked for the remediation, by an annotation that
// stays although the Machine is healthy.
func isRequestedByAnnotation(failed *metav1.Condition) bool {
	return failed.Reason == clusterv1.MachineHealthCheckHasRemediateAnnotationReason
}

// An objection is why no attempt begins; one with handBack is for good.
type objection struct {
	wait     wait
	handBack bool
}

func waitBefore(reason, format string, args ...any) objection {
	return objection{wait: waitFor(remediationRetryInterval, reason, format, args...)}
}

func handBackFor(reason, format string, args ...any) objection {
	return objection{wait: waitFor(0, reason, format, args...), handBack: true}
}

// assess returns what there is against an attempt.
func (r *remediationRun) assess(ctx context.Context) (objection, error) {
	switch {
	case healthCheckFailure(r.machine) == nil:
		if r.isStale() {
			return objection{}, r.deleteStale(ctx)
		}
		return waitBefore(infrastructure.ReasonWaitingForMachine, "The Machine has not failed a health check: its condition %s is not False", clusterv1.MachineHealthCheckSucceededCondition), nil
	case conditions.IsFalse(r.machine, clusterv1.MachineOwnerRemediatedCondition):
		return handBackFor(infrastructure.ReasonHandedBack, "this was done before: the Machine's condition %s is False", clusterv1.MachineOwnerRemediatedCondition), nil
	case annotations.HasSkipRemediation(r.machine):
		return waitBefore(infrastructure.ReasonWaitingForMachine, "The Machine has the annotation %s", clusterv1.MachineSkipRemediationAnnotation), nil
	case r.metalName() == "":
		return waitBefore(infrastructure.ReasonWaitingForMachine, "The Machine has no MetalStackMachine"), nil
	case r.metal != nil && r.metal.DeletionTimestamp != nil:
		return waitBefore(infrastructure.ReasonMachineDeleting, "MetalStackMachine %s is being deleted", r.metal.Name), nil
	case r.metal != nil && !metav1.IsControlledBy(r.metal, r.machine):
		return waitBefore(infrastructure.ReasonWaitingForMachine, "The Machine does not own MetalStackMachine %s", r.metal.Name), nil
	}
	if why := r.lostMetal(); why != "" {
		return handBackFor(infrastructure.ReasonMachineGone, "%s", why), nil
	}
	switch metal := r.metal.Status.Metal; {
	case !r.machine.Status.NodeRef.IsDefined():
		return handBackFor(infrastructure.ReasonNodeNeverJoined, "The Machine never had a Node: its user data would not run again after a reboot"), nil
	case r.isReinstalled():
		return waitBefore(infrastructure.ReasonReinstalling, "The machine is being reinstalled"), nil
	case metal == nil || metal.Phase == infrastructure.PhaseUnknown:
		return waitBefore(infrastructure.ReasonMetalAPIUnavailable, "The machine was not observed yet"), nil
	case metal.CrashLoop:
		return handBackFor(infrastructure.ReasonMachineCrashLoop, "The machine is in a crash loop"), nil
	}
	switch node, err := r.node(ctx); {
	case err != nil:
		return waitBefore(infrastructure.ReasonWorkloadClusterUnavailable, "%s", describeConnectError(err)), nil
	case node == nil:
		return handBackFor(infrastructure.ReasonNodeGone, "Node %s is gone", r.machine.Status.NodeRef.Name), nil
	}
	why, err := r.controlPlaneObjection(ctx)
	switch {
	case err != nil:
		return objection{}, err
	case why != "":
		return r.waitForControlPlane(ctx, why)
	case r.stale:
		return waitBefore(infrastructure.ReasonMetalAPIUnavailable, "%s", r.metalAPIAway(ctx)), nil
	}
	if _, err := r.power.state(ctx, r.metal); err != nil {
		return waitBefore(infrastructure.ReasonMetalAPIUnavailable, "The power state of the machine cannot be read: %v", err), nil
	}
	return objection{}, nil
}

// isStale returns whether the remediation has waited in vain for a failed health check. Cluster API
// creates it before it writes the condition, and does not write that any more once it is there.
func (r *remediationRun) isStale() bool {
	return r.obj.Status.Attempt == 0 && r.clock.Since(r.obj.CreationTimestamp.Time) >= staleRemediation
}

// deleteStale has Cluster API begin again, if the Machine is not healthy.
func (r *remediationRun) deleteStale(ctx context.Context) error {
	r.gone = true
	r.event(corev1.EventTypeNormal, infrastructure.ReasonWaitingForMachine, "Deletes the remediation: the Machine has not failed a health check since it was created")
	return r.live.Delete(ctx, r.obj, client.Preconditions{UID: &r.obj.UID, ResourceVersion: &r.obj.ResourceVersion})
}

// lostMetal says why there is no machine to reboot any more; "" if there is.
func (r *remediationRun) lostMetal() string {
	began := r.obj.Status.Machine
	switch {
	case r.metal == nil:
		return fmt.Sprintf("MetalStackMachine %s is gone", r.metalName())
	case !r.stale && r.metal.Status.Metal != nil && r.metal.Status.Metal.Phase == infrastructure.PhaseGone:
		return fmt.Sprintf("The machine of MetalStackMachine %s is gone", r.metal.Name)
	case allocationOf(r.metal).Phase != v1alpha4.AllocationAllocated:
		return fmt.Sprintf("MetalStackMachine %s holds no machine", r.metal.Name)
	case began != nil && began.AllocationUUID != allocationUUID(r.metal):
		return fmt.Sprintf("MetalStackMachine %s has another machine, or another allocation of it, than when the remediation began", r.metal.Name)
	}
	return ""
}

// checkMetal ends an attempt whose machine is gone.
func (r *remediationRun) checkMetal(ctx context.Context) (lost, again bool, err error) {
	if r.metal != nil && r.metal.DeletionTimestamp != nil {
		again, err = r.retry(infrastructure.ReasonMachineDeleting, "MetalStackMachine %s is being deleted", r.metal.Name)
		return true, again, err
	}
	why := r.lostMetal()
	if why == "" {
		return false, false, nil
	}
	again, err = r.handBack(ctx, infrastructure.ReasonMachineGone, why)
	return true, again, err
}

// handBack has the owner of the Machine replace it, by the condition that Cluster API's contract
// for external remediation says. It does so before that is recorded: twice is as once. With a
// metal-api that does not answer nothing is handed back.
func (r *remediationRun) handBack(ctx context.Context, reason, message string) (bool, error) {
	if away := r.metalAPIAway(ctx); away != "" {
		return r.retry(infrastructure.ReasonMetalAPIUnavailable, "%s", away)
	}
	if c := conditions.Get(r.machine, clusterv1.MachineOwnerRemediatedCondition); c == nil || c.Status != metav1.ConditionFalse {
		before := r.machine.DeepCopy()
		conditions.Set(r.machine, metav1.Condition{
			Type: clusterv1.MachineOwnerRemediatedCondition, Status: metav1.ConditionFalse, Reason: clusterv1.MachineOwnerRemediatedWaitingForRemediationReason,
			Message: "MetalStackRemediation gave up: " + message, LastTransitionTime: metav1.NewTime(r.clock.Now()),
		})
		err := r.live.Status().Patch(ctx, r.machine, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
		if err != nil {
			return false, err
		}
	}
	err := r.enter(ctx, v1alpha4.RemediationFailed, func(s *v1alpha4.MetalStackRemediationStatus) {
		if r.metal == nil || r.lostMetal() != "" {
			// There is nothing to switch on.
			s.PoweredOff = false
		}
		r.setCondition(s, metav1.Condition{Type: infrastructure.ConditionRemediated, Status: metav1.ConditionFalse, Reason: reason, Message: "Handed back to be replaced: " + message})
	})
	if err != nil {
		return false, err
	}
	r.machineEvent(corev1.EventTypeWarning, reason, "Handed the Machine back to its owner to be replaced: "+message)
	remediations.WithLabelValues(resultHandedBack).Inc()
	return true, nil
}

// leaveMachine does nothing for a Machine that is being deleted, and undoes what was done for one
// that the remediation does not belong to any more.
func leaveMachine(ctx context.Context, r *remediationRun) (bool, error) {
	if r.machine != nil {
		return r.retry(infrastructure.ReasonMachineDeleting, "The Machine is being deleted")
	}
	if done, err := r.undoChanges(ctx); err != nil || !done {
		return false, err
	}
	if err := r.release(ctx); err != nil {
		return false, err
	}
	return r.retry(infrastructure.ReasonWaitingForMachine, "No Machine of the name %s owns this object", cmp.Or(r.obj.Name, "?"))
}
