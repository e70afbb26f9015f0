// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/request"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

// ownerLookup answers for owners of this group from its own storage, without asking
// the kube-apiserver, which would ask this server; for all others it asks the
// cluster.
type ownerLookup struct {
	resources *Resources
	cluster   registry.OwnerLookup
}

var _ registry.OwnerLookup = ownerLookup{}

// Supports implements registry.OwnerLookup.
func (o ownerLookup) Supports(apiVersion, kind string) bool {
	return o.own(apiVersion, kind) != nil || o.cluster.Supports(apiVersion, kind)
}

// Owner implements registry.OwnerLookup.
func (o ownerLookup) Owner(ctx context.Context, key registry.OwnerKey) (metav1.Object, error) {
	own := o.own(key.APIVersion, key.Kind)
	if own == nil {
		return o.cluster.Owner(ctx, key)
	}
	obj, err := own.Store.Get(request.WithNamespace(ctx, key.Namespace), key.Name, &metav1.GetOptions{ResourceVersion: "0"})
	if err != nil {
		return nil, err
	}
	owner, err := meta.Accessor(obj)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return owner, nil
}

// Namespace implements registry.OwnerLookup.
func (o ownerLookup) Namespace(ctx context.Context, name string) (metav1.Object, error) {
	return o.cluster.Namespace(ctx, name)
}

// own returns the resource of a kind of this group, in whatever version; nil for
// another group's.
func (o ownerLookup) own(apiVersion, kind string) *registry.REST {
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil || gv.Group != infrastructure.GroupName {
		return nil
	}
	for _, r := range o.resources.all {
		if r.main.SingularQualifiedResource.Resource == strings.ToLower(kind) {
			return r.main
		}
	}
	return nil
}
