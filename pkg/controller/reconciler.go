package controller

import (
	"context"
	"fmt"
	"time"

	kerrors "k8s.io/apimachinery/pkg/util/errors"
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
	cached client.Client
	live   client.Client
	metal  subresource

	clock    clock.Clock
	memory   *memory
	recorder events.EventRecorder
	options  Options

	// due are the phases before the object's metal is asked for.
	due []phase
	// keep are the phases for an object that holds its metal.
	keep []phase
	// mayGo are the phases before the object's metal is given back.
	mayGo []phase
}

// A phase does one step of a reconcile. A wait ends the reconcile, and with
// none the next phase goes on.
type phase func(ctx context.Context, s *scope) (wait, error)

// A wait says why nothing more is done now, for people, and after how long to
// look again if no event comes first. The zero wait is none.
type wait struct {
	// reason is that of the condition which says so; none if it is nobody's
	// business.
	reason string
	why    string
	again  time.Duration
}

func waitFor(again time.Duration, reason, format string, args ...any) wait {
	return wait{reason: reason, why: fmt.Sprintf(format, args...), again: again}
}

// Reconcile does the next steps for one object.
func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	if left := r.memory.catchingUp(request); left > 0 {
		return ctrl.Result{RequeueAfter: left}, nil
	}
	obj := r.kind.object()
	if err := r.cached.Get(ctx, request.NamespacedName, obj); err != nil {
		// Gone is nothing to act on: release comes before the finalizer's end.
		r.memory.forget(request)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if why := r.handsOff(obj); why != "" {
		// There may be thousands, so it is hardly a word.
		ctrl.LoggerFrom(ctx).V(4).Info("Left alone", "because", why)
		return ctrl.Result{}, nil
	}

	s, err := newScope(r, request, obj)
	if err != nil {
		return ctrl.Result{}, err
	}
	steps := []phase{resolve, unblock, pause, allocate}
	steps = append(steps, r.keep...)
	if obj.GetDeletionTimestamp() != nil {
		steps = append([]phase{resolveLive, unblock, pause, letGoReleased, owners}, r.mayGo...)
		steps = append(steps, release)
	}
	err = s.run(ctx, steps)
	if s.wait.again > 0 {
		ctrl.LoggerFrom(ctx).V(1).Info("Looking again later", "because", s.wait.why, "after", s.wait.again.String())
	}
	return ctrl.Result{RequeueAfter: s.wait.again}, kerrors.NewAggregate([]error{err, s.close(ctx)})
}

// handsOff returns why an object is none of our business, if so.
func (r *reconciler) handsOff(obj client.Object) string {
	switch {
	case !controllerutil.ContainsFinalizer(obj, r.kind.finalizer):
		return "it was discovered, or is being moved away"
	case has(obj.GetAnnotations(), infrastructure.DeleteForMoveAnnotation):
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
