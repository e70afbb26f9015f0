// SPDX-License-Identifier: Apache-2.0

// Package options turns the API server's flags into its configuration. Options of the
// generic server are included one by one. It must never start a server.
package options

import (
	"errors"
	"net"
	"path/filepath"
	"strings"
	"time"

	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"

	firewallv2 "metal-stack.io/infrastructure-apiserver/pkg/apis/firewall/v2"
	"metal-stack.io/infrastructure-apiserver/pkg/logging"
	"metal-stack.io/infrastructure-apiserver/pkg/pki"
)

// Options are the values of the flags.
type Options struct {
	// Standalone is true for a server without a cluster.
	Standalone    bool
	KubeconfigOut string

	// ServeFirewalls has the server serve Firewalls to firewall-controllers.
	ServeFirewalls bool

	Metal    *Metal
	Records  *Records
	Cluster  *Cluster
	Replicas *Replicas

	SecureServing  *genericoptions.SecureServingOptions
	CoreAPI        *genericoptions.CoreAPIOptions
	Authentication *genericoptions.DelegatingAuthenticationOptions
	Authorization  *genericoptions.DelegatingAuthorizationOptions
	Audit          *genericoptions.AuditOptions
	Features       *genericoptions.FeatureOptions
	Traces         *genericoptions.TracingOptions
	Logs           *logs.Options

	// ShutdownDelayDuration is how long the server, no longer ready, goes on serving
	// after a termination signal; AllocationDrainTimeout is how long it then waits for
	// in-flight allocations and releases.
	ShutdownDelayDuration  time.Duration
	AllocationDrainTimeout time.Duration
}

// New returns the defaults.
func New() *Options {
	serving := genericoptions.NewSecureServingOptions()
	serving.BindPort = 8443
	// The default depends on Standalone; see Complete.
	serving.BindAddress = nil
	serving.ServerCert.CertDirectory = ""
	// The client of an aggregated server is one proxy with one connection. With more
	// requests than this it opens a connection for each of them. Other clients get as
	// many streams, but few requests that are served.
	serving.HTTP2MaxStreamsPerConnection = 1000

	for _, suite := range pki.CipherSuites() {
		serving.CipherSuites = append(serving.CipherSuites, suite.Name)
	}

	authorization := genericoptions.NewDelegatingAuthorizationOptions()
	// Probes without credentials are answered before; the details of checks require
	// authorization.
	authorization.AlwaysAllowPaths = nil
	// A right that is revoked has no effect after 15 s (docs/tenancy.md): watches
	// authorize again within 10 s, every 5 s for answers older than 5 s.
	authorization.AllowCacheTTL = 5 * time.Second

	features := genericoptions.NewFeatureOptions()
	// It needs a cluster, and rights in it. The kube-apiserver in front has its own.
	features.EnablePriorityAndFairness = false

	return &Options{
		ServeFirewalls:         true,
		Metal:                  NewMetal(),
		Records:                NewRecords(),
		Cluster:                NewCluster(),
		Replicas:               NewReplicas(),
		SecureServing:          serving,
		CoreAPI:                genericoptions.NewCoreAPIOptions(),
		Authentication:         genericoptions.NewDelegatingAuthenticationOptions(),
		Authorization:          authorization,
		Audit:                  genericoptions.NewAuditOptions(),
		Features:               features,
		Traces:                 genericoptions.NewTracingOptions(),
		Logs:                   logs.NewOptions(),
		AllocationDrainTimeout: 30 * time.Second,
	}
}

// Flags returns the flags, by topic.
func (o *Options) Flags() (sets cliflag.NamedFlagSets) {
	o.Metal.AddFlags(sets.FlagSet("metal-api"))
	o.Records.AddFlags(sets.FlagSet("records"))

	standalone := sets.FlagSet("standalone")
	standalone.BoolVar(&o.Standalone, "standalone", o.Standalone, "Serve without a Kubernetes cluster: with a generated CA in --data-dir, "+
		"and one administrator, whose client certificate is written to --kubeconfig-out.")
	standalone.StringVar(&o.KubeconfigOut, "kubeconfig-out", o.KubeconfigOut, "Path of the file that the administrator's kubeconfig is written to. If empty, it is kubeconfig in --data-dir.")

	serving := sets.FlagSet("serving")
	o.SecureServing.AddFlags(serving)
	suites := serving.Lookup("tls-cipher-suites")
	suites.Usage = strings.Replace(suites.Usage, "If omitted, the default Go cipher suites will be used.", "They apply to TLS 1.2; the suites of TLS 1.3 are not configurable.", 1)
	serving.Lookup("bind-address").Usage = "IP address to listen on. If unset, it is 127.0.0.1 with --standalone, and all addresses otherwise."
	serving.BoolVar(&o.ServeFirewalls, "serve-firewalls", o.ServeFirewalls, "Serve Firewalls of "+firewallv2.SchemeGroupVersion.String()+", from which firewall-controllers read their configuration; in a cluster, register them with --register-api. "+
		"Set it to false if firewall-controller-manager serves that version, after firewallSpec.controller was removed from all MetalStackClusters and these have no condition FirewallControllerReady.")
	serving.DurationVar(&o.ShutdownDelayDuration, "shutdown-delay-duration", o.ShutdownDelayDuration, "Duration for which the server, no longer ready, goes on serving after a termination signal.")
	serving.DurationVar(&o.AllocationDrainTimeout, "allocation-drain-timeout", o.AllocationDrainTimeout, "Maximum duration to wait, after a termination signal, for in-flight allocations and releases to complete. Those that do not complete are resumed by the next active server.")

	o.addClusterFlags(sets.FlagSet("cluster"))
	o.Authentication.AddFlags(sets.FlagSet("authentication in a cluster"))
	o.Authorization.AddFlags(sets.FlagSet("authorization in a cluster"))
	o.Audit.AddFlags(sets.FlagSet("audit"))
	o.Features.AddFlags(sets.FlagSet("features"))
	utilfeature.DefaultMutableFeatureGate.AddFlag(sets.FlagSet("features"))
	o.Traces.AddFlags(sets.FlagSet("traces"))
	logsapi.AddFlags(o.Logs, sets.FlagSet("logs"))
	return sets
}

// Complete sets defaults that depend on other options.
func (o *Options) Complete() error {
	if o.SecureServing.BindAddress == nil {
		o.SecureServing.BindAddress = net.IPv4zero
		if o.Standalone {
			o.SecureServing.BindAddress = net.IPv4(127, 0, 0, 1)
		}
	}
	o.Records.Complete(o.Standalone)
	o.completeCluster()
	if o.Standalone && o.KubeconfigOut == "" {
		o.KubeconfigOut = filepath.Join(o.Records.DataDir, "kubeconfig")
	}
	return nil
}

// Validate returns all errors of completed options.
func (o *Options) Validate() error {
	errs := logging.Validate(o.Logs)
	errs = append(errs, o.Metal.Validate()...)
	errs = append(errs, o.Records.Validate(o.Standalone)...)
	errs = append(errs, o.SecureServing.Validate()...)
	errs = append(errs, o.Audit.Validate()...)
	errs = append(errs, o.Features.Validate()...)
	errs = append(errs, o.Traces.Validate()...)
	if o.Standalone {
		if o.Features.EnablePriorityAndFairness {
			errs = append(errs, errors.New("--enable-priority-and-fairness requires a cluster: it cannot be combined with --standalone"))
		}
	} else {
		errs = append(errs, o.CoreAPI.Validate()...)
		errs = append(errs, o.Cluster.Validate(o.SecureServing.ServerCert.CertKey.CertFile)...)
		errs = append(errs, o.Replicas.Validate()...)
		errs = append(errs, o.Authentication.Validate()...)
		errs = append(errs, o.Authorization.Validate()...)
		if o.KubeconfigOut != "" {
			errs = append(errs, errors.New("--kubeconfig-out requires --standalone"))
		}
	}
	if o.ShutdownDelayDuration < 0 || o.AllocationDrainTimeout < 0 {
		errs = append(errs, errors.New("--shutdown-delay-duration and --allocation-drain-timeout must not be negative"))
	}
	return utilerrors.NewAggregate(errs)
}
