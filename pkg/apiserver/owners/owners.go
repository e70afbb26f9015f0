// SPDX-License-Identifier: Apache-2.0

// Package owners looks up the Machines and Clusters of Cluster API that own
// objects of this server, and Namespaces, as metadata. It decides nothing, and answers NotFound
// only if the kube-apiserver said so.
package owners

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"

	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

const (
	// group is Cluster API's.
	group = "cluster.x-k8s.io"
	// callTimeout is how long one lookup may take.
	callTimeout = 3 * time.Second

	outcomeFound    = "found"
	outcomeNotFound = "not_found"
	outcomeError    = "error"
)

var (
	// resources are those of the kinds that own objects with metal. The server may get
	// no others.
	resources = map[string]string{"Machine": "machines", "Cluster": "clusters"}
	// versions are tried in turn after that of the reference, which may not be
	// served any more.
	versions = []string{"v1beta2", "v1beta1"}

	lookups = metrics.NewHistogramVec(&metrics.HistogramOpts{
		Namespace: "metalstack", Subsystem: "apiserver", Name: "owner_lookup_duration_seconds",
		Help:           "Duration of lookups of Cluster API owners, and of Namespaces that are being deleted or seem to be deleted, by outcome: found, not_found or error.",
		Buckets:        []float64{.005, .01, .05, .1, .5, 1, 3},
		StabilityLevel: metrics.ALPHA,
	}, []string{"outcome"})

	registerOnce sync.Once
)

// Cluster looks up owners at the kube-apiserver.
type Cluster struct {
	client metadata.Interface
}

var _ registry.OwnerLookup = &Cluster{}

// New returns what asks the cluster of config, with its rights.
func New(config *rest.Config) (*Cluster, error) {
	config = rest.CopyConfig(config)
	config.Timeout = callTimeout
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("failed to create a client for owners: %w", err)
	}
	registerOnce.Do(func() {
		legacyregistry.MustRegister(lookups)
		for _, outcome := range []string{outcomeFound, outcomeNotFound, outcomeError} {
			lookups.WithLabelValues(outcome)
		}
	})
	return &Cluster{client}, nil
}

// Supports implements registry.OwnerLookup.
func (c *Cluster) Supports(apiVersion, kind string) bool {
	gv, err := schema.ParseGroupVersion(apiVersion)
	return err == nil && gv.Group == group && resources[kind] != ""
}

// Owner implements registry.OwnerLookup.
func (c *Cluster) Owner(ctx context.Context, key registry.OwnerKey) (metav1.Object, error) {
	gv, err := schema.ParseGroupVersion(key.APIVersion)
	if err != nil {
		return nil, err
	}
	return measured(func() (*metav1.PartialObjectMetadata, error) { return c.get(ctx, gv.Version, key) })
}

// Namespace implements registry.OwnerLookup.
func (c *Cluster) Namespace(ctx context.Context, name string) (metav1.Object, error) {
	return measured(func() (*metav1.PartialObjectMetadata, error) {
		return c.client.Resource(corev1.SchemeGroupVersion.WithResource("namespaces")).Get(ctx, name, metav1.GetOptions{})
	})
}

// measured makes a lookup and measures its duration.
func measured(get func() (*metav1.PartialObjectMetadata, error)) (metav1.Object, error) {
	began := time.Now()
	found, err := get()
	outcome := outcomeFound
	switch {
	case apierrors.IsNotFound(err):
		outcome = outcomeNotFound
	case err != nil:
		outcome = outcomeError
	}
	lookups.WithLabelValues(outcome).Observe(time.Since(began).Seconds())
	if err != nil {
		return nil, err
	}
	return found, nil
}

func (c *Cluster) get(ctx context.Context, version string, key registry.OwnerKey) (*metav1.PartialObjectMetadata, error) {
	tried := []string{}
	var last error
	for _, version := range append([]string{version}, versions...) {
		if slices.Contains(tried, version) {
			continue
		}
		tried = append(tried, version)
		resource := schema.GroupVersionResource{Group: group, Version: version, Resource: resources[key.Kind]}
		owner, err := c.client.Resource(resource).Namespace(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
		if !versionMissing(err) {
			return owner, err
		}
		last = err
	}
	// No version is served: whether the owner exists is unknown, so the NotFound of
	// the last attempt must not be found in the chain.
	return nil, fmt.Errorf("kube-apiserver serves resource %q of group %q in none of the versions %v: %v", resources[key.Kind], group, tried, last) //nolint:errorlint // it would be taken for the owner's absence
}

// versionMissing is whether the kube-apiserver does not serve the version, or
// the kind: it then answers with a text instead of a Status that names the object.
func versionMissing(err error) bool {
	return apierrors.IsNotFound(err) && apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}
