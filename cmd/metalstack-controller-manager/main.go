// Command metalstack-controller-manager is the companion of
// metalstack-apiserver: it asks for metal when its time has come, and gives it
// back when an object is deleted. It talks to the Kubernetes API alone.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/logs/json/register" // --logging-format=json
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"metal-stack.io/infrastructure-apiserver/pkg/controller"
)

// leaseName is the name of the Lease of the replica that works.
const leaseName = "metalstack-controller-manager"

type options struct {
	kubeconfig    string
	metricsBind   string
	metricsSecure bool
	healthBind    string
	elect         bool
	namespace     string
	controller    controller.Options
	logging       *logsapi.LoggingConfiguration
}

func main() {
	os.Exit(cli.Run(newCommand()))
}

func newCommand() *cobra.Command {
	o := &options{logging: logsapi.NewLoggingConfiguration()}
	command := &cobra.Command{
		Use:   "metalstack-controller-manager",
		Short: "Allocates and releases metal for MetalStackClusters, -Machines and -Firewalls",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			logs.InitLogs()
			if err := logsapi.ValidateAndApply(o.logging, nil); err != nil {
				return err
			}
			return o.run()
		},
		SilenceUsage: true,
	}
	flags := command.Flags()
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "how to reach the API; empty: from within the cluster")
	flags.StringVar(&o.metricsBind, "metrics-bind-address", "0", "address of /metrics; 0: none")
	flags.BoolVar(&o.metricsSecure, "metrics-secure", false, "serve /metrics over TLS, to those whom the cluster lets read it")
	flags.StringVar(&o.healthBind, "health-probe-bind-address", "0", "address of /healthz and /readyz; 0: none")
	flags.BoolVar(&o.elect, "leader-elect", false, "work only while holding the Lease "+leaseName+", of which all replicas but one wait for their turn")
	flags.StringVar(&o.namespace, "leader-elect-namespace", os.Getenv("POD_NAMESPACE"), "namespace of the Lease; empty: this Pod's")
	flags.BoolVar(&o.controller.Standalone, "standalone", false, "there is no Cluster API: allocate machines that no Machine owns")
	flags.IntVar(&o.controller.Concurrency, "concurrency", 8, "how many objects of a kind are worked on at a time")
	logsapi.AddFlags(o.logging, flags)
	return command
}

func (o *options) run() error {
	ctrl.SetLogger(klog.Background())
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return fmt.Errorf("--kubeconfig: %w", err)
	}
	// The server shares its capacity out fairly; what client-go allows by
	// default holds the building of one large cluster up.
	config.QPS, config.Burst = 100, 200
	scheme, err := controller.NewScheme()
	if err != nil {
		return err
	}
	metrics := metricsserver.Options{BindAddress: o.metricsBind, SecureServing: o.metricsSecure}
	if o.metricsSecure {
		metrics.FilterProvider = filters.WithAuthenticationAndAuthorization
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                  scheme,
		Metrics:                 metrics,
		HealthProbeBindAddress:  o.healthBind,
		LeaderElection:          o.elect,
		LeaderElectionID:        leaseName,
		LeaderElectionNamespace: o.namespace,
		// The process ends when run returns, so the next one need not wait.
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return err
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	if err := mgr.AddReadyzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	if err := controller.Setup(mgr, o.controller); err != nil {
		return err
	}
	return mgr.Start(ctrl.SetupSignalHandler())
}
