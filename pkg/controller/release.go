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

// letGoReleased lets an object go that holds no metal.
func letGoReleased(ctx context.Context, s *scope) (wait, error) {
	if released(s.obj) {
		return s.letGo(ctx, s.obj)
	}
	return wait{}, nil
}

// release gives the metal of an object that is being deleted back, and then
// lets the object go. It is the last phase: nothing needs the metal any more.
func release(ctx context.Context, s *scope) (wait, error) {
	if left := s.memory.patience(s.request); left > 0 {
		// What was said about the last attempt still holds.
		return wait{why: "the server is left in peace after its last answer", again: left}, nil
	}
	log := ctrl.LoggerFrom(ctx)
	held := metalOf(s.obj)
	log.Info("Releasing", holds(s.obj)...)
	if s.memory.news(s.request, EventReleasing, "") {
		s.normal(EventReleasing, actionRelease, "Giving back "+held)
	}
	began := s.clock.Now()
	answer, err := s.metal.release(ctx, s.kind, s.obj)
	switch {
	case apierrors.IsNotFound(err):
		return s.missing(err)
	case err != nil:
		return s.kept(ctx, err)
	}
	if err := s.take(answer); err != nil {
		return wait{}, err
	}
	if !released(answer) {
		return wait{reason: infrastructure.ReasonReleasing, why: "the server is giving back " + held, again: underWay}, nil
	}
	s.memory.forget(s.request)
	log.Info("Released", append(holds(answer), "took", s.clock.Since(began).Round(time.Millisecond))...)
	s.normal(EventReleased, actionRelease, "Gave back "+held)
	return s.letGo(ctx, answer)
}

// kept decides when a release that failed is asked for again.
func (s *scope) kept(ctx context.Context, err error) (wait, error) {
	if ctx.Err() != nil {
		return wait{}, ctx.Err()
	}
	if isUnderWay(err) && suggested(err) == 0 {
		ctrl.LoggerFrom(ctx).V(1).Info("Release is under way", "answer", err.Error())
		return wait{reason: infrastructure.ReasonReleasing, why: "a call is under way", again: underWay}, nil
	}
	again := s.memory.refused(s.request, suggested(err))
	ctrl.LoggerFrom(ctx).Info("Release refused", "answer", err.Error(), "again", again.String())
	reason := infrastructure.ReasonReleaseRefused
	for _, cause := range []string{infrastructure.ReasonMetalAPIUnavailable, infrastructure.ReasonMarkedBeforeTakeover} {
		if apierrors.HasStatusCause(err, metav1.CauseType(cause)) {
			reason = cause
		}
	}
	return wait{reason: reason, why: s.words(err), again: again}, nil
}

// released returns whether the object holds no metal, and no call is under
// way that may still bring it some.
func released(obj client.Object) bool {
	switch o := obj.(type) {
	case *v1alpha4.MetalStackCluster:
		return !o.Status.Allocation.HoldsMetal()
	case *v1alpha4.MetalStackMachine:
		return !o.Status.Allocation.HoldsMetal()
	case *v1alpha4.MetalStackFirewall:
		return !o.Status.Allocation.HoldsMetal()
	}
	return true
}

// letGo takes our finalizer off the very state of the object that was judged:
// if it has changed since, the patch fails, and the new state is judged.
func (s *scope) letGo(ctx context.Context, obj client.Object) (wait, error) {
	before := obj.DeepCopyObject().(client.Object)
	controllerutil.RemoveFinalizer(obj, s.kind.finalizer)
	err := s.cached.Patch(ctx, obj, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	s.gone = true
	switch {
	case apierrors.IsConflict(err):
		return wait{why: "the object has changed since it was judged", again: time.Second}, nil
	case apierrors.IsNotFound(err):
		// The cache showed an object that is gone already.
		return wait{}, nil
	case err != nil:
		return wait{}, err
	}
	s.memory.forget(s.request)
	ctrl.LoggerFrom(ctx).Info("Let go")
	return wait{}, nil
}
