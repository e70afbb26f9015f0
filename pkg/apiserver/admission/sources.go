// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"sync"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// sources are the informers of what plugins read.
type sources struct {
	informers informers.SharedInformerFactory

	mu  sync.Mutex
	all map[schema.GroupVersionResource]*source
}

// source is the informer of one resource.
type source struct {
	resource schema.GroupVersionResource
	informer cache.SharedIndexInformer

	mu sync.Mutex
	// refusal is why the last list or watch was refused: Forbidden, NotFound, or "" for another
	// error; version is up to where the informer had read then.
	refusal metav1.StatusReason
	version string
}

func newSources(factory informers.SharedInformerFactory) *sources {
	return &sources{informers: factory, all: map[schema.GroupVersionResource]*source{}}
}

// of returns the sources of a plugin that reads resources of the group of policies and
// webhooks: these, and Namespaces, by which they are selected. It must be called before the
// informers are started.
func (s *sources) of(resources []string) []*source {
	all := []*source{s.get(corev1.SchemeGroupVersion.WithResource("namespaces"))}
	for _, resource := range resources {
		all = append(all, s.get(admissionregistrationv1.SchemeGroupVersion.WithResource(resource)))
	}
	return all
}

func (s *sources) get(resource schema.GroupVersionResource) *source {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.all[resource]; known != nil {
		return known
	}
	informer, err := s.informers.ForResource(resource)
	utilruntime.Must(err)
	one := &source{resource: resource, informer: informer.Informer()}
	// It fails for an informer that runs, which a new one does not.
	utilruntime.Must(one.informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, r *cache.Reflector, err error) {
		switch refusal, changed := one.observe(err); {
		case refusal == "":
			cache.DefaultWatchErrorHandler(ctx, r, err)
		case changed && refusal == metav1.StatusReasonForbidden:
			klog.FromContext(ctx).Error(err, "Failed to read what admission depends on: retrying", "resource", resource.GroupResource(), "grant", rightsHint)
		case changed:
			klog.FromContext(ctx).Error(err, "Failed to read what admission depends on, which not every kube-apiserver serves: retrying", "resource", resource.GroupResource())
		}
	}))
	s.all[resource] = one
	return one
}

// observe notes why a list or watch failed, and returns that and whether it is news.
func (s *source) observe(err error) (refusal metav1.StatusReason, changed bool) {
	if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) {
		refusal = apierrors.ReasonForError(err)
	}
	version := s.informer.LastSyncResourceVersion()
	s.mu.Lock()
	defer s.mu.Unlock()
	changed = refusal != s.refusal || version != s.version
	s.refusal, s.version = refusal, version
	return refusal, changed
}

// isForbidden returns whether this server may not read the resource: whether the last request
// was refused, and nothing was read since.
func (s *source) isForbidden() bool {
	version := s.informer.LastSyncResourceVersion()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refusal == metav1.StatusReasonForbidden && s.version == version
}
