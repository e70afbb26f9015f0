package controller

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// underWay is how soon to look again at a call that has not ended: the server
// goes on with it, and its outcome arrives as an event too.
const underWay = 5 * time.Second

// reconcileAllocate asks for the metal of an object that has none, when the
// time has come.
func (r *reconciler) reconcileAllocate(ctx context.Context, request ctrl.Request, obj client.Object) (ctrl.Result, error) {
	state := allocationOf(obj)
	switch state.Phase {
	case "", v1alpha4.AllocationAllocating:
	case v1alpha4.AllocationAllocated:
		r.memory.forget(request)
		return ctrl.Result{}, nil
	default:
		return r.waiting(ctx, request, wait{why: "its metal was given back by hand; delete it and make a new one"})
	}
	if left := r.memory.patience(request); left > 0 {
		return ctrl.Result{RequeueAfter: left}, nil
	}
	if state.NotBefore != nil {
		if left := state.NotBefore.Sub(r.clock.Now()); left > 0 {
			return ctrl.Result{RequeueAfter: left}, nil
		}
	}

	allocation, w, err := r.prepare(ctx, obj)
	if err != nil {
		return ctrl.Result{}, err
	}
	if w.why != "" {
		return r.waiting(ctx, request, w)
	}

	log := ctrl.LoggerFrom(ctx)
	log.Info("Allocating", "attempt", state.Attempt+1)
	began := r.clock.Now()
	answer, err := r.metal.allocate(ctx, r.kind, obj, allocation)
	switch {
	case err == nil:
		r.memory.done(request)
		log.Info("Allocated", append(holds(answer), "took", r.clock.Since(began).Round(time.Millisecond))...)
		return ctrl.Result{}, nil
	case apierrors.IsNotFound(err):
		// The object itself went away meanwhile.
		return ctrl.Result{}, nil
	default:
		return r.backOff(ctx, request, "Allocation", err)
	}
}

// backOff decides when a call that failed is repeated.
func (r *reconciler) backOff(ctx context.Context, request ctrl.Request, what string, err error) (ctrl.Result, error) {
	log := ctrl.LoggerFrom(ctx)
	if ctx.Err() != nil {
		return ctrl.Result{}, ctx.Err()
	}
	if apierrors.IsConflict(err) || apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err) {
		// Another call is under way, or ours still is.
		log.V(1).Info(what+" is under way", "answer", err.Error())
		return ctrl.Result{RequeueAfter: underWay}, nil
	}
	var atLeast time.Duration
	if seconds, ok := apierrors.SuggestsClientDelay(err); ok {
		atLeast = time.Duration(seconds) * time.Second
	}
	again := r.memory.refused(request, atLeast)
	log.Info(what+" refused", "answer", err.Error(), "again", again.String())
	return ctrl.Result{RequeueAfter: again}, nil
}
