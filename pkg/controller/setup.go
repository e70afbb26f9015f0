package controller

import (
	"context"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// Options say how the reconcilers work.
type Options struct {
	// Standalone is for an API server without Cluster API: machines are
	// allocated although no Machine owns them.
	Standalone bool
	// Concurrency is how many objects of a kind are worked on at a time. An
	// allocation takes the metal-api seconds.
	Concurrency int
}

// NewScheme knows the types that the reconcilers work with.
func NewScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	return scheme, v1alpha4.AddToScheme(scheme)
}

// Setup adds the reconcilers of all kinds to a manager that has NewScheme's.
func Setup(mgr ctrl.Manager, options Options) error {
	clients, err := versioned.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return err
	}
	metal := restSubresource{clients.InfrastructureV1alpha4().RESTClient()}

	for _, k := range []kind{clusters, machines, firewalls} {
		r := newReconciler(k, mgr.GetClient(), mgr.GetAPIReader(), metal, clock.RealClock{}, options)
		builder := ctrl.NewControllerManagedBy(mgr).
			Named(k.name).
			For(k.object()).
			WithOptions(controller.Options{MaxConcurrentReconciles: max(1, options.Concurrency)})
		if k.name == clusters.name {
			// A cluster that is to go waits for its machines and firewalls.
			builder.Watches(machines.object(), handler.EnqueueRequestsFromMapFunc(clusterOf))
			builder.Watches(firewalls.object(), handler.EnqueueRequestsFromMapFunc(clusterOf))
		} else {
			// Machines and firewalls wait for their cluster's network.
			builder.Watches(clusters.object(), handler.EnqueueRequestsFromMapFunc(r.membersOf))
		}
		if err := builder.Complete(r); err != nil {
			return err
		}
	}
	return nil
}

func newReconciler(k kind, cached client.Client, live client.Reader, metal subresource, clock clock.Clock, options Options) *reconciler {
	r := &reconciler{
		kind: k, cached: cached, live: live, metal: metal,
		clock: clock, memory: newMemory(clock), standalone: options.Standalone,
	}
	switch k.name {
	case clusters.name:
		r.prepare, r.mayRelease = r.prepareCluster, r.clusterMayGo
	case machines.name:
		r.prepare, r.mayRelease = r.prepareMachine, r.serverMayGo
	case firewalls.name:
		r.prepare, r.mayRelease = r.prepareFirewall, r.serverMayGo
	}
	return r
}

// clusterOf names the cluster that a machine's or firewall's label names.
func clusterOf(_ context.Context, obj client.Object) []reconcile.Request {
	name := obj.GetLabels()[v1alpha4.ClusterNameLabel]
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: obj.GetNamespace(), Name: name}}}
}

// membersOf names the objects of the reconciler's kind whose label names the
// cluster.
func (r *reconciler) membersOf(ctx context.Context, cluster client.Object) []reconcile.Request {
	list := r.kind.list()
	err := r.cached.List(ctx, list, client.InNamespace(cluster.GetNamespace()),
		client.MatchingLabels{v1alpha4.ClusterNameLabel: cluster.GetName()})
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Members of the cluster could not be listed; they look again by themselves")
		return nil
	}
	var requests []reconcile.Request
	_ = meta.EachListItem(list, func(item runtime.Object) error {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(item.(client.Object))})
		return nil
	})
	return requests
}
