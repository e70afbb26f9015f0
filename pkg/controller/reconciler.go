package controller

import (
	"context"
	"fmt"
	"time"

	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// A reconciler looks after the objects of one kind. What differs between
// kinds is when metal may be asked for and given back.
type reconciler struct {
	kind kind

	// cached answers from the informers' caches, live from the server.
	cached client.Client
	live   client.Reader
	metal  subresource

	clock  clock.Clock
	memory *memory

	// standalone is true where no Cluster API runs.
	standalone bool

	// prepare returns the request for the object's metal, or why it is too
	// early to ask.
	prepare func(ctx context.Context, obj client.Object) (*v1alpha4.Allocation, wait, error)
	// mayRelease returns what has to go before the object's metal may.
	mayRelease func(ctx context.Context, obj client.Object) (wait, error)
}

// A wait says why nothing is done now, for people, and after how long to look
// again if no event comes first. The zero wait is none.
type wait struct {
	why   string
	again time.Duration
}

func waitFor(again time.Duration, format string, args ...any) wait {
	return wait{why: fmt.Sprintf(format, args...), again: again}
}

// Reconcile does the next step for one object.
func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	obj := r.kind.object()
	if err := r.cached.Get(ctx, request.NamespacedName, obj); err != nil {
		// Gone is nothing to act on: release comes before the finalizer's end.
		r.memory.forget(request)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}

	if !controllerutil.ContainsFinalizer(obj, r.kind.finalizer) {
		// Discovered, or moved away: there may be thousands, so not a word.
		return ctrl.Result{}, nil
	}
	if why := r.handsOff(obj); why != "" {
		return r.waiting(ctx, request, wait{why: why})
	}
	if obj.GetDeletionTimestamp() != nil {
		return r.reconcileRelease(ctx, request, obj)
	}
	return r.reconcileAllocate(ctx, request, obj)
}

// handsOff returns why an object is none of our business, if so.
func (r *reconciler) handsOff(obj client.Object) string {
	annotations, labels := obj.GetAnnotations(), obj.GetLabels()
	switch {
	case has(annotations, v1alpha4.PausedAnnotation):
		return "paused"
	case has(annotations, v1alpha4.DeleteForMoveAnnotation):
		return "it lives in another management cluster now"
	case has(labels, v1alpha4.ManagedByLabel):
		return "somebody else manages it"
	case ownedByClusterAPI(obj):
		return "it belongs to Cluster API objects, which are not looked after yet"
	}
	return ""
}

func has(m map[string]string, key string) bool {
	_, ok := m[key]
	return ok
}

// waiting logs why nothing is done, once, and looks again when the wait says.
func (r *reconciler) waiting(ctx context.Context, request ctrl.Request, w wait) (ctrl.Result, error) {
	if r.memory.news(request, w.why) {
		ctrl.LoggerFrom(ctx).Info("Waiting", "because", w.why)
	}
	return ctrl.Result{RequeueAfter: w.again}, nil
}
