// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"errors"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/util/watchlist"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"
)

var (
	forbiddenParams = metrics.NewCounterVec(&metrics.CounterOpts{
		Namespace: "metalstack", Subsystem: "admission", Name: "params_forbidden_total",
		Help:           "Requests to read parameters of policies (paramKind) that the cluster refused because this server may not, by resource.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"resource"})

	registerOnce sync.Once
)

func registerMetrics() {
	registerOnce.Do(func() {
		legacyregistry.MustRegister(forbiddenParams)
		// The most common parameters: an alert on an increase needs a series to begin with.
		forbiddenParams.WithLabelValues("configmaps")
	})
}

// paramsFactory knows no resource by its name, so that policies read parameters with informers
// of their own. One of these ends with the last policy that needs it, and the next policy
// begins another. An informer of a shared factory would end, too, and not begin again.
type paramsFactory struct {
	informers.SharedInformerFactory
}

// ForResource implements informers.SharedInformerFactory.
func (paramsFactory) ForResource(schema.GroupVersionResource) (informers.GenericInformer, error) {
	return nil, errors.New("parameters of policies have informers of their own")
}

// paramsClient reads parameters of policies, and reports those that this server may not read.
type paramsClient struct {
	dynamic.Interface

	mu sync.Mutex
	// forbidden are those of which the last request was refused.
	forbidden map[schema.GroupResource]bool
}

func newParamsClient(client dynamic.Interface) *paramsClient {
	return &paramsClient{Interface: client, forbidden: map[schema.GroupResource]bool{}}
}

// IsWatchListSemanticsUnSupported is what informers ask a client.
func (c *paramsClient) IsWatchListSemanticsUnSupported() bool {
	return watchlist.DoesClientNotSupportWatchListSemantics(c.Interface)
}

// Resource implements dynamic.Interface.
func (c *paramsClient) Resource(resource schema.GroupVersionResource) dynamic.NamespaceableResourceInterface {
	return params{c.Interface.Resource(resource), c, resource.GroupResource()}
}

// observe notes the outcome of a request.
func (c *paramsClient) observe(ctx context.Context, resource schema.GroupResource, err error) {
	is := apierrors.IsForbidden(err)
	c.mu.Lock()
	was := c.forbidden[resource]
	c.forbidden[resource] = is
	c.mu.Unlock()
	if !is {
		return
	}
	forbiddenParams.WithLabelValues(resource.String()).Inc()
	if !was {
		klog.FromContext(ctx).Error(err, "Failed to read parameters of admission policies: retrying", "resource", resource, "grant", paramsRight)
	}
}

type params struct {
	dynamic.NamespaceableResourceInterface

	client   *paramsClient
	resource schema.GroupResource
}

// Namespace implements dynamic.NamespaceableResourceInterface. Informers request all
// namespaces so.
func (p params) Namespace(namespace string) dynamic.ResourceInterface {
	return namespacedParams{p.NamespaceableResourceInterface.Namespace(namespace), p.client, p.resource}
}

type namespacedParams struct {
	dynamic.ResourceInterface

	client   *paramsClient
	resource schema.GroupResource
}

// List implements dynamic.ResourceInterface.
func (p namespacedParams) List(ctx context.Context, opts metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	list, err := p.ResourceInterface.List(ctx, opts)
	p.client.observe(ctx, p.resource, err)
	return list, err
}

// Watch implements dynamic.ResourceInterface.
func (p namespacedParams) Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	w, err := p.ResourceInterface.Watch(ctx, opts)
	p.client.observe(ctx, p.resource, err)
	return w, err
}
