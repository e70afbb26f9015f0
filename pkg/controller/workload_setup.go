// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"maps"

	"k8s.io/apimachinery/pkg/api/meta"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// setUp adds the reconciler to a manager. Only what changes what it does wakes it: it writes
// the status of firewalls itself.
func (w *workloadReconciler) setUp(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("workload").
		For(clusters.object(), builder.WithPredicates(predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool { return workloadClusterChanged(e.ObjectOld, e.ObjectNew) }})).
		Watches(firewalls.object(), handler.EnqueueRequestsFromMapFunc(w.requestsForCluster),
			builder.WithPredicates(predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool { return monitoredFirewallChanged(e.ObjectOld, e.ObjectNew) }})).
		Watches(&clusterv1.Cluster{}, handler.EnqueueRequestsFromMapFunc(
			util.ClusterToInfrastructureMapFunc(context.Background(), v1alpha4.SchemeGroupVersion.WithKind(clusters.kind), mgr.GetClient(), clusters.object()))).
		WithOptions(controller.Options{MaxConcurrentReconciles: workloadConcurrency}).
		Complete(w)
}

func workloadClusterChanged(before, after client.Object) bool {
	reason := func(obj client.Object) string {
		c := meta.FindStatusCondition(obj.(*v1alpha4.MetalStackCluster).Status.Conditions, infrastructure.ConditionFirewallControllerReady)
		if c == nil {
			return ""
		}
		return c.Reason
	}
	return before.GetGeneration() != after.GetGeneration() || reason(before) != reason(after) ||
		!maps.Equal(before.GetLabels(), after.GetLabels()) || !maps.Equal(before.GetAnnotations(), after.GetAnnotations())
}

func monitoredFirewallChanged(before, after client.Object) bool {
	a, b := before.(*v1alpha4.MetalStackFirewall), after.(*v1alpha4.MetalStackFirewall)
	return monitorName(a) != monitorName(b) || (a.Spec.Controller == nil) != (b.Spec.Controller == nil) ||
		!maps.Equal(a.Labels, b.Labels) || controllerUID(a) != controllerUID(b)
}
