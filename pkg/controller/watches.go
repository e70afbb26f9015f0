// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// addWatches says whose events wake the objects of the reconciler's kind.
func (r *reconciler) addWatches(mgr ctrl.Manager, b *builder.Builder) error {
	gvk := v1alpha4.SchemeGroupVersion.WithKind(r.kind.kind)
	if r.kind.name == clusters.name {
		// A cluster that is to go waits for its machines, and has firewalls.
		b.Watches(machines.object(), handler.EnqueueRequestsFromMapFunc(r.requestsForCluster), builder.WithPredicates(deleteEvents))
		b.Watches(firewalls.object(), handler.EnqueueRequestsFromMapFunc(r.requestsForCluster))
		if !r.options.Standalone {
			b.Watches(&clusterv1.Cluster{}, handler.EnqueueRequestsFromMapFunc(
				util.ClusterToInfrastructureMapFunc(context.Background(), gvk, mgr.GetClient(), clusters.object())))
		}
		return nil
	}
	if r.kind.isClaim() {
		return r.watchClusters(mgr, b)
	}
	// Machines and firewalls wait for their cluster's network, and machines for
	// its firewall.
	b.Watches(clusters.object(), handler.EnqueueRequestsFromMapFunc(r.requestsForMembers))
	if r.kind.name == machines.name {
		b.Watches(firewalls.object(), handler.EnqueueRequestsFromMapFunc(r.requestsForMembers), builder.WithPredicates(firewallProvisioned))
	} else {
		// A firewall that goes with its cluster waits for the machines.
		b.Watches(machines.object(), handler.EnqueueRequestsFromMapFunc(r.requestsForMembers), builder.WithPredicates(deleteEvents))
	}
	if err := r.watchClusters(mgr, b); err != nil {
		return err
	}
	if r.kind.name == machines.name && !r.options.Standalone {
		b.Watches(&clusterv1.Machine{}, handler.EnqueueRequestsFromMapFunc(util.MachineToInfrastructureMapFunc(gvk)))
	}
	return nil
}

// watchClusters says that a Cluster, which may be paused, wakes the objects with its label.
func (r *reconciler) watchClusters(mgr ctrl.Manager, b *builder.Builder) error {
	if r.options.Standalone {
		return nil
	}
	toMembers, err := util.ClusterToTypedObjectsMapper(mgr.GetClient(), r.kind.list(), mgr.GetScheme())
	if err != nil {
		return err
	}
	b.Watches(&clusterv1.Cluster{}, handler.EnqueueRequestsFromMapFunc(toMembers))
	return nil
}

var deleteEvents = predicate.Funcs{
	CreateFunc:  func(event.CreateEvent) bool { return false },
	UpdateFunc:  func(event.UpdateEvent) bool { return false },
	GenericFunc: func(event.GenericEvent) bool { return false },
}

// firewallProvisioned is for the events of a firewall that machines wait for: it has
// phoned home for the first time, or one that had is the cluster's now.
var firewallProvisioned = predicate.Funcs{
	CreateFunc: func(event.CreateEvent) bool { return false },
	UpdateFunc: func(e event.UpdateEvent) bool {
		return isProvisioned(e.ObjectNew) && (!isProvisioned(e.ObjectOld) || controllerUID(e.ObjectOld) != controllerUID(e.ObjectNew))
	},
	DeleteFunc:  func(event.DeleteEvent) bool { return false },
	GenericFunc: func(event.GenericEvent) bool { return false },
}

// requestsForCluster names the MetalStackCluster of a machine or firewall.
func (r *reconciler) requestsForCluster(ctx context.Context, obj client.Object) []reconcile.Request {
	name := obj.GetLabels()[infrastructure.ClusterNameLabel]
	list := &v1alpha4.MetalStackClusterList{}
	if err := r.cached.List(ctx, list, client.InNamespace(obj.GetNamespace())); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Failed to list clusters: they are requeued periodically")
		return nil
	}
	var requests []reconcile.Request
	for i := range list.Items {
		c := &list.Items[i]
		if (name != "" && clusterNameOf(c) == name) || allocationOf(obj).ClusterName == c.Name {
			requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: c.Namespace, Name: c.Name}})
		}
	}
	return requests
}

// requestsForMembers names the objects of the reconciler's kind that belong to the same
// cluster as obj, which is the MetalStackCluster, a firewall or a machine.
func (r *reconciler) requestsForMembers(ctx context.Context, obj client.Object) []reconcile.Request {
	name := obj.GetLabels()[infrastructure.ClusterNameLabel]
	if cluster, ok := obj.(*v1alpha4.MetalStackCluster); ok {
		name = clusterNameOf(cluster)
	}
	if name == "" {
		return nil
	}
	list := r.kind.list()
	err := r.cached.List(ctx, list, client.InNamespace(obj.GetNamespace()),
		client.MatchingLabels{infrastructure.ClusterNameLabel: name})
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Failed to list members of the cluster: they are requeued periodically")
		return nil
	}
	var requests []reconcile.Request
	_ = meta.EachListItem(list, func(item runtime.Object) error {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(item.(client.Object))})
		return nil
	})
	return requests
}
