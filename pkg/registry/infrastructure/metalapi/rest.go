// SPDX-License-Identifier: Apache-2.0

// Package metalapi serves the subresource metalapi of MetalStackClusters: the part of the
// metal-api that a cluster is given, by Kubernetes' rights.
package metalapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metalapi"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
	allocationrest "metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/allocation"
)

// Server answers requests of clusters: pkg/metalapi.Server.
type Server interface {
	Handler(cluster metalapi.Cluster, path string) http.Handler
}

// REST connects a client with the metal-api of a cluster.
type REST struct {
	clusters allocationrest.Records[*infrastructure.MetalStackCluster]
	machines allocationrest.Records[*infrastructure.MetalStackMachine]
	bindings registry.Namespaces
	server   Server
	resource schema.GroupResource
}

var _ rest.Connecter = &REST{}

// NewREST returns what serves the subresource of clusters.
func NewREST(clusters, machines *registry.REST, bindings registry.Namespaces, server Server) *REST {
	return &REST{
		clusters: allocationrest.NewVisibleRecords[*infrastructure.MetalStackCluster](clusters),
		machines: allocationrest.NewVisibleRecords[*infrastructure.MetalStackMachine](machines),
		bindings: bindings, server: server, resource: clusters.DefaultQualifiedResource,
	}
}

// New implements rest.Storage.
func (r *REST) New() runtime.Object { return &infrastructure.MetalAPIOptions{} }

// Destroy does nothing: the storage is that of the main resource.
func (r *REST) Destroy() {}

// ConnectMethods implements rest.Connecter.
func (r *REST) ConnectMethods() []string {
	return []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete}
}

// NewConnectOptions implements rest.Connecter: what follows the subresource in the URL is
// the path of the metal-api.
func (r *REST) NewConnectOptions() (runtime.Object, bool, string) {
	return &infrastructure.MetalAPIOptions{}, true, "path"
}

// Connect implements rest.Connecter.
func (r *REST) Connect(ctx context.Context, name string, options runtime.Object, _ rest.Responder) (http.Handler, error) {
	opts, ok := options.(*infrastructure.MetalAPIOptions)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("unexpected options type %T: must be MetalAPIOptions", options))
	}
	namespace := request.NamespaceValue(ctx)
	cluster, err := r.clusters.Get(ctx, namespace, name)
	if err != nil {
		return refusal(ctx, err), nil
	}
	project, bound := r.bindings.Project(namespace)
	if !bound {
		return refusal(ctx, apierrors.NewForbidden(r.resource, name, fmt.Errorf("namespace %q is not bound to a project: an administrator has to set its label %s to the id of a project", namespace, infrastructure.ProjectLabel))), nil
	}
	id := infrastructure.ClusterID(cluster)
	if id == "" {
		return refusal(ctx, apierrors.NewConflict(r.resource, name, errors.New("the cluster has no cluster id yet: retry once its allocation has begun"))), nil
	}
	if err := r.checkClusterID(ctx, cluster, project, id); err != nil {
		return refusal(ctx, err), nil
	}
	return r.server.Handler(metalapi.Cluster{
		NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}, ID: id, Project: project,
		Adopted: func(ctx context.Context) (map[string]bool, error) { return r.adopted(ctx, namespace, name) },
	}, opts.Path), nil
}

// checkClusterID refuses a cluster whose spec names the id of another cluster of the project:
// what that one has would be its own. An allocation makes sure of it before metal carries
// the id.
func (r *REST) checkClusterID(ctx context.Context, cluster *infrastructure.MetalStackCluster, project, id string) error {
	if a := cluster.Status.Allocation; a != nil && a.Phase == infrastructure.AllocationAllocated {
		return nil
	}
	all, err := r.clusters.List(ctx)
	if err != nil {
		return err
	}
	for _, other := range all {
		if other.UID == cluster.UID || infrastructure.ClusterID(other) != id {
			continue
		}
		if its, _ := r.bindings.Project(other.Namespace); its == project && precedes(other, cluster) {
			return apierrors.NewConflict(r.resource, cluster.Name, fmt.Errorf("cluster id %q is that of MetalStackCluster %q: it must be unique in a project", id, other.Name))
		}
	}
	return nil
}

// precedes reports whether of two clusters that name the same id it is the other's: that of
// the one whose network carries it, or else of the older one.
func precedes(other, cluster *infrastructure.MetalStackCluster) bool {
	a := other.Status.Allocation
	return a != nil && a.NetworkID != "" && a.Phase != infrastructure.AllocationReleased || !cluster.CreationTimestamp.Before(&other.CreationTimestamp)
}

// refusal answers an error in the metal-api's form: its clients read no other.
func refusal(ctx context.Context, err error) http.Handler {
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) {
		klog.FromContext(ctx).Error(err, "Failed to serve the metal-api of a cluster")
		return metalapi.Refusal(http.StatusInternalServerError, "internal error", 0)
	}
	status, retryAfter := answer.Status(), time.Duration(0)
	if status.Details != nil {
		retryAfter = time.Duration(status.Details.RetryAfterSeconds) * time.Second
	}
	return metalapi.Refusal(int(status.Code), status.Message, retryAfter)
}

// adopted returns the machines that are allocated for objects of the cluster.
func (r *REST) adopted(ctx context.Context, namespace, cluster string) (map[string]bool, error) {
	all, err := r.machines.List(ctx)
	if err != nil {
		return nil, err
	}
	ids := map[string]bool{}
	for _, m := range all {
		a := m.Status.Allocation
		if m.Namespace == namespace && a != nil && a.ClusterName == cluster && a.Phase == infrastructure.AllocationAllocated {
			ids[a.MachineID] = true
		}
	}
	return ids, nil
}
