package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// underWay is how soon to look again at a call that has not ended: the server
// goes on with it, and its outcome arrives as an event too.
const underWay = 5 * time.Second

// allocate asks for the metal of an object that has none, when the time has
// come.
func allocate(ctx context.Context, s *scope) (wait, error) {
	state := allocationOf(s.obj)
	switch state.Phase {
	case "", v1alpha4.AllocationAllocating:
	case v1alpha4.AllocationAllocated:
		s.memory.forget(s.request)
		return wait{}, nil
	default:
		// The server's condition Allocated says so.
		return wait{why: "its metal was given back by hand; delete it and make a new one"}, nil
	}
	if left := s.memory.patience(s.request); left > 0 {
		return wait{why: "the server is left in peace after its last answer", again: left}, nil
	}
	if state.NotBefore != nil {
		if left := state.NotBefore.Sub(s.clock.Now()); left > 0 {
			return wait{why: "the next attempt may begin then", again: left}, s.unblockMove(ctx)
		}
	}
	for _, due := range s.due {
		w, err := due(ctx, s)
		if err != nil {
			return wait{}, err
		}
		if w.why != "" {
			if state.Phase == "" {
				err = s.unblockMove(ctx)
			}
			return w, err
		}
	}
	return s.post(ctx, state)
}

// post makes the call that allocates.
func (s *scope) post(ctx context.Context, state v1alpha4.AllocationState) (wait, error) {
	if err := s.blockMove(ctx); err != nil {
		return wait{}, err
	}
	allocation := &v1alpha4.Allocation{UserData: s.userData}
	if s.infra != nil {
		allocation.ClusterRef = &v1alpha4.LocalReference{Name: s.infra.Name}
	}
	log := ctrl.LoggerFrom(ctx)
	log.Info("Allocating", "attempt", state.Attempt+1)
	if s.memory.news(s.request, EventAllocating, "") {
		s.normal(EventAllocating, actionAllocate, "Asking for metal")
	}
	began := s.clock.Now()
	answer, err := s.metal.allocate(ctx, s.kind, s.obj, allocation)
	switch {
	case err == nil:
		s.memory.done(s.request)
		if err := s.take(answer); err != nil {
			return wait{}, err
		}
		log.Info("Allocated", append(holds(answer), "took", s.clock.Since(began).Round(time.Millisecond))...)
		return unblock(ctx, s)
	case apierrors.IsNotFound(err):
		return s.missing(err)
	default:
		return s.refused(ctx, err)
	}
}

// missing is for a 404: the object itself went away meanwhile, or what was
// named in the request is not there.
func (s *scope) missing(err error) (wait, error) {
	var answer apierrors.APIStatus
	if errors.As(err, &answer) {
		if d := answer.Status().Details; d != nil && d.Name == s.obj.GetName() && d.Kind == s.kind.resource {
			s.gone = true
			return wait{}, nil
		}
	}
	return wait{}, err
}

// refused decides when an allocation that failed is asked for again.
func (s *scope) refused(ctx context.Context, err error) (wait, error) {
	if ctx.Err() != nil {
		return wait{}, ctx.Err()
	}
	if isUnderWay(err) {
		ctrl.LoggerFrom(ctx).V(1).Info("Allocation is under way", "answer", err.Error())
		return wait{why: "a call is under way", again: underWay}, nil
	}
	again := s.memory.refused(s.request, suggested(err))
	ctrl.LoggerFrom(ctx).Info("Allocation refused", "answer", err.Error(), "again", again.String())
	if s.memory.news(s.request, EventAllocationRefused, err.Error()) {
		reason := EventAllocationRefused
		if unavailable(err) {
			reason = EventMetalAPIUnavailable
		}
		s.warn(reason, actionAllocate, s.words(err))
	}
	w := wait{why: "the allocation was refused", again: again}
	if !definite(err) {
		return w, nil
	}
	return w, s.unblockMove(ctx)
}

// isUnderWay is true for an answer by which another call goes on, or ours still does.
func isUnderWay(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err)
}

// definite is true for an answer by which nothing goes on.
func definite(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsBadRequest(err)
}

// unavailable is true for an answer by which the metal-api could not be asked.
func unavailable(err error) bool {
	return apierrors.HasStatusCause(err, metav1.CauseType(infrastructure.ReasonMetalAPIUnavailable))
}

// suggested is how long the server wants to be left in peace.
func suggested(err error) time.Duration {
	if seconds, ok := apierrors.SuggestsClientDelay(err); ok {
		return time.Duration(seconds) * time.Second
	}
	return 0
}

// words are what an answer says, without what it says it about.
func (s *scope) words(err error) string {
	_, words, found := strings.Cut(err.Error(), fmt.Sprintf("%q: ", s.obj.GetName()))
	if !found {
		return err.Error()
	}
	return words
}
