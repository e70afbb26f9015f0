// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/cluster-api/util"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/ownerref"
)

// holdRequeue is how soon to look up an owner again that could not be found: it
// may be restored, too.
const holdRequeue = time.Minute

// ownerLookupRequeue is how soon to look up an owner again that could not be read.
const ownerLookupRequeue = 15 * time.Second

const (
	// maxOwnerLookups is how many owners of an object, and of their owners together, are
	// looked up in one reconcile. Cluster API gives an object one or two.
	maxOwnerLookups = 8
	// ownerLookupTimeout is how long looking them up may take.
	ownerLookupTimeout = 10 * time.Second
)

// forceReleaseHint says that the metal is kept, and how an administrator releases it
// all the same.
var forceReleaseHint = "the metal is kept. To release it nevertheless: kubectl annotate %s %s -n %s " + infrastructure.ForceReleaseAnnotation + "=true"

// resolveClusterLive finds the Cluster of an object that is being deleted, as the
// server knows it: it may have been paused just now.
func resolveClusterLive(ctx context.Context, r *reconciliation) (wait, error) {
	name := r.clusterName()
	if r.options.Standalone || name == "" {
		return wait{}, nil
	}
	cluster, err := util.GetClusterByName(ctx, r.live, r.obj.GetNamespace(), name)
	switch {
	case err == nil:
		r.cluster = cluster
	case !apierrors.IsNotFound(err) && !r.isReleaseForced():
		return r.holdOwnerLookupFailed("Cluster "+name, err), nil
	}
	return wait{}, nil
}

// reconcileOwnerHolds holds a release while the deletion may be a mistake: while an owner
// that the object names cannot be found, since an etcd that was restored from an
// old backup makes live machines look ownerless; and if the garbage collector
// asked for it, until an owner or the Cluster is being deleted. The garbage
// collector takes an owner that was restored with a new uid for gone, so it does
// not help that Cluster API has written the new uid since. The same holds for an
// owner that the garbage collector had deleted, such as a Machine whose
// MachineSet was restored. It asks the server for each owner, by uid.
func reconcileOwnerHolds(ctx context.Context, r *reconciliation) (wait, error) {
	if r.isReleaseForced() {
		if r.states.markEvent(r.request, EventReleaseForced, "") {
			r.recordWarning(EventReleaseForced, actionRelease, "Owners are not checked, because of the annotation "+infrastructure.ForceReleaseAnnotation)
		}
		return wait{}, nil
	}
	if name := r.clusterName(); !r.options.Standalone && name != "" && r.cluster == nil {
		return r.holdOwnerNotFound(fmt.Sprintf("Cluster %s cannot be found", name)), nil
	}
	ctx, cancel := context.WithTimeout(ctx, ownerLookupTimeout)
	defer cancel()
	r.lookupsLeft = maxOwnerLookups
	clusterDeleted := r.cluster != nil && r.cluster.DeletionTimestamp != nil
	ownerDeleted, aboveDeleted := false, false
	for _, ref := range r.obj.GetOwnerReferences() {
		owner, err := r.getOwner(ctx, ref)
		what := ref.Kind + " " + ref.Name
		state, description := ownerref.Resolve(ref, owner, err)
		switch {
		case state == ownerref.Missing:
			return r.holdOwnerNotFound("the owner " + description), nil
		case state == ownerref.Unknown:
			return r.holdOwnerLookupFailed("the owner "+what, err), nil
		case state == ownerref.Present || clusterDeleted:
			continue
		}
		ownerDeleted = true
		above, missing, err := r.checkAncestors(ctx, owner, maxAncestorDepth)
		switch {
		case err != nil:
			return r.holdOwnerLookupFailed("an owner of "+what, err), nil
		case missing != "":
			return r.hold(infrastructure.ReasonGarbageCollected, fmt.Sprintf("the owner %s is being deleted, presumably by the garbage collector: %s", what, missing)), nil
		}
		aboveDeleted = aboveDeleted || above
	}
	held := r.previousHold()
	switch {
	case clusterDeleted:
	case r.isDeletedByGarbageCollector() && !ownerDeleted:
		return r.hold(infrastructure.ReasonGarbageCollected, "the garbage collector deleted the object, and no owner is being deleted"), nil
	case r.isDeletedByGarbageCollector():
	case held == infrastructure.ReasonGarbageCollected && !aboveDeleted:
		return r.hold(held, "the garbage collector deleted the owner, and neither the Cluster nor an owner of the owner is being deleted"), nil
	case held == infrastructure.ReasonOwnerNotFound && !ownerDeleted:
		return r.hold(held, "an owner could not be found before, and no owner is being deleted"), nil
	}
	return wait{}, nil
}

// maxAncestorDepth is how far up owners of owners are looked up: MachineSet or
// control plane, MachineDeployment, Cluster.
const maxAncestorDepth = 3

// checkAncestors looks up the owners of an owner that is being deleted, as far as they
// are being deleted, too: the garbage collector deletes a Machine whose
// MachineSet was restored with a new uid, and Cluster API then deletes what the
// Machine has. It returns whether one of them is being deleted, and which one
// cannot be found by its uid. Kinds that the controller manager may not read, such as
// other providers' control planes, are passed over.
func (r *reconciliation) checkAncestors(ctx context.Context, owner *metav1.PartialObjectMetadata, generations int) (deleted bool, missing string, err error) {
	if generations == 0 {
		return false, "", nil
	}
	for _, ref := range owner.OwnerReferences {
		above, err := r.getOwner(ctx, ref)
		switch state, description := ownerref.Resolve(ref, above, err); {
		case apierrors.IsForbidden(err), meta.IsNoMatchError(err):
			continue
		case state == ownerref.Missing:
			return false, "its owner " + description, nil
		case state == ownerref.Unknown:
			return false, "", fmt.Errorf("its owner %s %s: %w", ref.Kind, ref.Name, err)
		case state == ownerref.Deleting:
			if _, missing, err := r.checkAncestors(ctx, above, generations-1); err != nil || missing != "" {
				return false, missing, err
			}
			deleted = true
		}
	}
	return deleted, "", nil
}

// previousHold returns for which reason the release was held before because of its
// owners, which the condition Deleting remembers; "" if it was not. That an owner
// could not be read is no reason: it is checked when it can be.
func (r *reconciliation) previousHold() string {
	deleting := meta.FindStatusCondition(r.oldConditions, infrastructure.ConditionDeleting)
	if deleting == nil || deleting.Reason != infrastructure.ReasonGarbageCollected && deleting.Reason != infrastructure.ReasonOwnerNotFound {
		return ""
	}
	return deleting.Reason
}

// isDeletedByGarbageCollector returns whether the garbage collector had the object deleted. A
// server before this one did not record who asked: then the object counts as deleted
// by it if its release was held before, which its conditions show.
func (r *reconciliation) isDeletedByGarbageCollector() bool {
	if d := deletionOf(r.obj); d != nil {
		return d.RequestedBy == v1alpha4.DeletionByGarbageCollector
	}
	deleting := meta.FindStatusCondition(r.oldConditions, infrastructure.ConditionDeleting)
	return meta.IsStatusConditionTrue(r.oldConditions, infrastructure.ConditionPaused) ||
		deleting != nil && slices.Contains(ownerHoldReasons, deleting.Reason)
}

// ownerHoldReasons are the reasons of Deleting with which owners hold a release.
var ownerHoldReasons = []string{infrastructure.ReasonOwnerNotFound, infrastructure.ReasonGarbageCollected, infrastructure.ReasonOwnerLookupFailed}

// getOwner asks the server for the metadata of an owner.
func (r *reconciliation) getOwner(ctx context.Context, ref metav1.OwnerReference) (*metav1.PartialObjectMetadata, error) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return nil, err
	}
	mapper := r.live.RESTMapper()
	mapping, err := mapper.RESTMapping(schema.GroupKind{Group: gv.Group, Kind: ref.Kind}, gv.Version)
	if meta.IsNoMatchError(err) {
		// The version may have gone with an upgrade.
		mapping, err = mapper.RESTMapping(schema.GroupKind{Group: gv.Group, Kind: ref.Kind})
	}
	if err != nil {
		return nil, err
	}
	if r.lookupsLeft--; r.lookupsLeft < 0 {
		return nil, fmt.Errorf("more than %d owners", maxOwnerLookups)
	}
	owner := &metav1.PartialObjectMetadata{}
	owner.SetGroupVersionKind(mapping.GroupVersionKind)
	key := client.ObjectKey{Name: ref.Name}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		key.Namespace = r.obj.GetNamespace()
	}
	return owner, r.live.Get(ctx, key, owner)
}

func (r *reconciliation) isReleaseForced() bool {
	return hasKey(r.obj.GetAnnotations(), infrastructure.ForceReleaseAnnotation)
}

func (r *reconciliation) holdOwnerNotFound(why string) wait {
	return r.hold(infrastructure.ReasonOwnerNotFound, why)
}

// hold keeps a reason for which the release was held before: what is not to be
// found now, or cannot be read, must not make it forgotten.
func (r *reconciliation) hold(reason, why string) wait {
	if r.previousHold() == infrastructure.ReasonGarbageCollected {
		reason = infrastructure.ReasonGarbageCollected
	}
	return waitFor(holdRequeue, reason, "%s, so the deletion may be a mistake, and "+forceReleaseHint,
		why, r.kind.resource, r.obj.GetName(), r.obj.GetNamespace())
}

func (r *reconciliation) holdOwnerLookupFailed(what string, err error) wait {
	reason := infrastructure.ReasonOwnerLookupFailed
	if held := r.previousHold(); held != "" {
		reason = held
	}
	return waitFor(ownerLookupRequeue, reason, "Failed to look up %s: %v: "+forceReleaseHint,
		what, err, r.kind.resource, r.obj.GetName(), r.obj.GetNamespace())
}
