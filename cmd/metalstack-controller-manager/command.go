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
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "how to reach the API; empty: from within the cluster")
	flags.StringSliceVar(&o.namespaces, "namespace", nil, "namespaces to look after; empty: all")
	flags.StringVar(&o.controller.WatchFilter, "watch-filter", "", "look only after objects with the label cluster.x-k8s.io/watch-filter of this value; empty: all")
	flags.StringVar(&o.metricsBind, "metrics-bind-address", "0", "address of /metrics; 0: none")
	flags.BoolVar(&o.metricsSecure, "metrics-secure", false, "serve /metrics over TLS, to those whom the cluster lets read it")
	flags.StringVar(&o.healthBind, "health-probe-bind-address", "0", "address of /healthz and /readyz; 0: none")
	flags.BoolVar(&o.elect, "leader-elect", false, "work only while holding the Lease "+leaseName+", of which all replicas but one wait for their turn")
	flags.StringVar(&o.electNamespace, "leader-elect-namespace", os.Getenv("POD_NAMESPACE"), "namespace of the Lease; empty: this Pod's")
	flags.DurationVar(&o.leaseDuration, "leader-elect-lease-duration", 15*time.Second, "for how long the Lease is respected after it was last renewed")
	flags.DurationVar(&o.renewDeadline, "leader-elect-renew-deadline", 10*time.Second, "how long to try to renew the Lease before giving up, and ending")
	flags.DurationVar(&o.retryPeriod, "leader-elect-retry-period", 2*time.Second, "how often to try to get or renew the Lease")
	flags.BoolVar(&o.controller.Standalone, "standalone", false, "there is no Cluster API: allocate machines that no Machine owns")
	flags.IntVar(&o.controller.Clusters, "cluster-concurrency", o.controller.Clusters, "how many MetalStackClusters are worked on at a time")
	flags.IntVar(&o.controller.Machines, "machine-concurrency", o.controller.Machines, "how many MetalStackMachines are worked on at a time; each may be an allocation under way, which takes seconds")
	flags.IntVar(&o.controller.Firewalls, "firewall-concurrency", o.controller.Firewalls, "how many MetalStackFirewalls are worked on at a time")
	flags.DurationVar(&o.controller.LoadBalancerGrace, "load-balancer-grace", o.controller.LoadBalancerGrace, "how long a control plane machine that was deleted keeps its metal, so that load balancers notice")
	flags.DurationVar(&o.controller.FirewallPatience, "firewall-patience", o.controller.FirewallPatience, "for how long a cluster's firewall may crash or be silent before another one takes its place; one that is gone is replaced at once")
	// The server shares its capacity out fairly; what client-go allows by
	// default holds the building of one large cluster up.
	flags.Float32Var(&o.qps, "kube-api-qps", 100, "how many requests a second to make at most, on average")
	flags.IntVar(&o.burst, "kube-api-burst", 200, "how many requests to make at once at most")
	logsapi.AddFlags(o.logging, flags)
	return command
}

func (o *options) validate() error {
	for flag, value := range map[string]int{
		"cluster-concurrency": o.controller.Clusters, "machine-concurrency": o.controller.Machines, "firewall-concurrency": o.controller.Firewalls,
	} {
		if value < 1 {
			return fmt.Errorf("--%s is %d, and must be at least 1", flag, value)
		}
	}
	for flag, value := range map[string]time.Duration{
		"load-balancer-grace": o.controller.LoadBalancerGrace, "firewall-patience": o.controller.FirewallPatience,
	} {
		if value < 0 {
			return fmt.Errorf("--%s is %s, and must not be negative", flag, value)
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
