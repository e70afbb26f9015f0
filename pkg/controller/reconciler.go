// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/cluster-api/util/labels"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// A reconciler reconciles the objects of one kind. What differs between kinds are
// the phases before an allocation and a release.
type reconciler struct {
	kind kind

	// cached answers from the informers' caches, live from the server.
	cached      client.Client
	live        client.Client
	allocations allocationClient
	// newMapper makes a mapper that knows what the server serves now.
	newMapper         func() (meta.RESTMapper, error)
	controlPlaneKinds *kindMapper

	clock  clock.Clock
	states *objectStates
	// accessChecks are those of metalAPIAccess.
	accessChecks, firewallAccessChecks *accessChecks
	// workload is what is known of workload clusters; nil if they are not reached.
	workload *workloadStates
	recorder events.EventRecorder
	options  Options

	// independent are the phases that neither wait for an allocation nor hold one up.
	independent []phase
	// beforeAllocate are the phases before an allocation.
	beforeAllocate []phase
	// whileAllocated are the phases of an object that holds metal.
	whileAllocated []phase
	// beforeRelease are the phases before a release.
	beforeRelease []phase
}

// A phase is one step of a reconcile. A wait ends the reconcile; without one the
// next phase runs.
type phase func(ctx context.Context, r *reconciliation) (wait, error)

// A wait says what a reconcile waits for, and when to requeue if no event comes
// first. A wait without a message is none.
type wait struct {
	// reason is that of the condition; without one, there is no condition.
	reason       string
	message      string
	requeueAfter time.Duration
}

func waitFor(requeueAfter time.Duration, reason, format string, args ...any) wait {
	return wait{reason: reason, message: fmt.Sprintf(format, args...), requeueAfter: requeueAfter}
}

// Reconcile does the next steps for one object.
func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	if left := r.states.cacheDelay(request); left > 0 {
		return ctrl.Result{RequeueAfter: left}, nil
	}
	obj := r.kind.object()
	if err := r.cached.Get(ctx, request.NamespacedName, obj); err != nil {
		if apierrors.IsNotFound(err) {
			// Nothing is left to do: the finalizer is removed only after the release.
			r.states.reset(request)
			r.accessChecks.reset(request)
			r.firewallAccessChecks.reset(request)
			return ctrl.Result{}, nil
		}
		return ctrl.Result{}, err
	}
	if why := r.skipReason(obj); why != "" {
		ctrl.LoggerFrom(ctx).V(4).Info("Skipped", "reason", why)
		return ctrl.Result{}, nil
	}

	rec, err := newReconciliation(r, request, obj)
	if err != nil {
		return ctrl.Result{}, err
	}
	// reconcileAllocation runs beforeAllocate.
	phases := append([]phase{resolveOwners, reconcileMoveBlock, reconcilePaused}, r.independent...)
	phases = append(append(phases, reconcileAllocation), r.whileAllocated...)
	if obj.GetDeletionTimestamp() != nil {
		phases = append([]phase{resolveClusterLive, reconcileMoveBlock, reconcilePaused, revokeRemovedAccess, revokeRemovedFirewallAccess, reconcileReleased, reconcileOwnerHolds}, r.beforeRelease...)
		phases = append(phases, reconcileRelease)
	}
	err = rec.runPhases(ctx, phases)
	if rec.wait.requeueAfter > 0 {
		ctrl.LoggerFrom(ctx).V(1).Info("Requeued", "reason", rec.wait.message, "retryAfter", rec.wait.requeueAfter.String())
	}
	return ctrl.Result{RequeueAfter: rec.requeueAfter()}, utilerrors.NewAggregate([]error{err, rec.patchConditions(ctx)})
}

// skipReason returns why an object is not reconciled; "" if it is.
func (r *reconciler) skipReason(obj client.Object) string {
	switch {
	case !controllerutil.ContainsFinalizer(obj, r.kind.finalizer):
		return "discovered, or being moved"
	case hasKey(obj.GetAnnotations(), infrastructure.DeleteForMoveAnnotation):
		return "moved to another management cluster"
	case r.kind.name == clusters.name && infrastructure.ExternallyManaged(obj):
		return "externally managed"
	case r.options.WatchFilter != "" && !labels.HasWatchLabel(obj, r.options.WatchFilter):
		return "no watch-filter label"
	case r.options.Standalone && ownedByClusterAPI(obj):
		return "owned by Cluster API, which is not reconciled standalone"
	}
	return ""
}
