// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"context"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// membersRequeue is how soon to check again what a cluster waits for, if no
// event arrives.
const membersRequeue = 30 * time.Second

// waitForMachinesDeleted waits for the machines of a cluster, which live in its network.
// It asks the server, not the cache: what it does not see loses its network.
func waitForMachinesDeleted(ctx context.Context, r *reconciliation) (wait, error) {
	there, err := r.listMembers(ctx, machines)
	if err != nil || len(there) == 0 {
		return wait{}, err
	}
	return waitFor(membersRequeue, infrastructure.ReasonWaitingForMachines,
		"%d machines of the cluster still exist, for example %s (%s)", len(there), there[0].GetName(), describeController(there[0])), nil
}

// waitForMachinesReleased waits, with a firewall whose cluster is being deleted, for the
// machines of the cluster that hold metal: they are drained through it. The
// garbage collector and the namespace controller delete both at the same time. A
// firewall that is replaced, or that a person deletes, waits for none.
func waitForMachinesReleased(ctx context.Context, r *reconciliation) (wait, error) {
	infra, _ := r.infraName()
	infra = cmp.Or(infra, allocationOf(r.obj).ClusterName)
	if deleted, err := r.clusterDeleted(ctx, infra); err != nil || !deleted {
		return wait{}, err
	}
	there, err := r.listMembersOf(ctx, machines, r.clusterName(), infra)
	there = slices.DeleteFunc(there, func(m client.Object) bool { return isReleased(m) })
	if err != nil || len(there) == 0 {
		return wait{}, err
	}
	return waitFor(membersRequeue, infrastructure.ReasonWaitingForMachines,
		"The cluster is being deleted, and %d machines of it still hold metal, such as %s", len(there), there[0].GetName()), nil
}

// clusterDeleted returns whether the Cluster of a firewall, or its
// MetalStackCluster, is being deleted.
func (r *reconciliation) clusterDeleted(ctx context.Context, infra string) (bool, error) {
	if r.cluster != nil && r.cluster.DeletionTimestamp != nil {
		return true, nil
	}
	if infra == "" {
		return false, nil
	}
	cluster := &v1alpha4.MetalStackCluster{}
	err := r.live.Get(ctx, client.ObjectKey{Namespace: r.obj.GetNamespace(), Name: infra}, cluster)
	return cluster.DeletionTimestamp != nil, client.IgnoreNotFound(err)
}

// reconcileFirewallDeletion deletes the firewalls that the cluster owns, and those that
// belong to it and that nothing controls, and waits for all of them.
func reconcileFirewallDeletion(ctx context.Context, r *reconciliation) (wait, error) {
	there, err := r.listMembers(ctx, firewalls)
	if err != nil || len(there) == 0 {
		return wait{}, err
	}
	cluster := r.obj.(*v1alpha4.MetalStackCluster)
	example := there[0]
	for _, obj := range there {
		f := obj.(*v1alpha4.MetalStackFirewall)
		ownerless := belongsTo(cluster, f) && !r.belongsToAnother(cluster, f) && !metav1.IsControlledBy(f, cluster)
		switch {
		case !ownerless && !metav1.IsControlledBy(f, cluster):
			// It does not go by itself.
			example = f
			continue
		case f.DeletionTimestamp != nil:
			continue
		case ownerless:
			if err := r.adopt(ctx, cluster, f); err != nil {
				return wait{}, err
			}
		}
		if err := r.deleteFirewall(ctx, firewallDeletion{f, "its cluster is being deleted"}); err != nil {
			return wait{}, err
		}
	}
	return waitFor(membersRequeue, infrastructure.ReasonWaitingForFirewalls,
		"%d firewalls of the cluster still exist, for example %s (%s)", len(there), example.GetName(), describeController(example)), nil
}

// ownsLabelledMembers returns whether the members that have the label of the Cluster belong to the
// MetalStackCluster of a name: the one that spec.infrastructureRef names, if there
// is one.
func (r *reconciliation) ownsLabelledMembers(infra string) bool {
	if r.cluster == nil || !r.cluster.Spec.InfrastructureRef.IsDefined() {
		return true
	}
	ref := r.cluster.Spec.InfrastructureRef
	return ref.APIGroup == v1alpha4.GroupName && ref.Kind == clusters.kind && ref.Name == infra
}

// belongsToAnother returns whether a firewall that nothing controls belongs to another
// MetalStackCluster of the same Cluster.
func (r *reconciliation) belongsToAnother(cluster *v1alpha4.MetalStackCluster, f *v1alpha4.MetalStackFirewall) bool {
	return metav1.GetControllerOf(f) == nil && !r.ownsLabelledMembers(cluster.Name)
}

// listMembers returns the objects of a kind that belong to the MetalStackCluster of
// the reconciliation.
func (r *reconciliation) listMembers(ctx context.Context, k kind) ([]client.Object, error) {
	return r.listMembersOf(ctx, k, clusterNameOf(r.obj.(*v1alpha4.MetalStackCluster)), r.obj.GetName())
}

// listMembersOf returns the objects of a kind that belong to a
// MetalStackCluster, whose name is infra: by the label of the cluster, by owner,
// or because their metal was allocated for it.
func (r *reconciliation) listMembersOf(ctx context.Context, k kind, name, infra string) ([]client.Object, error) {
	list := k.list()
	if err := r.live.List(ctx, list, client.InNamespace(r.obj.GetNamespace())); err != nil {
		return nil, err
	}
	byLabel := name != "" && r.ownsLabelledMembers(infra)
	var there []client.Object
	err := meta.EachListItem(list, func(item runtime.Object) error {
		obj := item.(client.Object)
		if (byLabel && obj.GetLabels()[infrastructure.ClusterNameLabel] == name) || metav1.IsControlledBy(obj, r.obj) ||
			(infra != "" && allocationOf(obj).ClusterName == infra && !isReleased(obj)) {
			there = append(there, obj)
		}
		return nil
	})
	return there, err
}
