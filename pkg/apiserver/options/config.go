// SPDX-License-Identifier: Apache-2.0

package options

import (
	"context"
	"net"
	"os"
	"strconv"
	"time"

	"k8s.io/apiserver/pkg/server"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/standalone"
	metalclient "metal-stack.io/infrastructure-apiserver/pkg/metal/client"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/observation"
)

// Config builds the configuration of a server. It opens the port and the
// ledger, and with --standalone writes certificates and a kubeconfig.
func (o *Options) Config(ctx context.Context) (*apiserver.Config, error) {
	config := &apiserver.Config{Generic: server.NewRecommendedConfig(scheme.Codecs)}
	config.Generic.ShutdownDelayDuration = o.ShutdownDelayDuration
	config.Extra.AllocationDrainTimeout = o.AllocationDrainTimeout
	config.Extra.ServeFirewalls = o.ServeFirewalls

	if err := o.applyMetal(config); err != nil {
		return nil, err
	}
	apply := o.applyCluster
	if o.Standalone {
		apply = o.applyStandalone
	}
	if err := apply(ctx, config); err != nil {
		return nil, err
	}
	if err := o.Audit.ApplyTo(&config.Generic.Config); err != nil {
		return nil, err
	}
	if err := o.Traces.ApplyTo(nil, &config.Generic.Config); err != nil {
		return nil, err
	}
	// Last, because it would have to be closed if anything after it failed.
	var err error
	if config.Extra.Ledger, err = o.Records.Open(config.Generic.ClientConfig); err != nil {
		return nil, err
	}
	return config, nil
}

func (o *Options) applyMetal(config *apiserver.Config) error {
	key, err := o.Metal.HMAC()
	if err != nil {
		return err
	}
	config.Extra.Metal = metalclient.Options{URL: o.Metal.URL, HMAC: key, AuthType: o.Metal.HMACType, Registerer: legacyregistry.Registerer()}
	config.Extra.Region = o.Metal.Region
	if o.Metal.HMACFile != "" {
		config.Extra.HMAC = o.Metal.HMAC
	}
	config.Extra.Observer = observation.Options{
		Budget: o.Metal.PollingBudget, SweepInterval: o.Metal.SweepInterval, RefreshTimeout: o.Metal.ConsistentReadTimeout,
		Registerer: legacyregistry.Registerer(),
	}
	return nil
}

// applyStandalone configures a server without a cluster: with its own CA, authentication
// and authorization.
func (o *Options) applyStandalone(ctx context.Context, config *apiserver.Config) error {
	binding, err := o.Records.Bindings()
	if err != nil {
		return err
	}
	config.Extra.Bindings = binding
	authority, err := standalone.OpenAuthority(o.Records.DataDir)
	if err != nil {
		return err
	}
	key := &o.SecureServing.ServerCert.CertKey
	if key.CertFile == "" && key.KeyFile == "" {
		if key.CertFile, key.KeyFile, err = authority.Serving(o.hosts()...); err != nil {
			return err
		}
	}
	if config.Extra.ManagementCluster, err = standalone.LoadOrCreateManagementClusterID(o.Records.DataDir); err != nil {
		return err
	}
	if err := o.applyServing(&config.Generic.Config, time.Now); err != nil {
		return err
	}
	if err := standalone.Authenticate(&config.Generic.Authentication, config.Generic.SecureServing, authority); err != nil {
		return err
	}
	if err := standalone.Authorize(&config.Generic.Authorization); err != nil {
		return err
	}
	if err := o.Features.ApplyTo(&config.Generic.Config, nil, nil); err != nil {
		return err
	}
	config.Extra.Standalone = &standalone.API{Namespaces: binding}
	admin, err := authority.Admin()
	if err != nil {
		return err
	}
	if err := standalone.WriteKubeconfig(o.KubeconfigOut, o.url(), authority.Bundle(), admin, o.Records.firstNamespace()); err != nil {
		return err
	}
	klog.FromContext(ctx).Info("Wrote the administrator's kubeconfig", "path", o.KubeconfigOut)
	return nil
}

// hosts are the names and addresses of the server.
func (o *Options) hosts() []string {
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	if ip := o.SecureServing.BindAddress; !ip.IsUnspecified() && !ip.IsLoopback() {
		hosts = append(hosts, ip.String())
	}
	if name, err := os.Hostname(); err == nil && name != "" {
		hosts = append(hosts, name)
	}
	return hosts
}

// url is the URL of the server; the port is known once it listens.
func (o *Options) url() string {
	host := "127.0.0.1"
	if ip := o.SecureServing.BindAddress; !ip.IsUnspecified() {
		host = ip.String()
	}
	return "https://" + net.JoinHostPort(host, strconv.Itoa(o.SecureServing.BindPort))
}
