// SPDX-License-Identifier: Apache-2.0

// Package admission applies the cluster's ValidatingAdmissionPolicies,
// MutatingAdmissionPolicies and admission webhooks to what this server serves, with
// Kubernetes' own plugins. The kube-apiserver applies them only to the kinds that it serves
// itself.
//
// It must never give a policy or webhook a request with a secret: user data and console
// passwords are in subresources, which are exempt unless scope.go lists them.
package admission

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/initializer"
	admissionmetrics "k8s.io/apiserver/pkg/admission/metrics"
	mutatingpolicy "k8s.io/apiserver/pkg/admission/plugin/policy/mutating"
	validatingpolicy "k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/resourcequota"
	mutatingwebhook "k8s.io/apiserver/pkg/admission/plugin/webhook/mutating"
	validatingwebhook "k8s.io/apiserver/pkg/admission/plugin/webhook/validating"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/server/healthz"
	"k8s.io/apiserver/pkg/util/compatibility"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/klog/v2"
)

const (
	// resync is the interval at which policies are gone through again.
	resync = 10 * time.Minute
	// discoveryTimeout is how long the cluster may take to say what it serves, and
	// discoveryRetryInterval when it is asked again if it did not say.
	discoveryTimeout       = 10 * time.Second
	discoveryRetryInterval = 2 * time.Second
	// discoveryInterval is how often it is asked about what it did not serve, as before an
	// update.
	discoveryInterval = time.Minute
	// mapperInterval is for how long kinds of parameters are looked up in the same
	// discovery: as the kube-apiserver.
	mapperInterval = 30 * time.Second
)

// Options are what policies and webhooks are read and applied with.
type Options struct {
	// Config is how the cluster is requested.
	Config *rest.Config
	// Authorizer decides for expressions of policies that ask it.
	Authorizer authorizer.Authorizer
	// Drained is closed when the server has answered its last request.
	Drained <-chan struct{}
}

// clients request the cluster.
type clients struct {
	kubernetes kubernetes.Interface
	dynamic    dynamic.Interface
	discovery  discovery.DiscoveryInterface
	mapper     meta.ResettableRESTMapper
}

// Admission is the cluster's policies and webhooks.
type Admission struct {
	clients
	authorizer authorizer.Authorizer
	drained    <-chan struct{}
	informers  informers.SharedInformerFactory
	sources    *sources
	// plugins are in the order in which Kubernetes calls them.
	plugins []*plugin
}

// New returns the policies and webhooks of a cluster. They refuse all writes until Run has
// read them.
func New(o Options) (*Admission, error) {
	client, err := kubernetes.NewForConfig(o.Config)
	if err != nil {
		return nil, fmt.Errorf("failed to set up admission: %w", err)
	}
	objects, err := dynamic.NewForConfig(o.Config)
	if err != nil {
		return nil, fmt.Errorf("failed to set up admission: %w", err)
	}
	limited := rest.CopyConfig(o.Config)
	limited.Timeout = discoveryTimeout
	served, err := discovery.NewDiscoveryClientForConfig(limited)
	if err != nil {
		return nil, fmt.Errorf("failed to set up admission: %w", err)
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(served))
	return newAdmission(clients{client, objects, served, mapper}, o.Authorizer, o.Drained), nil
}

func newAdmission(c clients, authorizer authorizer.Authorizer, drained <-chan struct{}) *Admission {
	a := &Admission{clients: c, authorizer: authorizer, drained: drained}
	a.informers = informers.NewSharedInformerFactoryWithOptions(c.kubernetes, resync, informers.WithTransform(withoutManagedFields))
	a.sources = newSources(a.informers)
	a.plugins = []*plugin{
		{name: mutatingpolicy.PluginName, resources: []string{"mutatingadmissionpolicies", "mutatingadmissionpolicybindings"}, create: func() (admission.Interface, error) { return mutatingpolicy.NewPlugin(nil) }},
		{name: mutatingwebhook.PluginName, resources: []string{"mutatingwebhookconfigurations"}, create: func() (admission.Interface, error) { return mutatingwebhook.NewMutatingWebhook(nil) }},
		{name: validatingpolicy.PluginName, resources: []string{"validatingadmissionpolicies", "validatingadmissionpolicybindings"}, create: func() (admission.Interface, error) { return validatingpolicy.NewPlugin(nil) }},
		{name: validatingwebhook.PluginName, resources: []string{"validatingwebhookconfigurations"}, create: func() (admission.Interface, error) { return validatingwebhook.NewValidatingAdmissionWebhook(nil) }},
	}
	return a
}

// Chain returns the admission of the server: policies and webhooks in Kubernetes' order, and
// then quotas, so that what is refused uses nothing of them.
func (a *Admission) Chain(quotas admission.Interface) admission.Interface {
	var chain []admission.Interface
	for _, p := range a.plugins {
		chain = append(chain, admissionmetrics.WithControllerMetrics(p, p.name))
	}
	if quotas != nil {
		chain = append(chain, admissionmetrics.WithControllerMetrics(quotas, resourcequota.PluginName))
	}
	return admissionmetrics.WithStepMetrics(admission.NewChainHandler(chain...))
}

// Run reads policies and webhooks until ctx ends: of the kinds that the cluster serves, and
// of others as soon as it does.
func (a *Admission) Run(ctx context.Context) {
	go wait.UntilWithContext(ctx, func(context.Context) { a.mapper.Reset() }, mapperInterval)
	logged := false
	for ctx.Err() == nil {
		again := discoveryInterval
		if err := a.discover(ctx); err != nil {
			again = discoveryRetryInterval
			if !logged {
				klog.FromContext(ctx).Error(err, "Failed to find out which admission policies and webhooks the cluster serves, without which no write is admitted: retrying", "retryAfter", again.String())
			}
			logged = true
		} else if logged {
			klog.FromContext(ctx).Info("Found out which admission policies and webhooks the cluster serves")
			logged = false
		}
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

// discover begins to apply what the cluster serves. What it has served once is expected to
// stay.
func (a *Admission) discover(ctx context.Context) error {
	if !slices.ContainsFunc(a.plugins, func(p *plugin) bool { return !p.isApplied() }) {
		return nil
	}
	served, err := a.served()
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range a.plugins {
		switch {
		case p.isApplied():
		case !served.HasAll(p.resources...):
			if p.skip() {
				klog.FromContext(ctx).Info("The cluster does not serve the version that this server reads: not applied", "plugin", p.name, "version", admissionregistrationv1.SchemeGroupVersion.String())
			}
		default:
			if err := p.apply(a.initializer(), a.sources.of(p.resources)); err != nil {
				errs = append(errs, fmt.Errorf("failed to set up %s: %w", p.name, err))
			}
		}
	}
	a.informers.Start(a.drained)
	return errors.Join(errs...)
}

// served returns the resources of the group of policies and webhooks that the cluster has.
func (a *Admission) served() (sets.Set[string], error) {
	list, err := a.discovery.ServerResourcesForGroupVersion(admissionregistrationv1.SchemeGroupVersion.String())
	names := sets.New[string]()
	if apierrors.IsNotFound(err) {
		return names, nil
	}
	if err != nil {
		return nil, err
	}
	for _, resource := range list.APIResources {
		names.Insert(resource.Name)
	}
	return names, nil
}

func (a *Admission) initializer() admission.PluginInitializer {
	return initializer.New(a.kubernetes, a.dynamic, a.informers, a.authorizer, utilfeature.DefaultFeatureGate,
		compatibility.DefaultBuildEffectiveVersion(), a.drained, a.mapper)
}

// ReadyzCheck is a check of /readyz: a server that cannot read the policies and webhooks
// refuses writes, so that a rollout of it does not go on.
func (a *Admission) ReadyzCheck() healthz.HealthChecker {
	return healthz.NamedCheck("admission", func(*http.Request) error {
		for _, p := range a.plugins {
			if reason := p.unready(); reason != "" {
				return errors.New(reason)
			}
		}
		return nil
	})
}

// withoutManagedFields saves memory: no policy is selected by them.
func withoutManagedFields(obj any) (any, error) {
	if m, err := meta.Accessor(obj); err == nil {
		m.SetManagedFields(nil)
	}
	return obj, nil
}
