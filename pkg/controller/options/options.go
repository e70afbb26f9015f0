// SPDX-License-Identifier: Apache-2.0

// Package options turns the controller manager's flags into the configuration of
// a manager and of its reconcilers. It must never start anything.
package options

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/pflag"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	logsapi "k8s.io/component-base/logs/api/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"metal-stack.io/infrastructure-apiserver/pkg/controller"
	"metal-stack.io/infrastructure-apiserver/pkg/logging"
)

// LeaseName is the name of the Lease that the active replica holds.
const LeaseName = "metalstack-controller-manager"

// Options are the values of the flags.
type Options struct {
	Kubeconfig string
	// Namespaces are those that are reconciled; empty: all.
	Namespaces []string

	MetricsBindAddress     string
	MetricsSecure          bool
	HealthProbeBindAddress string

	LeaderElect          bool
	LeaderElectNamespace string
	LeaseDuration        time.Duration
	RenewDeadline        time.Duration
	RetryPeriod          time.Duration

	QPS   float32
	Burst int

	// ManagementClusterURL is where workload clusters reach the API server, and
	// ManagementClusterCAFile has the authorities that verify it.
	ManagementClusterURL, ManagementClusterCAFile string

	Controller controller.Options
	Logs       *logsapi.LoggingConfiguration
}

// New returns the defaults.
func New() *Options {
	return &Options{
		MetricsBindAddress: "0", HealthProbeBindAddress: "0",
		LeaderElectNamespace: os.Getenv("POD_NAMESPACE"),
		LeaseDuration:        15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
		// The server has priority and fairness; client-go's default rates would
		// slow down the creation of one large cluster.
		QPS: 100, Burst: 200,
		Controller: controller.NewOptions(),
		Logs:       logsapi.NewLoggingConfiguration(),
	}
}

// AddFlags adds the flags.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.Kubeconfig, "kubeconfig", o.Kubeconfig, "Path to a kubeconfig file. If empty, the in-cluster configuration is used.")
	fs.StringSliceVar(&o.Namespaces, "namespace", o.Namespaces, "Namespaces whose objects are reconciled, separated by commas. If empty, all namespaces.")
	fs.StringVar(&o.MetricsBindAddress, "metrics-bind-address", o.MetricsBindAddress, "Address that /metrics is served at. If 0, it is not served.")
	fs.BoolVar(&o.MetricsSecure, "metrics-secure", o.MetricsSecure, "Serve /metrics over TLS, with authentication and authorization by the cluster.")
	fs.StringVar(&o.HealthProbeBindAddress, "health-probe-bind-address", o.HealthProbeBindAddress, "Address that /healthz and /readyz are served at. If 0, they are not served.")
	fs.BoolVar(&o.LeaderElect, "leader-elect", o.LeaderElect, "Reconcile only while holding the Lease "+LeaseName+".")
	fs.StringVar(&o.LeaderElectNamespace, "leader-elect-namespace", o.LeaderElectNamespace, "Namespace of the Lease. If empty, the namespace of the Pod.")
	fs.DurationVar(&o.LeaseDuration, "leader-elect-lease-duration", o.LeaseDuration, "Duration that a standby replica waits after the last renewal of the Lease before it acquires the Lease.")
	fs.DurationVar(&o.RenewDeadline, "leader-elect-renew-deadline", o.RenewDeadline, "Duration for which the active replica retries to renew the Lease before it exits.")
	fs.DurationVar(&o.RetryPeriod, "leader-elect-retry-period", o.RetryPeriod, "Interval between attempts to acquire or renew the Lease.")
	fs.Float32Var(&o.QPS, "kube-api-qps", o.QPS, "Maximum average rate, in requests per second, of requests to the API.")
	fs.IntVar(&o.Burst, "kube-api-burst", o.Burst, "Maximum burst of requests to the API.")

	c := &o.Controller
	fs.StringVar(&c.WatchFilter, "watch-filter", c.WatchFilter, "Value of the label cluster.x-k8s.io/watch-filter of the objects that are reconciled. If empty, all objects.")
	fs.BoolVar(&c.Standalone, "standalone", c.Standalone, "Run without Cluster API: machines that no Machine owns are allocated.")
	fs.IntVar(&c.Clusters, "cluster-concurrency", c.Clusters, "Number of MetalStackClusters that are reconciled concurrently.")
	fs.IntVar(&c.Machines, "machine-concurrency", c.Machines, "Number of MetalStackMachines that are reconciled concurrently. An allocation, which takes seconds, occupies one of them.")
	fs.IntVar(&c.Firewalls, "firewall-concurrency", c.Firewalls, "Number of MetalStackFirewalls that are reconciled concurrently.")
	fs.DurationVar(&c.LoadBalancerGracePeriod, "load-balancer-grace-period", c.LoadBalancerGracePeriod, "Duration for which a deleted control plane machine keeps running before its metal is released, so that load balancers can remove it.")
	fs.DurationVar(&c.FirewallUnhealthyTimeout, "firewall-unhealthy-timeout", c.FirewallUnhealthyTimeout, "Duration for which a cluster's firewall may be crashed or unreachable before it is replaced. A firewall whose metal is gone is replaced immediately.")
	fs.DurationVar(&c.FirewallProvisioningTimeout, "firewall-provisioning-timeout", c.FirewallProvisioningTimeout, "Duration after its allocation within which a cluster's firewall must phone home before it is replaced, unless firewallSpec.provisioningTimeout is set.")
	fs.StringVar(&o.ManagementClusterURL, "management-cluster-url", o.ManagementClusterURL, "URL under which workload clusters reach the API server of the management cluster, such as https://kubernetes.example.org:6443. metal-ccm in clusters with spec.metalAPIAccess is configured with it. If empty, no cluster gets new access to its metal-api; existing access stays until it is removed from the spec.")
	fs.StringVar(&o.ManagementClusterCAFile, "management-cluster-ca-file", o.ManagementClusterCAFile, "Path to the certificates, as PEM, by which workload clusters verify the API server under --management-cluster-url. If empty, those by which the controller manager itself verifies it. If "+systemAuthorities+", workload clusters verify it by the authorities of their system.")
	logsapi.AddFlags(o.Logs, fs)
}

// Validate returns all that is wrong.
func (o *Options) Validate() error {
	errs := logging.Validate(o.Logs)
	for _, flag := range []struct {
		name  string
		value int
	}{
		{"cluster-concurrency", o.Controller.Clusters},
		{"machine-concurrency", o.Controller.Machines},
		{"firewall-concurrency", o.Controller.Firewalls},
	} {
		if flag.value < 1 {
			errs = append(errs, fmt.Errorf("--%s must be at least 1, got %d", flag.name, flag.value))
		}
	}
	for _, flag := range []struct {
		name  string
		value time.Duration
	}{
		{"load-balancer-grace-period", o.Controller.LoadBalancerGracePeriod},
		{"firewall-unhealthy-timeout", o.Controller.FirewallUnhealthyTimeout},
		{"firewall-provisioning-timeout", o.Controller.FirewallProvisioningTimeout},
	} {
		if flag.value < 0 {
			errs = append(errs, fmt.Errorf("--%s must not be negative, got %s", flag.name, flag.value))
		}
	}
	errs = append(errs, validateManagementClusterURL(o.ManagementClusterURL))
	return utilerrors.NewAggregate(errs)
}

// ClientConfig returns the configuration of clients of the API.
func (o *Options) ClientConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", o.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	config.QPS, config.Burst = o.QPS, o.Burst
	return config, nil
}

// ManagerOptions returns the options of the manager.
func (o *Options) ManagerOptions() (ctrl.Options, error) {
	scheme, err := controller.NewScheme()
	if err != nil {
		return ctrl.Options{}, err
	}
	metrics := metricsserver.Options{BindAddress: o.MetricsBindAddress, SecureServing: o.MetricsSecure}
	if o.MetricsSecure {
		metrics.FilterProvider = filters.WithAuthenticationAndAuthorization
		metrics.TLSOpts = append(metrics.TLSOpts, restrictTLS)
	}
	options := ctrl.Options{
		Scheme:                  scheme,
		Metrics:                 metrics,
		HealthProbeBindAddress:  o.HealthProbeBindAddress,
		LeaderElection:          o.LeaderElect,
		LeaderElectionID:        LeaseName,
		LeaderElectionNamespace: o.LeaderElectNamespace,
		LeaseDuration:           &o.LeaseDuration,
		RenewDeadline:           &o.RenewDeadline,
		RetryPeriod:             &o.RetryPeriod,
		// The process ends when the manager does, so that the next one need not wait.
		LeaderElectionReleaseOnCancel: true,
	}
	options.Cache.ByObject, options.NewCache = controller.CacheByObject(), controller.NewCache
	for _, namespace := range o.Namespaces {
		if options.Cache.DefaultNamespaces == nil {
			options.Cache.DefaultNamespaces = map[string]cache.Config{}
		}
		options.Cache.DefaultNamespaces[namespace] = cache.Config{}
	}
	return options, nil
}
