// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/patch"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// A reconciliation is what one reconcile knows of one object, and what it finds.
type reconciliation struct {
	*reconciler
	request     ctrl.Request
	obj         metalObject
	patchHelper *patch.Helper
	// oldConditions are the conditions that the reconcile began with.
	oldConditions []metav1.Condition

	// cluster and machine are Cluster API's; nil if there are none, or they are
	// not there yet.
	cluster *clusterv1.Cluster
	machine *clusterv1.Machine
	// metalStackCluster is the MetalStackCluster of a machine or firewall.
	metalStackCluster *v1alpha4.MetalStackCluster
	// userData is what a machine or firewall boots with.
	userData []byte

	// What the phases found, of which conditions are made.
	wait wait
	// lookupsLeft are how many owners may still be looked up.
	lookupsLeft int
	// pauseReasons say why the object is paused.
	pauseReasons []string
	// firewallReady is what there is to say about a cluster's firewall.
	firewallReady *metav1.Condition
	// metalAPIAccess and firewallAccess are what a cluster is given of the management cluster.
	metalAPIAccess, firewallAccess *access
	// endpointSet is what there is to say about the endpoint of a hosted control plane.
	endpointSet *metav1.Condition
	// retryEndpointAfter is when the endpoint is looked for again.
	retryEndpointAfter time.Duration
	// objectGone is true after the object was let go: there is nothing to write to.
	objectGone bool
}

func newReconciliation(r *reconciler, request ctrl.Request, obj metalObject) (*reconciliation, error) {
	rec := &reconciliation{
		reconciler: r, request: request,
		metalAPIAccess: newMetalAPIAccess(r.accessChecks), firewallAccess: newFirewallAccess(r.firewallAccessChecks),
	}
	for _, c := range obj.GetConditions() {
		rec.oldConditions = append(rec.oldConditions, *c.DeepCopy())
	}
	return rec, rec.setObject(obj)
}

// setObject goes on with obj, which is what the server says that the object is now.
func (r *reconciliation) setObject(obj metalObject) (err error) {
	r.obj = obj
	r.patchHelper, err = patch.NewHelper(obj, r.cached)
	return err
}

// patchObject writes a change of metadata or spec at once, because what follows
// relies on it. The change removes no annotation or label: to remove the last one known
// would remove those that others have added since (unblockMove).
func (r *reconciliation) patchObject(ctx context.Context, change func(metalObject)) error {
	changed := r.obj.DeepCopyObject().(metalObject)
	change(changed)
	if err := r.cached.Patch(ctx, changed, client.MergeFrom(r.obj)); err != nil {
		return err
	}
	return r.setObject(changed)
}

// runPhases does phases until one waits, fails, or there are no more.
func (r *reconciliation) runPhases(ctx context.Context, phases []phase) error {
	for _, phase := range phases {
		w, err := phase(ctx, r)
		if err != nil {
			return err
		}
		if w.message != "" || r.objectGone {
			r.wait = w
			return nil
		}
	}
	return nil
}

// requeueAfter is when to reconcile again if no event comes first; 0 if never.
func (r *reconciliation) requeueAfter() time.Duration {
	var soonest time.Duration
	for _, after := range []time.Duration{r.wait.requeueAfter, r.metalAPIAccess.recheckAfter, r.firewallAccess.recheckAfter, r.retryEndpointAfter} {
		if after > 0 && (soonest == 0 || after < soonest) {
			soonest = after
		}
	}
	return soonest
}

// patchConditions writes the conditions, and records Events of what is new in them.
func (r *reconciliation) patchConditions(ctx context.Context) error {
	if r.objectGone {
		return nil
	}
	r.setConditions()
	err := r.patchHelper.Patch(ctx, r.obj, patch.WithOwnedConditions{Conditions: ownedConditions})
	if err != nil {
		return ignoreGone(err)
	}
	r.recordConditionEvents(ctx)
	return nil
}

// ignoreGone leaves out that an object is gone from what CAPI's patch helper
// says.
func ignoreGone(err error) error {
	var all utilerrors.Aggregate
	if errors.As(err, &all) && utilerrors.FilterOut(all, apierrors.IsNotFound) == nil {
		return nil
	}
	return err
}
