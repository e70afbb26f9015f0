// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/dryrun"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/validation"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

// Operations are what the allocation protocol does for one kind.
type Operations[T registry.Object] struct {
	// WithDryRun makes the operations of a context dry runs.
	WithDryRun func(ctx context.Context) context.Context
	// Allocate turns the object into metal. It goes on when ctx ends.
	Allocate func(ctx context.Context, namespace, name string, body *infrastructure.Allocation) (T, error)
	// Release releases the metal; uid may be empty.
	Release func(ctx context.Context, namespace, name string, uid types.UID) (T, error)
}

// getter gets the objects that the user may see.
type getter[T registry.Object] interface {
	Get(ctx context.Context, namespace, name string) (T, error)
}

// REST serves the allocation of one kind: a create allocates, a delete
// releases, and both answer with the object.
type REST[T registry.Object] struct {
	resource   schema.GroupResource
	objects    getter[T]
	operations Operations[T]
	// returned is an object of the served version, for the documentation.
	returned runtime.Object
}

var (
	_ rest.NamedCreater                   = &REST[*infrastructure.MetalStackMachine]{}
	_ rest.GracefulDeleter                = &REST[*infrastructure.MetalStackMachine]{}
	_ rest.MayReturnFullObjectDeleter     = &REST[*infrastructure.MetalStackMachine]{}
	_ rest.GroupVersionKindProvider       = &REST[*infrastructure.MetalStackMachine]{}
	_ rest.SubresourceObjectMetaPreserver = &REST[*infrastructure.MetalStackMachine]{}
	_ rest.StorageMetadata                = &REST[*infrastructure.MetalStackMachine]{}
)

// NewREST returns what serves the allocation of a resource; answer is an empty
// object of the served version.
func NewREST[T registry.Object](r *registry.REST, operations Operations[T], answer runtime.Object) *REST[T] {
	return &REST[T]{resource: r.DefaultQualifiedResource, objects: NewVisibleRecords[T](r), operations: operations, returned: answer}
}

// New implements rest.Storage.
func (r *REST[T]) New() runtime.Object { return &infrastructure.Allocation{} }

// Destroy does nothing: the storage is that of the main resource.
func (r *REST[T]) Destroy() {}

// Create allocates.
func (r *REST[T]) Create(ctx context.Context, name string, obj runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	body, ok := obj.(*infrastructure.Allocation)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("unexpected body type %T: must be Allocation", obj))
	}
	if errs := validation.ValidateAllocation(body, name); len(errs) > 0 {
		return nil, apierrors.NewInvalid(infrastructure.Kind("Allocation"), name, registry.LimitErrors(errs))
	}
	if validate != nil {
		if err := validate(ctx, obj); err != nil {
			return nil, err
		}
	}
	namespace := request.NamespaceValue(ctx)
	if dryrun.IsDryRun(options.DryRun) {
		ctx = r.operations.WithDryRun(ctx)
	}
	// The protocol knows all records, and the user only those that are shown.
	if _, err := r.objects.Get(ctx, namespace, name); err != nil {
		return nil, err
	}
	ctx, cancel := registry.WithDeadlineMargin(ctx)
	defer cancel()
	return object(r.operations.Allocate(ctx, namespace, name, body))
}

// Delete releases.
func (r *REST[T]) Delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) (runtime.Object, bool, error) {
	namespace := request.NamespaceValue(ctx)
	var preconditions metav1.Preconditions
	if options != nil && options.Preconditions != nil {
		preconditions = *options.Preconditions
	}
	obj, err := r.current(ctx, namespace, name, preconditions)
	if err != nil {
		return nil, false, err
	}
	if validate != nil {
		if err := validate(ctx, obj); err != nil {
			return nil, false, err
		}
	}
	if options != nil && dryrun.IsDryRun(options.DryRun) {
		ctx = r.operations.WithDryRun(ctx)
	}
	ctx, cancel := registry.WithDeadlineMargin(ctx)
	defer cancel()
	var uid types.UID
	if preconditions.UID != nil {
		uid = *preconditions.UID
	}
	obj, err = object(r.operations.Release(ctx, namespace, name, uid))
	return obj, err == nil, err
}

// current returns the object if the preconditions hold.
func (r *REST[T]) current(ctx context.Context, namespace, name string, p metav1.Preconditions) (runtime.Object, error) {
	obj, err := r.objects.Get(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	if err := registry.CheckPreconditions(r.resource, obj, p); err != nil {
		return nil, err
	}
	return obj, nil
}

// DeleteReturnsDeletedObject implements rest.MayReturnFullObjectDeleter.
func (r *REST[T]) DeleteReturnsDeletedObject() bool { return true }

// GroupVersionKind implements rest.GroupVersionKindProvider: the body is an
// Allocation, although the resource is another one's.
func (r *REST[T]) GroupVersionKind(containing schema.GroupVersion) schema.GroupVersionKind {
	return containing.WithKind("Allocation")
}

// PreserveRequestObjectMetaSystemFieldsOnSubresourceCreate keeps the uid in the
// body: it says which object of that name is meant.
func (r *REST[T]) PreserveRequestObjectMetaSystemFieldsOnSubresourceCreate() bool { return true }

// ProducesMIMETypes implements rest.StorageMetadata.
func (r *REST[T]) ProducesMIMETypes(string) []string { return nil }

// ProducesObject implements rest.StorageMetadata.
func (r *REST[T]) ProducesObject(string) any { return r.returned }

// object turns a nil pointer into a nil interface.
func object[T registry.Object](obj T, err error) (runtime.Object, error) {
	if err != nil {
		return nil, err
	}
	return obj, nil
}
