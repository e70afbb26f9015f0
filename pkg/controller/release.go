// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// reconcileReleased removes the finalizer of an object that holds no metal.
func reconcileReleased(ctx context.Context, r *reconciliation) (wait, error) {
	if !isReleased(r.obj) {
		return wait{}, nil
	}
	// The metal may have been released by hand, and the access not revoked yet.
	for _, revoke := range []phase{revokeMetalAPIAccess, revokeFirewallAccess} {
		if w, err := revoke(ctx, r); err != nil || w.message != "" {
			return w, err
		}
	}
	return r.removeFinalizer(ctx, r.obj)
}

// reconcileRelease releases the metal of an object that is being deleted, and then
// removes the finalizer. It is the last phase.
func reconcileRelease(ctx context.Context, r *reconciliation) (wait, error) {
	if left := r.states.remainingBackoff(r.request); left > 0 {
		// The condition still describes the last attempt.
		return wait{message: "backing off after the last refusal", requeueAfter: left}, nil
	}
	log := ctrl.LoggerFrom(ctx)
	held := describeMetal(r.obj)
	log.Info("Releasing", metalIDs(r.obj)...)
	if r.states.markEvent(r.request, EventReleasing, "") {
		r.recordNormal(EventReleasing, actionRelease, "Releasing "+held)
	}
	began := r.clock.Now()
	answer, err := r.allocations.release(ctx, r.kind, r.obj)
	switch {
	case apierrors.IsNotFound(err):
		return r.handleNotFound(err)
	case err != nil:
		return r.handleReleaseError(ctx, err)
	}
	if err := r.setObject(answer); err != nil {
		return wait{}, err
	}
	if !isReleased(answer) {
		return wait{reason: infrastructure.ReasonReleasing, message: "the API server is releasing " + held, requeueAfter: inFlightRequeue}, nil
	}
	r.states.reset(r.request)
	log.Info("Released", append(metalIDs(answer), "took", r.clock.Since(began).Round(time.Millisecond))...)
	r.recordNormal(EventReleased, actionRelease, "Released "+held)
	return r.removeFinalizer(ctx, answer)
}

// handleReleaseError decides when a release that failed is tried again.
func (r *reconciliation) handleReleaseError(ctx context.Context, err error) (wait, error) {
	if ctx.Err() != nil {
		return wait{}, ctx.Err()
	}
	inUse := apierrors.HasStatusCause(err, infrastructure.ReasonInUse)
	if isInFlight(err) && retryAfter(err) == 0 && !inUse {
		ctrl.LoggerFrom(ctx).V(1).Info("Release in flight", "err", err)
		return wait{reason: infrastructure.ReasonReleasing, message: "a call is in flight", requeueAfter: inFlightRequeue}, nil
	}
	again := r.states.recordRefusal(r.request, retryAfter(err))
	ctrl.LoggerFrom(ctx).Info("Release refused", "err", err, "retryAfter", again.String())
	reason := infrastructure.ReasonReleaseRefused
	for _, cause := range []string{infrastructure.ReasonMetalAPIUnavailable, infrastructure.ReasonMarkedBeforeTakeover, infrastructure.ReasonInUse} {
		if apierrors.HasStatusCause(err, metav1.CauseType(cause)) {
			reason = cause
		}
	}
	return wait{reason: reason, message: r.refusalMessage(err), requeueAfter: again}, nil
}

// isReleased returns whether the object holds no metal, and no call is in flight
// that may still allocate some.
func isReleased(obj client.Object) bool {
	switch o := obj.(type) {
	case *v1alpha4.MetalStackCluster:
		return !o.Status.Allocation.HasMetal()
	case *v1alpha4.MetalStackMachine:
		return !o.Status.Allocation.HasMetal()
	case *v1alpha4.MetalStackFirewall:
		return !o.Status.Allocation.HasMetal()
	case *v1alpha4.MetalStackNetwork:
		return !o.Status.Allocation.HasMetal()
	case *v1alpha4.MetalStackIP:
		return !o.Status.Allocation.HasMetal()
	}
	return true
}

// removeFinalizer removes the finalizer from the very state of the object that was
// reconciled: if it has changed since, the patch fails, and it is reconciled again.
func (r *reconciliation) removeFinalizer(ctx context.Context, obj client.Object) (wait, error) {
	before := obj.DeepCopyObject().(client.Object)
	controllerutil.RemoveFinalizer(obj, r.kind.finalizer)
	err := r.cached.Patch(ctx, obj, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	r.objectGone = true
	switch {
	case apierrors.IsConflict(err):
		return wait{message: "the object has changed since it was read", requeueAfter: time.Second}, nil
	case apierrors.IsNotFound(err):
		// The cache showed an object that is gone already.
		return wait{}, nil
	case err != nil:
		return wait{}, err
	}
	r.states.reset(r.request)
	ctrl.LoggerFrom(ctx).Info("Removed the finalizer")
	return wait{}, nil
}
