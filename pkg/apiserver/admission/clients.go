// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

const (
	// discoveryTimeout is how long the cluster may take to say what it serves.
	discoveryTimeout = 10 * time.Second
	// lookupTimeout is how long it may take to answer what a plugin asks in a request: for a
	// Namespace that no informer has yet.
	lookupTimeout = 5 * time.Second
	// webhookTimeout is the longest timeout that a webhook can have.
	webhookTimeout = 30 * time.Second
)

// clients request the cluster.
type clients struct {
	// kubernetes is that of informers, and plugin that of what plugins ask in requests.
	kubernetes, plugin kubernetes.Interface
	dynamic            dynamic.Interface
	discovery          discovery.DiscoveryInterface
	mapper             meta.ResettableRESTMapper
}

func newClients(config *rest.Config) (*clients, error) {
	var c clients
	var err error
	if c.kubernetes, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	if c.plugin, err = kubernetes.NewForConfig(limited(config, lookupTimeout)); err != nil {
		return nil, err
	}
	if c.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return nil, err
	}
	served, err := discovery.NewDiscoveryClientForConfig(limited(config, discoveryTimeout))
	if err != nil {
		return nil, err
	}
	c.discovery, c.mapper = served, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(served))
	return &c, nil
}

func limited(config *rest.Config, timeout time.Duration) *rest.Config {
	config = rest.CopyConfig(config)
	config.Timeout = timeout
	return config
}

// withoutCredentials has webhooks called without credentials. Otherwise the token of this
// server's account is sent to those behind kubernetes.default.svc.
func withoutCredentials(webhook.AuthenticationInfoResolver) webhook.AuthenticationInfoResolver {
	anonymous := func() (*rest.Config, error) {
		return &rest.Config{UserAgent: "metalstack-apiserver-admission", Timeout: webhookTimeout}, nil
	}
	return &webhook.AuthenticationInfoResolverDelegator{
		ClientConfigForFunc:        func(string) (*rest.Config, error) { return anonymous() },
		ClientConfigForServiceFunc: func(string, string, int) (*rest.Config, error) { return anonymous() },
	}
}
