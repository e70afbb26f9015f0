// SPDX-License-Identifier: Apache-2.0

package operations

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/dryrun"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/validation"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

// Subresources are the names of the subresources.
var Subresources = sets.New("power", "identify", "consolepassword", "log", "reinstall", lockSubresource)

// Storage returns what serves the subresources of a resource, by their names.
func Storage(r *Resource) map[string]rest.Storage {
	return map[string]rest.Storage{
		"power":           newPowerREST(r),
		"identify":        newIdentifyREST(r),
		"consolepassword": newConsolePasswordREST(r),
		"log":             newLogREST(r),
		"reinstall":       newReinstallREST(r),
		lockSubresource:   newLockREST(r),
	}
}

// body is a kind that is a subresource's body and answer. It is not stored.
type body interface {
	runtime.Object
	metav1.Object
}

// bodyREST is what all subresources with the body T have in common.
type bodyREST[T body] struct {
	resource *Resource
	// kind is that of T, and newBody returns an empty one.
	kind    string
	newBody func() T
}

// New implements rest.Storage.
func (r bodyREST[T]) New() runtime.Object { return r.newBody() }

// Destroy does nothing: nothing is stored.
func (r bodyREST[T]) Destroy() {}

// GroupVersionKind implements rest.GroupVersionKindProvider: body and answer are of a kind
// of their own, although the resource is another one's.
func (r bodyREST[T]) GroupVersionKind(containing schema.GroupVersion) schema.GroupVersionKind {
	return containing.WithKind(r.kind)
}

// answer is the answer of the Operator with the identity of the object that it is about.
func answer[T body](target infrastructure.OperationTarget, result T, err error) (runtime.Object, error) {
	if err != nil {
		return nil, err
	}
	result.SetName(target.Name)
	result.SetNamespace(target.Namespace)
	result.SetUID(target.UID)
	return result, nil
}

// get serves a GET with what read returns.
func (r bodyREST[T]) get(ctx context.Context, name string, read func(ctx context.Context, t infrastructure.OperationTarget) (T, error)) (runtime.Object, error) {
	target, err := r.resource.read(ctx, name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := registry.WithDeadlineMargin(ctx)
	defer cancel()
	result, err := read(ctx, target)
	return answer(target, result, err)
}

// creater serves the POST of one subresource.
type creater[T body] struct {
	bodyREST[T]
	validate func(T) field.ErrorList
	// authorize, if it is set, checks what the body needs besides the right to the subresource.
	authorize func(ctx context.Context, u user.Info, t infrastructure.OperationTarget, body T) error
	operate   func(ctx context.Context, t infrastructure.OperationTarget, body T) (T, error)
}

// Create implements rest.NamedCreater. What a body says besides its spec, its name and its
// uid is ignored.
func (r creater[T]) Create(ctx context.Context, name string, obj runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	body, ok := obj.(T)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("unexpected body type %T: must be %s", obj, r.kind))
	}
	if errs := append(validation.ValidateOperationName(body.GetName(), name), r.validate(body)...); len(errs) > 0 {
		return nil, apierrors.NewInvalid(infrastructure.Kind(r.kind), name, registry.LimitErrors(errs))
	}
	if validate != nil {
		if err := validate(ctx, obj); err != nil {
			return nil, err
		}
	}
	_, target, err := r.resource.write(ctx, name, body.GetUID())
	if err != nil {
		return nil, err
	}
	if r.authorize != nil {
		u, _ := request.UserFrom(ctx)
		if err := r.authorize(ctx, u, target, body); err != nil {
			return nil, err
		}
	}
	if options != nil && dryrun.IsDryRun(options.DryRun) {
		ctx = r.resource.Operator.WithDryRun(ctx)
	}
	ctx, cancel := registry.WithDeadlineMargin(ctx)
	defer cancel()
	result, err := r.operate(ctx, target, body)
	return answer(target, result, err)
}

// PreserveRequestObjectMetaSystemFieldsOnSubresourceCreate implements
// rest.SubresourceObjectMetaPreserver: the uid in the body says which object of that name
// is meant.
func (r creater[T]) PreserveRequestObjectMetaSystemFieldsOnSubresourceCreate() bool { return true }
