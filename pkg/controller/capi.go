// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util"
	"sigs.k8s.io/cluster-api/util/annotations"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// fallbackRequeue is how soon to requeue in case an event was missed.
const fallbackRequeue = time.Minute

// ownedByClusterAPI returns whether Cluster API made the object or took it
// over.
func ownedByClusterAPI(obj client.Object) bool {
	for _, owner := range obj.GetOwnerReferences() {
		// Its providers' groups end with its own.
		group, _, _ := strings.Cut(owner.APIVersion, "/")
		if isClusterAPI(owner.APIVersion) || (group != v1alpha4.GroupName && strings.HasSuffix(group, "."+clusterv1.GroupVersion.Group)) {
			return true
		}
	}
	return hasKey(obj.GetAnnotations(), clusterv1.TemplateClonedFromNameAnnotation)
}

// resolveOwners finds the Machine and the Cluster of an object, if they are there.
// What is missing is for later phases to wait for.
func resolveOwners(ctx context.Context, r *reconciliation) (wait, error) {
	if r.options.Standalone {
		return wait{}, nil
	}
	if r.kind.name == machines.name {
		machine, err := ownerMachine(ctx, r.cached, r.obj)
		if client.IgnoreNotFound(err) != nil {
			return wait{}, err
		}
		r.machine = machine
	}
	name := r.clusterName()
	if name == "" {
		return wait{}, nil
	}
	cluster, err := util.GetClusterByName(ctx, r.cached, r.obj.GetNamespace(), name)
	if err == nil {
		r.cluster = cluster
	}
	return wait{}, client.IgnoreNotFound(err)
}

// ownerMachine returns the Machine that owns an object, and not another one
// that has got its name since.
func ownerMachine(ctx context.Context, c client.Client, obj client.Object) (*clusterv1.Machine, error) {
	for _, ref := range obj.GetOwnerReferences() {
		if ref.Kind != "Machine" || !isClusterAPI(ref.APIVersion) {
			continue
		}
		machine, err := util.GetMachineByName(ctx, c, obj.GetNamespace(), ref.Name)
		if err != nil || machine.UID != ref.UID {
			return nil, err
		}
		return machine, nil
	}
	return nil, nil
}

func isClusterAPI(apiVersion string) bool {
	group, _, _ := strings.Cut(apiVersion, "/")
	return group == clusterv1.GroupVersion.Group
}

// clusterName returns the name of the Cluster that the object belongs to.
func (r *reconciliation) clusterName() string {
	if r.machine != nil {
		return r.machine.Spec.ClusterName
	}
	for _, ref := range r.obj.GetOwnerReferences() {
		if ref.Kind == "Cluster" && isClusterAPI(ref.APIVersion) {
			return ref.Name
		}
	}
	return r.obj.GetLabels()[infrastructure.ClusterNameLabel]
}

// reconcilePaused ends the reconcile of an object that is paused, or whose Cluster is.
func reconcilePaused(ctx context.Context, r *reconciliation) (wait, error) {
	if r.cluster != nil && ptr.Deref(r.cluster.Spec.Paused, false) {
		r.pauseReasons = append(r.pauseReasons, "Cluster spec.paused is set to true")
	}
	if annotations.HasPaused(r.obj) {
		r.pauseReasons = append(r.pauseReasons, fmt.Sprintf("%s has the %s annotation", r.kind.kind, infrastructure.PausedAnnotation))
	}
	if len(r.pauseReasons) == 0 {
		return wait{}, nil
	}
	w := wait{reason: infrastructure.ReasonPaused, message: "paused"}
	if allocationOf(r.obj).Phase != "" {
		return w, nil
	}
	// Nothing is in flight, unless it was sent off just now.
	if w.requeueAfter = r.states.remainingBackoff(r.request); w.requeueAfter > 0 {
		return w, nil
	}
	return w, r.unblockMove(ctx)
}

// waitForOwnerCluster waits until a Cluster owns the MetalStackCluster.
func waitForOwnerCluster(_ context.Context, r *reconciliation) (wait, error) {
	for _, ref := range r.obj.GetOwnerReferences() {
		if ref.Kind == "Cluster" && isClusterAPI(ref.APIVersion) && r.cluster != nil && ref.UID == r.cluster.UID {
			return wait{}, nil
		}
	}
	return waitFor(fallbackRequeue, infrastructure.ReasonWaitingForOwner,
		"No Cluster owns this object yet: Cluster API sets the owner reference when spec.infrastructureRef of a Cluster names it"), nil
}

// waitForNetwork waits for the MetalStackCluster of a machine or firewall and for its
// network, which they join.
func waitForNetwork(ctx context.Context, r *reconciliation) (wait, error) {
	name, w := r.infraName()
	if name == "" || w.message != "" {
		return w, nil
	}
	infra := &v1alpha4.MetalStackCluster{}
	err := r.cached.Get(ctx, types.NamespacedName{Namespace: r.obj.GetNamespace(), Name: name}, infra)
	reason := infrastructure.ReasonWaitingForClusterInfrastructure
	switch {
	case apierrors.IsNotFound(err):
		return waitFor(fallbackRequeue, reason, "MetalStackCluster %s not found", name), nil
	case err != nil:
		return wait{}, err
	case infra.DeletionTimestamp != nil:
		return waitFor(fallbackRequeue, reason, "MetalStackCluster %s is being deleted", name), nil
	case !infrastructure.ExternallyManaged(infra) && allocationOf(infra).Phase != v1alpha4.AllocationAllocated:
		return waitFor(fallbackRequeue, reason, "The network of MetalStackCluster %s is not allocated yet", name), nil
	}
	r.metalStackCluster = infra
	return wait{}, nil
}

// infraName returns the name of the MetalStackCluster of a machine or
// firewall; none if it belongs to no cluster, or to one of another kind.
func (r *reconciliation) infraName() (string, wait) {
	for _, ref := range r.obj.GetOwnerReferences() {
		if group, _, _ := strings.Cut(ref.APIVersion, "/"); ref.Kind == clusters.kind && group == v1alpha4.GroupName {
			return ref.Name, wait{}
		}
	}
	name := r.clusterName()
	switch {
	case name == "" || r.options.Standalone:
		return name, wait{}
	case r.cluster == nil:
		return "", waitFor(fallbackRequeue, infrastructure.ReasonWaitingForClusterInfrastructure, "Cluster %s not found", name)
	case !r.cluster.Spec.InfrastructureRef.IsDefined():
		return "", waitFor(fallbackRequeue, infrastructure.ReasonWaitingForClusterInfrastructure, "spec.infrastructureRef of Cluster %s is not set yet", name)
	case r.cluster.Spec.InfrastructureRef.APIGroup != v1alpha4.GroupName || r.cluster.Spec.InfrastructureRef.Kind != clusters.kind:
		return "", wait{}
	}
	return r.cluster.Spec.InfrastructureRef.Name, wait{}
}
