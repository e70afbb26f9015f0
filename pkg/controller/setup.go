// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// Options say how the reconcilers work.
type Options struct {
	// Standalone is for an API server without Cluster API: machines are
	// allocated although no Machine owns them.
	Standalone bool
	// WatchFilter is the value of the label cluster.x-k8s.io/watch-filter that
	// the objects to reconcile have; empty: all of them.
	WatchFilter string
	// Clusters, Machines and Firewalls are how many objects of a kind are worked
	// on at a time, Firewalls also of networks and addresses each. An allocation takes the
	// metal-api seconds.
	Clusters, Machines, Firewalls int
	// LoadBalancerGracePeriod is how long a control plane machine keeps its metal
	// after it was deleted, so that load balancers can remove it.
	LoadBalancerGracePeriod time.Duration
	// FirewallUnhealthyTimeout is for how long a firewall may crash or be silent before
	// it is replaced.
	FirewallUnhealthyTimeout time.Duration
	// FirewallProvisioningTimeout is how long after its allocation a firewall may take to
	// phone home before it is replaced, unless the spec says.
	FirewallProvisioningTimeout time.Duration
	// ManagementCluster is how workload clusters reach the API server of this one.
	ManagementCluster ManagementCluster
}

// NewOptions returns what holds unless it is said otherwise.
func NewOptions() Options {
	return Options{
		Clusters: 8, Machines: 8, Firewalls: 8,
		LoadBalancerGracePeriod:     30 * time.Second,
		FirewallUnhealthyTimeout:    15 * time.Minute,
		FirewallProvisioningTimeout: time.Hour,
	}
}

// NewScheme knows the types that the reconcilers work with.
func NewScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha4.AddToScheme, clusterv1.AddToScheme, corev1.AddToScheme, rbacv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	return scheme, nil
}

// CacheByObject says what of a kind is cached, if that is not all: networks and addresses that are
// not claims are discovered, and are not reconciled.
func CacheByObject() map[client.Object]cache.ByObject {
	managed := cache.ByObject{Field: fields.OneTermEqualSelector("status.managed", "true")}
	return map[client.Object]cache.ByObject{networks.object(): managed, ips.object(): managed}
}

// NewCache is cache.New for CacheByObject, which has to know the scope of these kinds before their
// API is served.
func NewCache(config *rest.Config, opts cache.Options) (cache.Cache, error) {
	own := meta.NewDefaultRESTMapper([]schema.GroupVersion{v1alpha4.SchemeGroupVersion})
	for _, kind := range []string{"MetalStackNetwork", "MetalStackIP"} {
		own.Add(v1alpha4.SchemeGroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	opts.Mapper = meta.FirstHitRESTMapper{MultiRESTMapper: meta.MultiRESTMapper{own, opts.Mapper}}
	return cache.New(config, opts)
}

// Setup adds the reconcilers of all kinds to a manager that has NewScheme's.
func Setup(mgr ctrl.Manager, options Options) error {
	registerRemediationMetrics()
	clients, err := versioned.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return err
	}
	live, err := client.New(withStaleReads(mgr.GetConfig()), client.Options{
		HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(),
	})
	if err != nil {
		return err
	}
	var recorder events.EventRecorder = noEvents{}
	if !options.Standalone {
		recorder = mgr.GetEventRecorder("metalstack-controller-manager")
	}
	discovery := rest.CopyConfig(mgr.GetConfig())
	discovery.Timeout = endpointTimeout
	discoveryClient, err := rest.HTTPClientFor(discovery)
	if err != nil {
		return err
	}
	metal := restAllocationClient{clients.InfrastructureV1alpha4().RESTClient()}

	for _, k := range metalKinds {
		r := newReconciler(k, options)
		r.cached, r.live, r.allocations = mgr.GetClient(), live, metal
		r.newMapper = func() (meta.RESTMapper, error) {
			return apiutil.NewDynamicRESTMapper(discovery, discoveryClient)
		}
		r.recorder, r.clock, r.states = recorder, clock.RealClock{}, newObjectStates(clock.RealClock{})
		builder := ctrl.NewControllerManagedBy(mgr).
			Named(k.name).
			For(k.object()).
			WithOptions(controller.Options{MaxConcurrentReconciles: max(1, r.concurrency())})
		if k.name == machines.name && !options.Standalone {
			if err := newRemediationReconciler(mgr.GetClient(), live, recorder, options).setUp(mgr); err != nil {
				return err
			}
		}
		if k.name == clusters.name && !options.Standalone {
			r.workload = newWorkloadStates()
			w, err := newWorkloadReconciler(r)
			if err != nil {
				return err
			}
			if err := w.setUp(mgr); err != nil {
				return err
			}
			builder.WatchesRawSource(source.Channel(r.workload.wakes, &handler.EnqueueRequestForObject{}))
		}
		if err := r.addWatches(mgr, builder); err != nil {
			return err
		}
		if err := builder.Complete(r); err != nil {
			return err
		}
	}
	return nil
}

func (r *reconciler) concurrency() int {
	switch r.kind.name {
	case clusters.name:
		return r.options.Clusters
	case machines.name:
		return r.options.Machines
	}
	return r.options.Firewalls
}

// newReconciler says which phases the objects of a kind go through.
func newReconciler(k kind, options Options) *reconciler {
	r := &reconciler{
		kind: k, options: options, controlPlaneKinds: &kindMapper{},
		accessChecks: newAccessChecks(), firewallAccessChecks: newAccessChecks(),
	}
	switch k.name {
	case clusters.name:
		if !options.Standalone {
			r.beforeAllocate = []phase{waitForOwnerCluster}
		}
		r.independent = []phase{reconcileMetalAPIAccess, reconcileFirewallAccess}
		r.whileAllocated = []phase{reconcileControlPlaneEndpoint, reconcileFirewalls}
		r.beforeRelease = []phase{waitForMachinesDeleted, reconcileFirewallDeletion, revokeMetalAPIAccess, revokeFirewallAccess}
	case machines.name:
		r.beforeAllocate = []phase{waitWithoutSecrets, waitForNetwork}
		if !options.Standalone {
			r.beforeAllocate = []phase{waitForOwnerMachine, waitForClusterInfrastructure, waitForNetwork, waitForFirewall, reconcileBootstrapData}
		}
		r.beforeRelease = []phase{waitForLoadBalancers}
	case firewalls.name:
		r.beforeAllocate = []phase{waitWithoutSecrets, waitForNetwork}
		if !options.Standalone {
			r.beforeAllocate = []phase{waitForNetwork, reconcileFirewallUserData}
			r.whileAllocated = []phase{forgetAccessOfAdopted}
		}
		r.beforeRelease = []phase{waitForMachinesReleased}
	}
	return r
}
