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

// A subresource is how metal is asked for and given back. Both calls
// answer with the object as it is then, are refused if obj is not the object of
// this name any more, and may be repeated: twice has the same effect as once.
type subresource interface {
	// allocate asks for the metal of obj.
	allocate(ctx context.Context, k kind, obj holder, allocation *v1alpha4.Allocation) (holder, error)
	// release gives the metal of obj back.
	release(ctx context.Context, k kind, obj holder) (holder, error)
}

// restSubresource is POST and DELETE of …/NAME/allocation.
type restSubresource struct{ rest.Interface }

func (s restSubresource) allocate(ctx context.Context, k kind, obj holder, allocation *v1alpha4.Allocation) (holder, error) {
	ctx, cancel := context.WithTimeout(ctx, subresourceTimeout)
	defer cancel()
	allocation.Name, allocation.Namespace, allocation.UID = obj.GetName(), obj.GetNamespace(), obj.GetUID()
	answer := k.object()
	return answer, s.Post().
		Namespace(obj.GetNamespace()).Resource(k.resource).Name(obj.GetName()).SubResource("allocation").
		Body(allocation).
		Do(ctx).Into(answer)
}

func (s restSubresource) release(ctx context.Context, k kind, obj holder) (holder, error) {
	ctx, cancel := context.WithTimeout(ctx, subresourceTimeout)
	defer cancel()
	uid := obj.GetUID()
	answer := k.object()
	return answer, s.Delete().
		Namespace(obj.GetNamespace()).Resource(k.resource).Name(obj.GetName()).SubResource("allocation").
		Body(&metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}).
		Do(ctx).Into(answer)
}
