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
func resolveOwners(ctx context.Context, s *scope) (wait, error) {
	if s.options.Standalone {
		return wait{}, nil
	}
	if s.kind.name == machines.name {
		machine, err := ownerMachine(ctx, s.cached, s.obj)
		if client.IgnoreNotFound(err) != nil {
			return wait{}, err
		}
		s.machine = machine
	}
	name := s.clusterName()
	if name == "" {
		return wait{}, nil
	}
	cluster, err := util.GetClusterByName(ctx, s.cached, s.obj.GetNamespace(), name)
	if err == nil {
		s.cluster = cluster
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
func (s *scope) clusterName() string {
	if s.machine != nil {
		return s.machine.Spec.ClusterName
	}
	for _, ref := range s.obj.GetOwnerReferences() {
		if ref.Kind == "Cluster" && isClusterAPI(ref.APIVersion) {
			return ref.Name
		}
	}
	return s.obj.GetLabels()[infrastructure.ClusterNameLabel]
}

// reconcilePaused ends the reconcile of an object that is paused, or whose Cluster is.
func reconcilePaused(ctx context.Context, s *scope) (wait, error) {
	if s.cluster != nil && ptr.Deref(s.cluster.Spec.Paused, false) {
		s.pauseReasons = append(s.pauseReasons, "Cluster spec.paused is set to true")
	}
	if annotations.HasPaused(s.obj) {
		s.pauseReasons = append(s.pauseReasons, fmt.Sprintf("%s has the %s annotation", s.kind.kind, infrastructure.PausedAnnotation))
	}
	if len(s.pauseReasons) == 0 {
		return wait{}, nil
	}
	w := wait{reason: infrastructure.ReasonPaused, message: "paused"}
	if allocationOf(s.obj).Phase != "" {
		return w, nil
	}
	// Nothing is in flight, unless it was sent off just now.
	if w.requeueAfter = s.backoff.remaining(s.request); w.requeueAfter > 0 {
		return w, nil
	}
	return w, s.unblockMove(ctx)
}

// waitForOwnerCluster waits until a Cluster owns the MetalStackCluster.
func waitForOwnerCluster(_ context.Context, s *scope) (wait, error) {
	for _, ref := range s.obj.GetOwnerReferences() {
		if ref.Kind == "Cluster" && isClusterAPI(ref.APIVersion) && s.cluster != nil && ref.UID == s.cluster.UID {
			return wait{}, nil
		}
	}
	return waitFor(fallbackRequeue, infrastructure.ReasonWaitingForOwner,
		"No Cluster owns this object yet: Cluster API sets the owner reference when spec.infrastructureRef of a Cluster names it"), nil
}

// waitForNetwork waits for the MetalStackCluster of a machine or firewall and for its
// waitForNetwork, which they join.
func waitForNetwork(ctx context.Context, s *scope) (wait, error) {
	name, w := s.infraName()
	if name == "" || w.message != "" {
		return w, nil
	}
	infra := &v1alpha4.MetalStackCluster{}
	err := s.cached.Get(ctx, types.NamespacedName{Namespace: s.obj.GetNamespace(), Name: name}, infra)
	reason := infrastructure.ReasonWaitingForClusterInfrastructure
	switch {
	case apierrors.IsNotFound(err):
		return waitFor(fallbackRequeue, reason, "There is no MetalStackCluster %s", name), nil
	case err != nil:
		return wait{}, err
	case infra.DeletionTimestamp != nil:
		return waitFor(fallbackRequeue, reason, "MetalStackCluster %s is being deleted", name), nil
	case !infrastructure.ExternallyManaged(infra) && allocationOf(infra).Phase != v1alpha4.AllocationAllocated:
		return waitFor(fallbackRequeue, reason, "MetalStackCluster %s has no network yet", name), nil
	}
	s.metalStackCluster = infra
	return wait{}, nil
}

// infraName returns the name of the MetalStackCluster of a machine or
// firewall; none if it belongs to no cluster, or to one of another kind.
func (s *scope) infraName() (string, wait) {
	for _, ref := range s.obj.GetOwnerReferences() {
		if group, _, _ := strings.Cut(ref.APIVersion, "/"); ref.Kind == clusters.kind && group == v1alpha4.GroupName {
			return ref.Name, wait{}
		}
	}
	name := s.clusterName()
	switch {
	case name == "" || s.options.Standalone:
		return name, wait{}
	case s.cluster == nil:
		return "", waitFor(fallbackRequeue, infrastructure.ReasonWaitingForClusterInfrastructure, "There is no Cluster %s", name)
	case !s.cluster.Spec.InfrastructureRef.IsDefined():
		return "", waitFor(fallbackRequeue, infrastructure.ReasonWaitingForClusterInfrastructure, "Cluster %s names no infrastructure yet", name)
	case s.cluster.Spec.InfrastructureRef.APIGroup != v1alpha4.GroupName || s.cluster.Spec.InfrastructureRef.Kind != clusters.kind:
		return "", wait{}
	}
	return s.cluster.Spec.InfrastructureRef.Name, wait{}
}
