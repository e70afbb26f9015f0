package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"metal-stack.io/infrastructure-apiserver/pkg/controller"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// leaseName is the name of the Lease of the replica that works.
const leaseName = "metalstack-controller-manager"

type options struct {
	kubeconfig     string
	namespaces     []string
	metricsBind    string
	metricsSecure  bool
	healthBind     string
	elect          bool
	electNamespace string
	leaseDuration  time.Duration
	renewDeadline  time.Duration
	retryPeriod    time.Duration
	qps            float32
	burst          int
	controller     controller.Options
	logging        *logsapi.LoggingConfiguration
}

func newCommand() *cobra.Command {
	o := &options{logging: logsapi.NewLoggingConfiguration(), controller: controller.NewOptions()}
	command := &cobra.Command{
		Use:   "metalstack-controller-manager",
		Short: "Allocates and releases metal for MetalStackClusters, -Machines and -Firewalls",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			logs.InitLogs()
			if err := logsapi.ValidateAndApply(o.logging, nil); err != nil {
				return err
			}
			klog.SetLogFilter(oneline.LogFilter{})
			return o.run()
		},
		SilenceUsage: true,
	}
	flags := command.Flags()
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "Path to a kubeconfig file. If empty, the in-cluster configuration is used.")
	flags.StringSliceVar(&o.namespaces, "namespace", nil, "Namespaces whose objects are reconciled, separated by commas. If empty, all namespaces.")
	flags.StringVar(&o.controller.WatchFilter, "watch-filter", "", "Value of the label cluster.x-k8s.io/watch-filter of the objects that are reconciled. If empty, all objects.")
	flags.StringVar(&o.metricsBind, "metrics-bind-address", "0", "Address that /metrics is served at. If 0, it is not served.")
	flags.BoolVar(&o.metricsSecure, "metrics-secure", false, "Serve /metrics over TLS, with authentication and authorization by the cluster.")
	flags.StringVar(&o.healthBind, "health-probe-bind-address", "0", "Address that /healthz and /readyz are served at. If 0, they are not served.")
	flags.BoolVar(&o.elect, "leader-elect", false, "Reconcile only while holding the Lease "+leaseName+".")
	flags.StringVar(&o.electNamespace, "leader-elect-namespace", os.Getenv("POD_NAMESPACE"), "Namespace of the Lease. If empty, the namespace of the Pod.")
	flags.DurationVar(&o.leaseDuration, "leader-elect-lease-duration", 15*time.Second, "Duration that a standby replica waits after the last renewal of the Lease before it acquires the Lease.")
	flags.DurationVar(&o.renewDeadline, "leader-elect-renew-deadline", 10*time.Second, "Duration for which the active replica retries to renew the Lease before it exits.")
	flags.DurationVar(&o.retryPeriod, "leader-elect-retry-period", 2*time.Second, "Interval between attempts to acquire or renew the Lease.")
	flags.BoolVar(&o.controller.Standalone, "standalone", false, "Run without Cluster API: machines that no Machine owns are allocated.")
	flags.IntVar(&o.controller.Clusters, "cluster-concurrency", o.controller.Clusters, "Number of MetalStackClusters that are reconciled concurrently.")
	flags.IntVar(&o.controller.Machines, "machine-concurrency", o.controller.Machines, "Number of MetalStackMachines that are reconciled concurrently. An allocation, which takes seconds, occupies one of them.")
	flags.IntVar(&o.controller.Firewalls, "firewall-concurrency", o.controller.Firewalls, "Number of MetalStackFirewalls that are reconciled concurrently.")
	flags.DurationVar(&o.controller.LoadBalancerGracePeriod, "load-balancer-grace-period", o.controller.LoadBalancerGracePeriod, "Duration for which a deleted control plane machine keeps running before its metal is released, so that load balancers can remove it.")
	flags.DurationVar(&o.controller.FirewallUnhealthyTimeout, "firewall-unhealthy-timeout", o.controller.FirewallUnhealthyTimeout, "Duration for which a cluster's firewall may crash or send no lifesign before it is replaced. A firewall whose metal is gone is replaced immediately.")
	// The server shares its capacity out fairly; what client-go allows by
	// default holds the building of one large cluster up.
	flags.Float32Var(&o.qps, "kube-api-qps", 100, "Maximum average rate, in requests per second, of requests to the API.")
	flags.IntVar(&o.burst, "kube-api-burst", 200, "Maximum burst of requests to the API.")
	logsapi.AddFlags(o.logging, flags)
	return command
}

func (o *options) validate() error {
	for flag, value := range map[string]int{
		"cluster-concurrency": o.controller.Clusters, "machine-concurrency": o.controller.Machines, "firewall-concurrency": o.controller.Firewalls,
	} {
		if value < 1 {
			return fmt.Errorf("--%s must be at least 1, got %d", flag, value)
		}
	}
	for flag, value := range map[string]time.Duration{
		"load-balancer-grace-period": o.controller.LoadBalancerGracePeriod, "firewall-unhealthy-timeout": o.controller.FirewallUnhealthyTimeout,
	} {
		if value < 0 {
			return fmt.Errorf("--%s must not be negative, got %s", flag, value)
		}
	}
	return nil
}

func (o *options) run() error {
	if err := o.validate(); err != nil {
		return err
	}
	ctrl.SetLogger(klog.Background())
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return fmt.Errorf("--kubeconfig: %w", err)
	}
	config.QPS, config.Burst = o.qps, o.burst
	scheme, err := controller.NewScheme()
	if err != nil {
		return err
	}
	metrics := metricsserver.Options{BindAddress: o.metricsBind, SecureServing: o.metricsSecure}
	if o.metricsSecure {
		metrics.FilterProvider = filters.WithAuthenticationAndAuthorization
		metrics.TLSOpts = append(metrics.TLSOpts, restrictTLS)
	}
	managed := ctrl.Options{
		Scheme:                  scheme,
		Metrics:                 metrics,
		HealthProbeBindAddress:  o.healthBind,
		LeaderElection:          o.elect,
		LeaderElectionID:        leaseName,
		LeaderElectionNamespace: o.electNamespace,
		LeaseDuration:           &o.leaseDuration,
		RenewDeadline:           &o.renewDeadline,
		RetryPeriod:             &o.retryPeriod,
		// The process ends when run returns, so the next one need not wait.
		LeaderElectionReleaseOnCancel: true,
	}
	for _, namespace := range o.namespaces {
		if managed.Cache.DefaultNamespaces == nil {
			managed.Cache.DefaultNamespaces = map[string]cache.Config{}
		}
		managed.Cache.DefaultNamespaces[namespace] = cache.Config{}
	}
	mgr, err := ctrl.NewManager(config, managed)
	if err != nil {
		return err
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	if err := controller.AddWhenServed(mgr, o.controller); err != nil {
		return err
	}
	return mgr.Start(ctrl.SetupSignalHandler())
}
