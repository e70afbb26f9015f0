// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// record writes the status, if nothing else has changed the object since it was read.
func (r *remediationRun) record(ctx context.Context, change func(*v1alpha4.MetalStackRemediationStatus)) error {
	before := r.obj.DeepCopy()
	change(&r.obj.Status)
	if apiequality.Semantic.DeepEqual(before.Status, r.obj.Status) {
		return nil
	}
	err := r.live.Status().Patch(ctx, r.obj, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	if err != nil {
		r.obj = before
	}
	return err
}

// enter records that a phase begins, and what else changes with it.
func (r *remediationRun) enter(ctx context.Context, phase v1alpha4.RemediationPhase, change func(*v1alpha4.MetalStackRemediationStatus)) error {
	return r.record(ctx, func(s *v1alpha4.MetalStackRemediationStatus) {
		now := metav1.NewTime(r.clock.Now())
		s.Phase, s.PhaseTime = phase, &now
		if change != nil {
			change(s)
		}
	})
}

// hold puts the finalizer on the object, and has `clusterctl move` wait: a status does not
// move, and so what is to be undone would be forgotten.
func (r *remediationRun) hold(ctx context.Context) error {
	return r.patchMetadata(ctx, func(obj *v1alpha4.MetalStackRemediation) {
		controllerutil.AddFinalizer(obj, infrastructure.RemediationFinalizer)
		if !hasKey(obj.Annotations, infrastructure.BlockMoveAnnotation) {
			metav1.SetMetaDataAnnotation(&obj.ObjectMeta, infrastructure.BlockMoveAnnotation, moveBlocker)
		}
	})
}

// release takes both off.
func (r *remediationRun) release(ctx context.Context) error {
	return r.patchMetadata(ctx, func(obj *v1alpha4.MetalStackRemediation) {
		controllerutil.RemoveFinalizer(obj, infrastructure.RemediationFinalizer)
		if obj.Annotations[infrastructure.BlockMoveAnnotation] == moveBlocker {
			delete(obj.Annotations, infrastructure.BlockMoveAnnotation)
		}
	})
}

func (r *remediationRun) patchMetadata(ctx context.Context, change func(*v1alpha4.MetalStackRemediation)) error {
	before := r.obj.DeepCopy()
	change(r.obj)
	if apiequality.Semantic.DeepEqual(before.ObjectMeta, r.obj.ObjectMeta) {
		return nil
	}
	err := r.live.Patch(ctx, r.obj, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	if err != nil {
		r.obj = before
	}
	return err
}

// patchConditions writes what is waited for.
func (r *remediationRun) patchConditions(ctx context.Context) error {
	paused := metav1.Condition{Type: infrastructure.ConditionPaused, Status: metav1.ConditionFalse, Reason: infrastructure.ReasonNotPaused}
	var remediated *metav1.Condition
	switch {
	case r.wait.reason == infrastructure.ReasonPaused:
		paused.Status, paused.Reason, paused.Message = metav1.ConditionTrue, r.wait.reason, r.wait.message
	case r.wait.reason != "":
		remediated = &metav1.Condition{Status: metav1.ConditionFalse, Reason: r.wait.reason, Message: r.wait.message}
	}
	changed := false
	err := r.record(ctx, func(s *v1alpha4.MetalStackRemediationStatus) {
		r.setCondition(s, paused)
		if remediated != nil {
			remediated.Type = infrastructure.ConditionRemediated
			changed = r.setCondition(s, *remediated)
		}
	})
	if err == nil && changed && warnsOfRemediation(remediated.Reason) {
		r.event(corev1.EventTypeWarning, remediated.Reason, remediated.Message)
	}
	return err
}

// setCondition returns whether another reason is given now.
func (r *remediationRun) setCondition(s *v1alpha4.MetalStackRemediationStatus, c metav1.Condition) bool {
	was := meta.FindStatusCondition(s.Conditions, c.Type)
	isNew := was == nil || was.Reason != c.Reason
	c.Message = oneline.Sanitize(c.Message, oneline.MaxMessage)
	c.LastTransitionTime = metav1.NewTime(r.clock.Now())
	meta.SetStatusCondition(&s.Conditions, c)
	return isNew
}

// warnsOfRemediation returns whether a remediation that waits for a reason needs an Event.
func warnsOfRemediation(reason string) bool {
	switch reason {
	case infrastructure.ReasonPowerRefused, infrastructure.ReasonMetalAPIUnavailable, infrastructure.ReasonWorkloadClusterUnavailable, infrastructure.ReasonWaitingForControlPlane:
		return true
	}
	return false
}

// event records an Event about the remediation, related to the Machine.
func (r *remediationRun) event(kind, reason, note string) {
	if r.machine == nil {
		r.recorder.Eventf(r.obj, nil, kind, reason, actionRemediate, "%s", oneline.Sanitize(note, oneline.MaxNote))
		return
	}
	r.recorder.Eventf(r.obj, r.machine, kind, reason, actionRemediate, "%s", oneline.Sanitize(note, oneline.MaxNote))
}

// machineEvent records an Event about the remediation and one about its Machine.
func (r *remediationRun) machineEvent(kind, reason, note string) {
	r.event(kind, reason, note)
	if r.machine != nil {
		r.recorder.Eventf(r.machine, r.obj, kind, reason, actionRemediate, "%s", oneline.Sanitize(note, oneline.MaxNote))
	}
}

// attemptOf says which attempt it is.
func (r *remediationRun) attemptOf() string {
	return fmt.Sprintf("attempt %d of %d", r.obj.Status.Attempt, max(r.obj.Status.Attempt, r.retryLimit()))
}

// retryLimit is how many attempts are made.
func (r *remediationRun) retryLimit() int32 {
	return max(r.obj.Spec.Strategy.RetryLimit, v1alpha4.DefaultRemediationRetryLimit)
}
