// SPDX-License-Identifier: Apache-2.0

package operations

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/endpoints/request"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// Resource is a resource whose machines are operated.
type Resource struct {
	Resource schema.GroupResource
	Kind     string
	// Get returns an object that the user may see, and its metal, which may be nil.
	Get func(ctx context.Context, namespace, name string) (metav1.Object, *infrastructure.Metal, error)
	// Operator operates the machines.
	Operator Operator
	// Authorizer decides who may operate those that were discovered, and have disks wiped.
	Authorizer Authorizer
}

// read returns the target of a request that changes nothing.
func (r *Resource) read(ctx context.Context, name string) (infrastructure.OperationTarget, error) {
	_, target, err := r.find(ctx, name)
	return target, err
}

// write returns the target of any other request, with the object. A discovered machine is
// operated only by users who may operate those.
func (r *Resource) write(ctx context.Context, name string, uid types.UID) (metav1.Object, infrastructure.OperationTarget, error) {
	obj, target, err := r.find(ctx, name)
	if err != nil {
		return nil, target, err
	}
	if uid != "" && uid != obj.GetUID() {
		return nil, target, apierrors.NewConflict(r.Resource, name, fmt.Errorf("metadata.uid: the request is for the object with UID %s, found %s", uid, obj.GetUID()))
	}
	if target.Discovered == nil {
		return obj, target, nil
	}
	u, _ := request.UserFrom(ctx)
	return obj, target, r.Authorizer.AuthorizeDiscovered(ctx, u, r.Resource, target.Namespace, name)
}

func (r *Resource) find(ctx context.Context, name string) (metav1.Object, infrastructure.OperationTarget, error) {
	u, known := request.UserFrom(ctx)
	if !known {
		return nil, infrastructure.OperationTarget{}, apierrors.NewInternalError(errors.New("request has no user"))
	}
	obj, metal, err := r.Get(ctx, request.NamespaceValue(ctx), name)
	if err != nil {
		return nil, infrastructure.OperationTarget{}, err
	}
	target := infrastructure.OperationTarget{Kind: r.Kind, Namespace: obj.GetNamespace(), Name: obj.GetName(), UID: obj.GetUID(), User: u.GetName()}
	if metal != nil && !metal.Managed {
		target.Discovered = metal
	}
	return obj, target, nil
}
