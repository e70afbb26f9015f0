package controller

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// reconcileRelease gives the metal of an object that is being deleted back,
// when nothing needs it any more, and then lets the object go.
func (r *reconciler) reconcileRelease(ctx context.Context, request ctrl.Request, obj client.Object) (ctrl.Result, error) {
	if released(obj) {
		return r.letGo(ctx, request, obj)
	}
	if left := r.memory.patience(request); left > 0 {
		return ctrl.Result{RequeueAfter: left}, nil
	}
	w, err := r.mayRelease(ctx, obj)
	if err != nil {
		return ctrl.Result{}, err
	}
	if w.why != "" {
		return r.waiting(ctx, request, w)
	}

	log := ctrl.LoggerFrom(ctx)
	held := holds(obj)
	log.Info("Releasing", held...)
	began := r.clock.Now()
	answer, err := r.metal.release(ctx, r.kind, obj)
	switch {
	case apierrors.IsNotFound(err):
		// The object itself went away meanwhile.
		return ctrl.Result{}, nil
	case err != nil:
		return r.backOff(ctx, request, "Release", err)
	case !released(answer):
		return ctrl.Result{RequeueAfter: underWay}, nil
	}
	r.memory.forget(request)
	log.Info("Released", append(held, "took", r.clock.Since(began).Round(time.Millisecond))...)
	return r.letGo(ctx, request, answer)
}

// released returns whether the object holds no metal, and no call is under
// way that may still bring it some.
func released(obj client.Object) bool {
	phase := allocationOf(obj).Phase
	return phase == "" || phase == v1alpha4.AllocationReleased
}

// letGo takes our finalizer off the very state of the object that was judged:
// if it has changed since, the patch fails, and the new state is judged.
func (r *reconciler) letGo(ctx context.Context, request ctrl.Request, obj client.Object) (ctrl.Result, error) {
	before := obj.DeepCopyObject().(client.Object)
	controllerutil.RemoveFinalizer(obj, r.kind.finalizer)
	err := r.cached.Patch(ctx, obj, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	switch {
	case apierrors.IsConflict(err):
		return ctrl.Result{RequeueAfter: time.Second}, nil
	case apierrors.IsNotFound(err):
		// The cache showed an object that is gone already.
		return ctrl.Result{}, nil
	case err != nil:
		return ctrl.Result{}, err
	}
	r.memory.forget(request)
	ctrl.LoggerFrom(ctx).Info("Let go")
	return ctrl.Result{}, nil
}
