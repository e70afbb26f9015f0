// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"maps"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// remediations count the remediations that ended.
var remediations = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "metalstack_controller_remediations_total",
	Help: "Remediations that ended, by result: remediated, if the Node was ready again, handed_back, if the Machine was handed back to be replaced, or left_off, if besides the machine may be off and could not be switched on.",
}, []string{"result"})

const (
	resultRemediated = "remediated"
	resultHandedBack = "handed_back"
	resultLeftOff    = "left_off"
)

var registerRemediations sync.Once

func registerRemediationMetrics() {
	registerRemediations.Do(func() {
		metrics.Registry.MustRegister(remediations)
		for _, result := range []string{resultRemediated, resultHandedBack, resultLeftOff} {
			remediations.WithLabelValues(result)
		}
	})
}

func newRemediationReconciler(cached, live client.Client, recorder events.EventRecorder, options Options) *remediationReconciler {
	return &remediationReconciler{
		cached: cached, live: live, power: restPowerClient{live}, connections: newWorkloadConnections(),
		clock: clock.RealClock{}, recorder: recorder, options: options,
	}
}

// setUp adds the reconciler to a manager.
func (r *remediationReconciler) setUp(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("remediation").
		For(&v1alpha4.MetalStackRemediation{}).
		// A remediation has the name of its Machine.
		Watches(&clusterv1.Machine{}, &handler.EnqueueRequestForObject{},
			builder.WithPredicates(predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool { return remediatedMachineChanged(e.ObjectOld, e.ObjectNew) }})).
		Watches(&clusterv1.Cluster{}, handler.EnqueueRequestsFromMapFunc(r.requestsForRemediations),
			builder.WithPredicates(predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool { return e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration() }})).
		WithOptions(controller.Options{MaxConcurrentReconciles: remediationConcurrency}).
		Complete(r)
}

// remediatedMachineChanged returns whether a Machine has changed in what a remediation looks at.
func remediatedMachineChanged(before, after client.Object) bool {
	a, b := healthCheckFailure(before.(*clusterv1.Machine)), healthCheckFailure(after.(*clusterv1.Machine))
	return before.GetGeneration() != after.GetGeneration() || !apiequality.Semantic.DeepEqual(a, b) ||
		!maps.Equal(before.GetAnnotations(), after.GetAnnotations())
}

// requestsForRemediations names the remediations of a Cluster.
func (r *remediationReconciler) requestsForRemediations(ctx context.Context, cluster client.Object) []reconcile.Request {
	list := &v1alpha4.MetalStackRemediationList{}
	err := r.cached.List(ctx, list, client.InNamespace(cluster.GetNamespace()), client.MatchingLabels{clusterv1.ClusterNameLabel: cluster.GetName()})
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Failed to list remediations: they are requeued periodically")
		return nil
	}
	var requests []reconcile.Request
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return requests
}
