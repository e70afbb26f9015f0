// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// subresourceTimeout is a little longer than an API server's own for a
// request that is no watch, so that the server's answer is what ends it.
const subresourceTimeout = 65 * time.Second

// allocationClient calls the subresource that allocates and releases metal. Both calls
// answer with the object as it is then, are refused if obj is not the object of
// this name any more, and may be repeated: twice has the same effect as once.
type allocationClient interface {
	// allocate asks for the metal of obj.
	allocate(ctx context.Context, k kind, obj metalObject, allocation *v1alpha4.Allocation) (metalObject, error)
	// release releases the metal of obj.
	release(ctx context.Context, k kind, obj metalObject) (metalObject, error)
}

// restAllocationClient is POST and DELETE of …/NAME/allocation.
type restAllocationClient struct{ rest.Interface }

func (c restAllocationClient) allocate(ctx context.Context, k kind, obj metalObject, allocation *v1alpha4.Allocation) (metalObject, error) {
	ctx, cancel := context.WithTimeout(ctx, subresourceTimeout)
	defer cancel()
	allocation.Name, allocation.Namespace, allocation.UID = obj.GetName(), obj.GetNamespace(), obj.GetUID()
	answer := k.object()
	return answer, c.Post().
		Namespace(obj.GetNamespace()).Resource(k.resource).Name(obj.GetName()).SubResource("allocation").
		Body(allocation).
		Do(ctx).Into(answer)
}

func (c restAllocationClient) release(ctx context.Context, k kind, obj metalObject) (metalObject, error) {
	ctx, cancel := context.WithTimeout(ctx, subresourceTimeout)
	defer cancel()
	uid := obj.GetUID()
	answer := k.object()
	return answer, c.Delete().
		Namespace(obj.GetNamespace()).Resource(k.resource).Name(obj.GetName()).SubResource("allocation").
		Body(&metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}).
		Do(ctx).Into(answer)
}
