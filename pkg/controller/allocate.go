// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// inFlightRequeue is when to requeue while a call is in flight: the server completes
// it, and its outcome arrives as an event, too.
const inFlightRequeue = 5 * time.Second

// reconcileAllocation allocates the metal of an object that has none, when all that
// it needs exists.
func reconcileAllocation(ctx context.Context, r *reconciliation) (wait, error) {
	state := allocationOf(r.obj)
	switch state.Phase {
	case "", v1alpha4.AllocationAllocating:
	case v1alpha4.AllocationAllocated:
		r.states.reset(r.request)
		return wait{}, nil
	default:
		// The server's condition Allocated says so.
		return wait{message: "the metal was released manually: delete and recreate the object"}, nil
	}
	if left := r.states.remainingBackoff(r.request); left > 0 {
		return wait{message: "backing off after the last refusal", requeueAfter: left}, nil
	}
	if state.NotBefore != nil {
		if left := state.NotBefore.Sub(r.clock.Now()); left > 0 {
			return wait{message: "waiting for status.allocation.notBefore", requeueAfter: left}, r.unblockMove(ctx)
		}
	}
	for _, due := range r.beforeAllocate {
		w, err := due(ctx, r)
		if err != nil {
			return wait{}, err
		}
		if w.message != "" {
			if state.Phase == "" {
				err = r.unblockMove(ctx)
			}
			return w, err
		}
	}
	return r.callAllocate(ctx, state)
}

// callAllocate makes the call that allocates.
func (r *reconciliation) callAllocate(ctx context.Context, state v1alpha4.AllocationState) (wait, error) {
	if err := r.blockMove(ctx); err != nil {
		return wait{}, err
	}
	allocation := &v1alpha4.Allocation{UserData: r.userData}
	if r.metalStackCluster != nil {
		allocation.ClusterRef = &v1alpha4.LocalReference{Name: r.metalStackCluster.Name}
	}
	log := ctrl.LoggerFrom(ctx)
	log.Info("Allocating", "attempt", state.Attempt+1)
	if r.states.markEvent(r.request, EventAllocating, "") {
		r.recordNormal(EventAllocating, actionAllocate, "Requesting an allocation")
	}
	began := r.clock.Now()
	answer, err := r.allocations.allocate(ctx, r.kind, r.obj, allocation)
	switch {
	case err == nil:
		r.states.recordSuccess(r.request)
		if err := r.setObject(answer); err != nil {
			return wait{}, err
		}
		log.Info("Allocated", append(metalIDs(answer), "took", r.clock.Since(began).Round(time.Millisecond))...)
		return reconcileMoveBlock(ctx, r)
	case apierrors.IsNotFound(err):
		return r.handleNotFound(err)
	default:
		return r.handleAllocateError(ctx, err)
	}
}

// handleNotFound handles a 404: the object itself was deleted meanwhile, or what
// the request names does not exist.
func (r *reconciliation) handleNotFound(err error) (wait, error) {
	var answer apierrors.APIStatus
	if errors.As(err, &answer) {
		if d := answer.Status().Details; d != nil && d.Name == r.obj.GetName() && d.Kind == r.kind.resource {
			r.objectGone = true
			return wait{}, nil
		}
	}
	return wait{}, err
}

// handleAllocateError decides when an allocation that failed is tried again.
func (r *reconciliation) handleAllocateError(ctx context.Context, err error) (wait, error) {
	if ctx.Err() != nil {
		return wait{}, ctx.Err()
	}
	if isInFlight(err) {
		ctrl.LoggerFrom(ctx).V(1).Info("Allocation in flight", "err", err)
		return wait{message: "a call is in flight", requeueAfter: inFlightRequeue}, nil
	}
	again := r.states.recordRefusal(r.request, retryAfter(err))
	ctrl.LoggerFrom(ctx).Info("Allocation refused", "err", err, "retryAfter", again.String())
	reason := EventAllocationRefused
	if isMetalAPIUnavailable(err) {
		reason = EventMetalAPIUnavailable
	}
	if r.states.markEvent(r.request, EventAllocationRefused, reason+" "+withoutNumbers(err.Error())) {
		r.recordWarning(reason, actionAllocate, r.refusalMessage(err))
	}
	w := wait{message: "the allocation was refused", requeueAfter: again}
	if !isRefusal(err) {
		return w, nil
	}
	return w, r.unblockMove(ctx)
}

// number is one that stands for itself, and is no part of a name or a version.
var number = regexp.MustCompile(`(^|[\s(])\d+($|[\s,;:)])`)

// withoutNumbers is what an answer says, whichever numbers it says it with: an Event is not
// repeated because one machine more is free.
func withoutNumbers(message string) string { return number.ReplaceAllString(message, "${1}N${2}") }

// isInFlight is true for an answer by which another call goes on, or ours still does.
func isInFlight(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err)
}

// isRefusal is true for an answer by which nothing goes on.
func isRefusal(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsBadRequest(err)
}

// isMetalAPIUnavailable is true for an answer by which the metal-api could not be asked.
func isMetalAPIUnavailable(err error) bool {
	return apierrors.HasStatusCause(err, metav1.CauseType(infrastructure.ReasonMetalAPIUnavailable))
}

// retryAfter is the Retry-After of an answer.
func retryAfter(err error) time.Duration {
	if seconds, ok := apierrors.SuggestsClientDelay(err); ok {
		return time.Duration(seconds) * time.Second
	}
	return 0
}

// refusalMessage is what an answer says, without the object that it is about.
func (r *reconciliation) refusalMessage(err error) string {
	if words := invalidFields(err); words != "" {
		return words
	}
	_, words, found := strings.Cut(err.Error(), fmt.Sprintf("%q: ", r.obj.GetName()))
	if !found {
		return err.Error()
	}
	return words
}

// invalidFields returns what an answer by which fields are invalid says of each of
// them; empty for other answers.
func invalidFields(err error) string {
	var answer apierrors.APIStatus
	if !apierrors.IsInvalid(err) || !errors.As(err, &answer) || answer.Status().Details == nil {
		return ""
	}
	var all []string
	for _, cause := range answer.Status().Details.Causes {
		words := cause.Message
		switch {
		case cause.Type == infrastructure.ReasonMarkedBeforeTakeover:
		case cause.Field == "spec" || cause.Field == "status.allocation":
			// It is about the call: the metal-api refused it, and named no field.
			words = strings.TrimPrefix(words, "Forbidden: ")
		default:
			words = cause.Field + ": " + words
		}
		all = append(all, words)
	}
	return strings.Join(all, "; ")
}
