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
	mutatingpolicy "k8s.io/apiserver/pkg/admission/plugin/policy/mutating"
	validatingpolicy "k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	webhookinitializer "k8s.io/apiserver/pkg/admission/plugin/webhook/initializer"
	mutatingwebhook "k8s.io/apiserver/pkg/admission/plugin/webhook/mutating"
	validatingwebhook "k8s.io/apiserver/pkg/admission/plugin/webhook/validating"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/server/healthz"
	"k8s.io/apiserver/pkg/util/compatibility"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
)

const (
	// resync is the interval at which policies are gone through again.
	resync = 10 * time.Minute
	// discoveryRetryInterval is when the cluster is asked again what it serves if it did not
	// say.
	discoveryRetryInterval = 2 * time.Second
	// discoveryInterval is how often it is asked about what it did not serve, as before an
	// update; unsyncedInterval, while something that it serves could not be read yet.
	discoveryInterval = time.Minute
	unsyncedInterval  = 10 * time.Second
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
	// Reads returns whether a request to the metal-api of a cluster only reads, and so is not
	// admitted.
	Reads func(method, path string) bool
}

// Admission is the cluster's policies and webhooks.
type Admission struct {
	clients
	options   Options
	informers informers.SharedInformerFactory
	sources   *sources
	// plugins are in the order in which Kubernetes calls them.
	plugins []*plugin
}

// New returns the policies and webhooks of a cluster. They refuse all writes until Run has
// read them.
func New(o Options) (*Admission, error) {
	c, err := newClients(o.Config)
	if err != nil {
		return nil, fmt.Errorf("failed to set up admission: %w", err)
	}
	registerMetrics()
	return newAdmission(*c, o), nil
}

func newAdmission(c clients, o Options) *Admission {
	c.dynamic = newParamsClient(c.dynamic)
	a := &Admission{clients: c, options: o}
	a.informers = informers.NewSharedInformerFactoryWithOptions(c.kubernetes, resync, informers.WithTransform(withoutManagedFields))
	a.sources = newSources(a.informers)
	a.plugins = []*plugin{
		{name: mutatingpolicy.PluginName, mutates: true, resources: []string{"mutatingadmissionpolicies", "mutatingadmissionpolicybindings"}, create: func() (admission.Interface, error) { return mutatingpolicy.NewPlugin(nil) }},
		{name: mutatingwebhook.PluginName, mutates: true, resources: []string{"mutatingwebhookconfigurations"}, create: func() (admission.Interface, error) { return mutatingwebhook.NewMutatingWebhook(nil) }},
		{name: validatingpolicy.PluginName, resources: []string{"validatingadmissionpolicies", "validatingadmissionpolicybindings"}, create: func() (admission.Interface, error) { return validatingpolicy.NewPlugin(nil) }},
		{name: validatingwebhook.PluginName, resources: []string{"validatingwebhookconfigurations"}, create: func() (admission.Interface, error) { return validatingwebhook.NewValidatingAdmissionWebhook(nil) }},
	}
	for _, p := range a.plugins {
		p.reads = o.Reads
	}
	return a
}

// Run reads policies and webhooks until ctx ends: of the kinds that the cluster serves, and
// of others as soon as it does.
func (a *Admission) Run(ctx context.Context) {
	go wait.UntilWithContext(ctx, func(context.Context) { a.mapper.Reset() }, mapperInterval)
	logged := false
	for ctx.Err() == nil {
		again, err := a.discover(ctx)
		if err != nil {
			if !logged {
				klog.FromContext(ctx).Error(err, "Failed to find out which admission policies and webhooks the cluster serves, without which no write is admitted: retrying", "retryAfter", again.String())
			}
			logged = true
		} else if logged {
			klog.FromContext(ctx).Info("Found out which admission policies and webhooks the cluster serves")
			logged = false
		}
		if again == 0 {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

// discover begins to apply what the cluster serves, and returns when it is to be asked again,
// 0 if all was read: that is expected to stay. While the cluster is updated, some of its
// kube-apiservers serve what others do not. So what was not applied is applied once it was
// read, and what was never read is not applied any more if it is not served.
func (a *Admission) discover(ctx context.Context) (again time.Duration, err error) {
	if !slices.ContainsFunc(a.plugins, func(p *plugin) bool { return !p.isSynced() }) {
		return 0, nil
	}
	served, err := a.served()
	if err != nil {
		return discoveryRetryInterval, err
	}
	again = discoveryInterval
	for _, p := range a.plugins {
		switch {
		case p.isSynced():
		case !served.HasAll(p.resources...):
			if p.skip() {
				klog.FromContext(ctx).Info("The cluster does not serve the version that this server reads: not applied", "plugin", p.name, "version", admissionregistrationv1.SchemeGroupVersion.String())
			}
		default:
			again = unsyncedInterval
			if applyErr := p.apply(a.initializers(), a.sources); applyErr != nil {
				again, err = discoveryRetryInterval, errors.Join(err, fmt.Errorf("failed to set up %s: %w", p.name, applyErr))
			}
		}
	}
	a.informers.Start(a.options.Drained)
	return again, err
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

// initializers give plugins what they need.
func (a *Admission) initializers() admission.PluginInitializer {
	return admission.PluginInitializers{
		initializer.New(a.plugin, a.dynamic, paramsFactory{a.informers}, a.options.Authorizer, utilfeature.DefaultFeatureGate,
			compatibility.DefaultBuildEffectiveVersion(), a.options.Drained, a.mapper),
		webhookinitializer.NewPluginInitializer(withoutCredentials, nil),
	}
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
