// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/dryrun"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/ownerref"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
)

const (
	// ownerLookupTimeout is how long looking up the owners of one object may take.
	ownerLookupTimeout = 5 * time.Second
	// maxOwners is how many owners of one object are looked up. Cluster API gives
	// an object one or two.
	maxOwners = 8
)

// An OwnerKey names an object that may own others of its namespace.
type OwnerKey struct {
	// APIVersion is the one that the owner was referred to by, which may not be
	// served any more.
	APIVersion      string
	Kind, Namespace string
	Name            string
}

// OwnerLookup looks up owners.
type OwnerLookup interface {
	// Owner returns the metadata of an owner; a NotFound error if there is none of
	// that name.
	Owner(ctx context.Context, key OwnerKey) (metav1.Object, error)
	// Supports is whether owners of a kind can be looked up.
	Supports(apiVersion, kind string) bool
	// Namespace returns the metadata of a Namespace as it is now; a NotFound error
	// if there is none of that name.
	Namespace(ctx context.Context, name string) (metav1.Object, error)
}

// Delete refuses the garbage collector what holds metal, unless an owner is
// being deleted, see checkGarbageCollection, and the namespace controller what it
// may not delete, see checkNamespaceController.
func (r *REST) Delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) (runtime.Object, bool, error) {
	if r.owners != nil && r.hasMetal != nil && requester(ctx) == infrastructure.DeletionByGarbageCollector {
		err := r.checkGarbageCollection(ctx, name)
		recordGarbageCollectorDelete(err)
		if apierrors.IsForbidden(err) {
			klog.FromContext(ctx).Info("Refused to delete an object for the garbage collector", "resource", r.DefaultQualifiedResource.Resource,
				"object", klog.KRef(request.NamespaceValue(ctx), name), "err", err)
		}
		if err != nil {
			return nil, false, err
		}
	}
	if err := r.checkNamespaceController(ctx, name); err != nil {
		return nil, false, err
	}
	if options != nil && dryrun.IsDryRun(options.DryRun) {
		// The storage refuses a dry run, too. The generic store reads the object
		// before it deletes it.
		ctx = storage.WithDryRun(ctx, 1)
	}
	if options == nil || options.Preconditions == nil || options.Preconditions.ResourceVersion == nil {
		// Who names a version decided by a state that metal is a part of, and is refused if it
		// has changed: so that is observed. What a collection lists was observed.
		ctx = storage.WithDeletion(ctx)
	}
	return r.Store.Delete(ctx, name, validate, options)
}

// checkGarbageCollection returns why the garbage collector may not have an object deleted.
// It deletes what has no owner. When owners were restored, they have other uids,
// and Cluster API writes these into its objects only later; until then machines
// that run seem ownerless. So its request counts for metal only while an owner,
// found by its uid, is being deleted, or the Cluster is, which is when it deletes
// dependents in the foreground. All other clients may delete the object.
//
// Later changes of the object do no harm: the record says who asked, and the
// controller manager looks its owners up again.
func (r *REST) checkGarbageCollection(ctx context.Context, name string) error {
	obj, err := r.Store.Get(ctx, name, &metav1.GetOptions{ResourceVersion: "0"})
	if err != nil {
		return err
	}
	m, err := meta.Accessor(obj)
	if err != nil {
		return err
	}
	if m.GetDeletionTimestamp() != nil || !r.hasMetal(obj) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, ownerLookupTimeout)
	defer cancel()
	deleted, whyNot, err := r.ownerBeingDeleted(ctx, m)
	switch {
	case deleted:
		return nil
	case err != nil:
		return apierrors.NewServiceUnavailable(fmt.Sprintf(
			"%s %q holds metal: failed to look up its owners: %v: retry", r.DefaultQualifiedResource, name, err))
	}
	return apierrors.NewForbidden(r.DefaultQualifiedResource, name, fmt.Errorf(
		"object holds metal: the garbage collector may delete it only while an owner that it names by uid, or its Cluster, is being deleted: %s; to release the metal, run: kubectl delete %s %s -n %s",
		strings.Join(whyNot, "; "), r.DefaultQualifiedResource, name, m.GetNamespace()))
}

// ownerBeingDeleted returns whether an owner of an object or its Cluster is being
// deleted, or else why not; an error if the lookup failed.
func (r *REST) ownerBeingDeleted(ctx context.Context, m metav1.Object) (deleted bool, whyNot []string, failed error) {
	var all []metav1.OwnerReference
	for i, ref := range m.GetOwnerReferences() {
		if i == maxOwners {
			whyNot = append(whyNot, fmt.Sprintf("more than %d owners", maxOwners))
			break
		}
		if !r.owners.Supports(ref.APIVersion, ref.Kind) {
			whyNot = append(whyNot, fmt.Sprintf("owner %s %s: owners of this kind are not looked up", ref.Kind, ref.Name))
			continue
		}
		all = append(all, ref)
	}
	// The Cluster of the label is found by its name.
	if cluster := m.GetLabels()[infrastructure.ClusterNameLabel]; cluster != "" {
		all = append(all, metav1.OwnerReference{APIVersion: clusterAPIVersion, Kind: "Cluster", Name: cluster})
	}
	for _, ref := range all {
		owner, err := r.owners.Owner(ctx, OwnerKey{ref.APIVersion, ref.Kind, m.GetNamespace(), ref.Name})
		switch state, description := ownerref.Resolve(ref, owner, err); state {
		case ownerref.Deleting:
			return true, nil, nil
		case ownerref.Unknown:
			failed = fmt.Errorf("%s %s: %w", ref.Kind, ref.Name, err)
		default:
			whyNot = append(whyNot, description)
		}
	}
	if len(whyNot) == 0 {
		whyNot = []string{"no ownerReference and no label " + infrastructure.ClusterNameLabel}
	}
	return false, whyNot, failed
}

// clusterAPIVersion is by which a Cluster is looked up that a label names.
const clusterAPIVersion = "cluster.x-k8s.io/v1beta2"
