// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"time"

	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/cluster-api/util/labels"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// A reconciler looks after the objects of one kind. What differs between
// kinds is when metal may be asked for and given back.
type reconciler struct {
	kind kind

	// cached answers from the informers' caches, live from the server.
	cached      client.Client
	live        client.Client
	allocations allocationClient

	clock    clock.Clock
	backoff  *backoff
	recorder events.EventRecorder
	options  Options

	// beforeAllocate are the phases before the object's metal is asked for.
	beforeAllocate []phase
	// whileAllocated are the phases for an object that holds its metal.
	whileAllocated []phase
	// beforeRelease are the phases before the object's metal is given back.
	beforeRelease []phase
}

// A phase does one step of a reconcile. A wait ends the reconcile, and with
// none the next phase goes on.
type phase func(ctx context.Context, s *scope) (wait, error)

// A wait says why nothing more is done now, for people, and after how long to
// look again if no event comes first. The zero wait is none.
type wait struct {
	// reason is that of the condition which says so; none if it is nobody's
	// business.
	reason       string
	message      string
	requeueAfter time.Duration
}

func waitFor(again time.Duration, reason, format string, args ...any) wait {
	return wait{reason: reason, message: fmt.Sprintf(format, args...), requeueAfter: again}
}

// Reconcile does the next steps for one object.
func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	if left := r.backoff.cacheDelay(request); left > 0 {
		return ctrl.Result{RequeueAfter: left}, nil
	}
	obj := r.kind.object()
	if err := r.cached.Get(ctx, request.NamespacedName, obj); err != nil {
		// Gone is nothing to act on: release comes before the finalizer's end.
		r.backoff.reset(request)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if why := r.skipReason(obj); why != "" {
		// There may be thousands, so it is hardly a word.
		ctrl.LoggerFrom(ctx).V(4).Info("Left alone", "because", why)
		return ctrl.Result{}, nil
	}

	s, err := newScope(r, request, obj)
	if err != nil {
		return ctrl.Result{}, err
	}
	steps := []phase{resolveOwners, reconcileMoveBlock, reconcilePaused, reconcileAllocation}
	steps = append(steps, r.whileAllocated...)
	if obj.GetDeletionTimestamp() != nil {
		steps = append([]phase{resolveClusterLive, reconcileMoveBlock, reconcilePaused, reconcileReleased, reconcileOwnerHolds}, r.beforeRelease...)
		steps = append(steps, reconcileRelease)
	}
	err = s.runPhases(ctx, steps)
	if s.wait.requeueAfter > 0 {
		ctrl.LoggerFrom(ctx).V(1).Info("Looking again later", "because", s.wait.message, "after", s.wait.requeueAfter.String())
	}
	return ctrl.Result{RequeueAfter: s.wait.requeueAfter}, utilerrors.NewAggregate([]error{err, s.patchConditions(ctx)})
}

// skipReason returns why an object is none of our business, if so.
func (r *reconciler) skipReason(obj client.Object) string {
	switch {
	case !controllerutil.ContainsFinalizer(obj, r.kind.finalizer):
		return "it was discovered, or is being moved away"
	case hasKey(obj.GetAnnotations(), infrastructure.DeleteForMoveAnnotation):
		return "it lives in another management cluster now"
	case r.kind.name == clusters.name && infrastructure.ExternallyManaged(obj):
		return "somebody else manages it"
	case r.options.WatchFilter != "" && !labels.HasWatchLabel(obj, r.options.WatchFilter):
		return "another controller looks after it"
	case r.options.Standalone && ownedByClusterAPI(obj):
		return "it belongs to Cluster API objects, which are not looked after standalone"
	}
	return ""
}
