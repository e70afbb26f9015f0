// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"context"
	"errors"
	"math"
	"net"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

const (
	// endpointRequeue is how soon to ask again for the endpoint of a control plane:
	// control planes are of many kinds, and none is watched.
	endpointRequeue = 10 * time.Second
	// endpointTimeout is how long reading and writing it may take.
	endpointTimeout = 10 * time.Second
	// controlPlaneGroup is the API group of the control planes that are read.
	controlPlaneGroup = "controlplane.cluster.x-k8s.io"
)

// reconcileControlPlaneEndpoint copies the endpoint that the provider of a hosted control
// plane brings into the spec. It waits for none: the rest of the cluster does not need it.
func reconcileControlPlaneEndpoint(ctx context.Context, r *reconciliation) (wait, error) {
	if !awaitsEndpoint(r.obj) {
		return wait{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, endpointTimeout)
	defer cancel()
	w := r.copyEndpoint(ctx)
	r.retryEndpointAfter = w.requeueAfter
	condition := metav1.Condition{Type: infrastructure.ConditionControlPlaneEndpointSet, Status: metav1.ConditionFalse, Reason: w.reason, Message: w.message}
	if w.reason == "" {
		condition.Status, condition.Reason = metav1.ConditionTrue, infrastructure.ReasonEndpointSet
		condition.Message = "The control plane is reached at " + hostPort(r.obj.(*v1alpha4.MetalStackCluster).Spec.ControlPlaneEndpoint)
	}
	r.endpointSet = &condition
	return wait{}, nil
}

func hostPort(endpoint v1alpha4.APIEndpoint) string {
	return net.JoinHostPort(endpoint.Host, strconv.Itoa(int(endpoint.Port)))
}

// awaitsEndpoint returns whether the control plane's provider brings the endpoint of a
// cluster.
func awaitsEndpoint(obj client.Object) bool {
	c, ok := obj.(*v1alpha4.MetalStackCluster)
	return ok && c.Spec.ControlPlaneEndpointProvider == v1alpha4.EndpointOfControlPlane
}

// copyEndpoint writes the endpoint into the spec, unless the spec has one, and says what is
// missing for that.
func (r *reconciliation) copyEndpoint(ctx context.Context) wait {
	c := r.obj.(*v1alpha4.MetalStackCluster)
	if c.Spec.ControlPlaneEndpoint.Host != "" {
		return r.compareEndpoint(ctx, c.Spec.ControlPlaneEndpoint)
	}
	endpoint, source, missing := r.findEndpoint(ctx)
	if missing.message != "" {
		return missing
	}
	changed := c.DeepCopy()
	changed.Spec.ControlPlaneEndpoint = endpoint
	// What another client has set meanwhile stays.
	err := r.cached.Patch(ctx, changed, client.MergeFromWithOptions(c, client.MergeFromWithOptimisticLock{}))
	if err == nil {
		ctrl.LoggerFrom(ctx).Info("Copied the endpoint of the control plane", "source", source, "host", endpoint.Host, "port", endpoint.Port)
		err = r.setObject(changed)
	}
	switch {
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err):
		return waitForEndpoint(fallbackRequeue, "The endpoint of %s was refused: %v", source, err)
	case err != nil:
		return waitForEndpoint(endpointRequeue, "The endpoint of %s cannot be written: retrying: %v", source, err)
	}
	return wait{}
}

func waitForEndpoint(requeueAfter time.Duration, format string, args ...any) wait {
	return waitFor(requeueAfter, infrastructure.ReasonWaitingForControlPlane, format, args...)
}

// compareEndpoint compares the endpoint in the spec with that of the control plane, which may
// change until the Cluster has one.
func (r *reconciliation) compareEndpoint(ctx context.Context, is v1alpha4.APIEndpoint) wait {
	if r.cluster == nil || r.cluster.Spec.ControlPlaneEndpoint.IsValid() {
		return wait{}
	}
	found, source, missing := r.findEndpoint(ctx)
	if missing.message != "" || found == is {
		return wait{requeueAfter: fallbackRequeue}
	}
	return waitFor(fallbackRequeue, infrastructure.ReasonEndpointDiffers,
		"spec.controlPlaneEndpoint is %s, and %s has %s: correct one of them", hostPort(is), source, hostPort(found))
}

// findEndpoint returns the endpoint of the Cluster, or of the control plane that the Cluster
// names, or what is missing. Cluster API copies the latter into the Cluster only when the
// control plane is initialized, and a provider may wait for the infrastructure's endpoint
// before that: Kamaji's compares it with its own, and may not write it.
func (r *reconciliation) findEndpoint(ctx context.Context) (endpoint v1alpha4.APIEndpoint, source string, missing wait) {
	if r.cluster == nil {
		// That there is a Cluster comes as an event.
		return endpoint, "", waitForEndpoint(0, "There is no Cluster that the endpoint could be taken from: set spec.controlPlaneEndpoint, or spec.infrastructureRef of a Cluster")
	}
	if e := r.cluster.Spec.ControlPlaneEndpoint; e.IsValid() {
		return v1alpha4.APIEndpoint{Host: e.Host, Port: e.Port}, "Cluster " + r.cluster.Name, wait{}
	}
	ref := r.cluster.Spec.ControlPlaneRef
	if ref.APIGroup != controlPlaneGroup {
		return endpoint, "", waitForEndpoint(fallbackRequeue,
			"Cluster %s has no spec.controlPlaneEndpoint, and its spec.controlPlaneRef names no kind of the group %s: set spec.controlPlaneEndpoint", r.cluster.Name, controlPlaneGroup)
	}
	source = ref.Kind + " " + ref.Name
	controlPlane, err := r.getControlPlane(ctx, ref)
	switch {
	case apierrors.IsForbidden(err):
		return endpoint, "", waitForEndpoint(fallbackRequeue, "%s cannot be read: allow the controller manager to get its kind, or set spec.controlPlaneEndpoint: %v", source, err)
	case meta.IsNoMatchError(err):
		return endpoint, "", waitForEndpoint(fallbackRequeue, "%s not found: its kind is not served: install the control plane's provider, or set spec.controlPlaneEndpoint", source)
	case apierrors.IsNotFound(err):
		return endpoint, "", waitForEndpoint(endpointRequeue, "%s not found", source)
	case err != nil:
		return endpoint, "", waitForEndpoint(endpointRequeue, "%s cannot be read: retrying: %v", source, err)
	}
	host, _, _ := unstructured.NestedString(controlPlane.Object, "spec", "controlPlaneEndpoint", "host")
	port, _, _ := unstructured.NestedInt64(controlPlane.Object, "spec", "controlPlaneEndpoint", "port")
	if host == "" || port <= 0 || port > math.MaxUint16 {
		return endpoint, "", waitForEndpoint(endpointRequeue, "%s has no spec.controlPlaneEndpoint yet", source)
	}
	return v1alpha4.APIEndpoint{Host: host, Port: int32(port)}, source, wait{}
}

// getControlPlane reads the control plane of the Cluster from the server.
func (r *reconciliation) getControlPlane(ctx context.Context, ref clusterv1.ContractVersionedObjectReference) (*unstructured.Unstructured, error) {
	mapping, err := r.controlPlaneKinds.mapping(r.clock.Now(), r.newMapper, schema.GroupKind{Group: ref.APIGroup, Kind: ref.Kind})
	if err != nil {
		return nil, err
	}
	obj := &unstructured.Unstructured{}
	obj.SetGroupVersionKind(mapping.GroupVersionKind)
	return obj, r.live.Get(ctx, client.ObjectKey{Namespace: r.obj.GetNamespace(), Name: ref.Name}, obj)
}

// kindMapper maps kinds to what the server serves. A provider may be installed at any time, and
// a mapper reads once which versions a group has, so a new one is made for a kind that is not
// found: at most once a minute for all clusters together, since that costs a discovery.
type kindMapper struct {
	mu     sync.Mutex
	mapper meta.RESTMapper
	madeAt time.Time
	// failures are the kinds that were not found since the mapper was made.
	failures map[schema.GroupKind]error
}

func (m *kindMapper) mapping(now time.Time, newMapper func() (meta.RESTMapper, error), kind schema.GroupKind) (*meta.RESTMapping, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.failures[kind]
	if m.mapper != nil && err == nil {
		var found *meta.RESTMapping
		if found, err = m.mapper.RESTMapping(kind); err == nil {
			return found, nil
		}
		m.failures[kind] = err
	}
	if !m.madeAt.IsZero() && now.Sub(m.madeAt) < fallbackRequeue {
		return nil, cmp.Or(err, errNoMapper)
	}
	m.madeAt, m.failures = now, map[schema.GroupKind]error{}
	fresh, err := newMapper()
	if err != nil {
		return nil, err
	}
	m.mapper = fresh
	found, err := fresh.RESTMapping(kind)
	if err != nil {
		m.failures[kind] = err
	}
	return found, err
}

var errNoMapper = errors.New("failed to discover what the API server serves: retrying within a minute")
