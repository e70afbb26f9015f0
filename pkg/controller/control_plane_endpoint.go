// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"math"
	"net"
	"strconv"
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
	// controlPlaneGroup is the API group of the control planes that are read.
	controlPlaneGroup = "controlplane.cluster.x-k8s.io"
)

// reconcileControlPlaneEndpoint copies the endpoint that the provider of a hosted control
// plane brings into the spec. It waits for none: the rest of the cluster does not need it.
func reconcileControlPlaneEndpoint(ctx context.Context, r *reconciliation) (wait, error) {
	if !awaitsEndpoint(r.obj) {
		return wait{}, nil
	}
	condition := metav1.Condition{Type: infrastructure.ConditionControlPlaneEndpointSet, Status: metav1.ConditionTrue, Reason: infrastructure.ReasonEndpointSet}
	missing, err := r.copyEndpoint(ctx)
	switch {
	case err != nil:
		return wait{}, err
	case missing != "":
		r.retryEndpointAfter = endpointRequeue
		condition.Status, condition.Reason, condition.Message = metav1.ConditionFalse, infrastructure.ReasonWaitingForControlPlane, missing
	default:
		endpoint := r.obj.(*v1alpha4.MetalStackCluster).Spec.ControlPlaneEndpoint
		condition.Message = "The control plane is reached at " + net.JoinHostPort(endpoint.Host, strconv.Itoa(int(endpoint.Port)))
	}
	r.endpointSet = &condition
	return wait{}, nil
}

// awaitsEndpoint returns whether the control plane's provider brings the endpoint of a
// cluster.
func awaitsEndpoint(obj client.Object) bool {
	c, ok := obj.(*v1alpha4.MetalStackCluster)
	return ok && c.Spec.ControlPlaneEndpointProvider == v1alpha4.EndpointOfControlPlane
}

// copyEndpoint writes the endpoint into the spec, unless the spec has one, and says what is
// missing for that.
func (r *reconciliation) copyEndpoint(ctx context.Context) (missing string, err error) {
	c := r.obj.(*v1alpha4.MetalStackCluster)
	if c.Spec.ControlPlaneEndpoint.Host != "" {
		return "", nil
	}
	endpoint, source, missing := r.findEndpoint(ctx)
	if missing != "" {
		return missing, nil
	}
	changed := c.DeepCopy()
	changed.Spec.ControlPlaneEndpoint = v1alpha4.APIEndpoint{Host: endpoint.Host, Port: endpoint.Port}
	// What another client has set meanwhile stays.
	err = r.cached.Patch(ctx, changed, client.MergeFromWithOptions(c, client.MergeFromWithOptimisticLock{}))
	switch {
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err):
		return fmt.Sprintf("The endpoint of %s was refused: %v", source, err), nil
	case err != nil:
		return "", err
	}
	ctrl.LoggerFrom(ctx).Info("Copied the endpoint of the control plane", "source", source, "host", endpoint.Host, "port", endpoint.Port)
	return "", r.setObject(changed)
}

// findEndpoint returns the endpoint of the Cluster, or of the control plane that the Cluster
// names, or what is missing. Cluster API copies the latter into the Cluster only when the
// control plane is initialized, and a provider may wait for the infrastructure's endpoint
// before that: Kamaji's compares it with its own, and may not write it.
func (r *reconciliation) findEndpoint(ctx context.Context) (endpoint clusterv1.APIEndpoint, source, missing string) {
	if r.cluster == nil {
		return endpoint, "", "spec.controlPlaneEndpoint has no host yet"
	}
	if r.cluster.Spec.ControlPlaneEndpoint.IsValid() {
		return r.cluster.Spec.ControlPlaneEndpoint, "Cluster " + r.cluster.Name, ""
	}
	ref := r.cluster.Spec.ControlPlaneRef
	if ref.APIGroup != controlPlaneGroup {
		return endpoint, "", fmt.Sprintf("Cluster %s has no spec.controlPlaneEndpoint, and its spec.controlPlaneRef names no kind of the group %s", r.cluster.Name, controlPlaneGroup)
	}
	source = ref.Kind + " " + ref.Name
	controlPlane, err := r.getControlPlane(ctx, ref)
	switch {
	case apierrors.IsForbidden(err):
		return endpoint, "", fmt.Sprintf("%s cannot be read: allow the controller manager to get its kind, or set spec.controlPlaneEndpoint: %v", source, err)
	case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
		return endpoint, "", source + " not found"
	case err != nil:
		return endpoint, "", fmt.Sprintf("%s cannot be read: retrying: %v", source, err)
	}
	host, _, _ := unstructured.NestedString(controlPlane.Object, "spec", "controlPlaneEndpoint", "host")
	port, _, _ := unstructured.NestedInt64(controlPlane.Object, "spec", "controlPlaneEndpoint", "port")
	if host == "" || port <= 0 || port > math.MaxUint16 {
		return endpoint, "", source + " has no spec.controlPlaneEndpoint yet"
	}
	return clusterv1.APIEndpoint{Host: host, Port: int32(port)}, source, ""
}

// getControlPlane reads the control plane of the Cluster from the server.
func (r *reconciliation) getControlPlane(ctx context.Context, ref clusterv1.ContractVersionedObjectReference) (*unstructured.Unstructured, error) {
	kind := schema.GroupKind{Group: ref.APIGroup, Kind: ref.Kind}
	mapping, err := r.live.RESTMapper().RESTMapping(kind)
	if meta.IsNoMatchError(err) {
		// A mapper reads once which versions a group has: the provider may have been installed
		// since.
		var fresh meta.RESTMapper
		if fresh, err = r.newMapper(); err == nil {
			mapping, err = fresh.RESTMapping(kind)
		}
	}
	if err != nil {
		return nil, err
	}
	obj := &unstructured.Unstructured{}
	obj.SetGroupVersionKind(mapping.GroupVersionKind)
	return obj, r.live.Get(ctx, client.ObjectKey{Namespace: r.obj.GetNamespace(), Name: ref.Name}, obj)
}
