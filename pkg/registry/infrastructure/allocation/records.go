// SPDX-License-Identifier: Apache-2.0

// Package allocation serves the allocation subresource, by which objects get
// and release metal, and gives the allocation protocol its view of records.
// It decides nothing itself.
package allocation

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	apistorage "k8s.io/apiserver/pkg/storage"
	storeerr "k8s.io/apiserver/pkg/storage/errors"

	"metal-stack.io/infrastructure-apiserver/pkg/registry"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
)

// Records are the objects of one store, past its strategies: what the protocol
// writes is for no client to write. It implements allocation.Records.
type Records[T registry.Object] struct {
	store *genericregistry.Store
	// visibleOnly leaves out the records of hidden namespaces.
	visibleOnly bool
}

// NewRecords returns the records of a resource, including those of hidden
// namespaces, which hold metal like others.
func NewRecords[T registry.Object](r *registry.REST) Records[T] {
	return Records[T]{store: r.Store}
}

// NewVisibleRecords is NewRecords without those of hidden namespaces.
func NewVisibleRecords[T registry.Object](r *registry.REST) Records[T] {
	return Records[T]{store: r.Store, visibleOnly: true}
}

// Get returns an object. It answers from the view: the
// protocol observes metal itself.
func (r Records[T]) Get(ctx context.Context, namespace, name string) (T, error) {
	obj, err := r.store.Get(r.requestContext(ctx, namespace), name, &metav1.GetOptions{ResourceVersion: "0"})
	if err != nil {
		return *new(T), err
	}
	return obj.(T), nil
}

// Update changes an object by compare-and-swap.
func (r Records[T]) Update(ctx context.Context, namespace, name string, change func(T) error) (T, error) {
	ctx = r.requestContext(ctx, namespace)
	key, err := r.store.KeyFunc(ctx, name)
	if err != nil {
		return *new(T), err
	}
	var changeErr error
	apply := apistorage.SimpleUpdate(func(existing runtime.Object) (runtime.Object, error) {
		changeErr = change(existing.(T))
		return existing, changeErr
	})
	out := r.store.New()
	err = r.store.Storage.Storage.GuaranteedUpdate(ctx, key, out, false, nil, apply, nil)
	if changeErr != nil {
		return *new(T), changeErr
	}
	if err != nil {
		return *new(T), storeerr.InterpretUpdateError(err, r.store.DefaultQualifiedResource, name)
	}
	return out.(T), nil
}

// List returns all objects that have a record. They are shared: do not modify them.
func (r Records[T]) List(ctx context.Context) ([]T, error) {
	store, err := r.records()
	if err != nil {
		return nil, err
	}
	all, err := store.Records(r.requestContext(ctx, ""))
	if err != nil {
		return nil, err
	}
	objs := make([]T, 0, len(all))
	for _, obj := range all {
		objs = append(objs, obj.(T))
	}
	return objs, nil
}

// Changes returns a function that returns which objects changed, by a write or because of metal,
// since it was called last. It is false if there may be more, as it is when it is called first.
func (r Records[T]) Changes() func() (changed []types.NamespacedName, ok bool) {
	store, err := r.records()
	if err != nil {
		return func() ([]types.NamespacedName, bool) { return nil, false }
	}
	var position uint64
	return func() (changed []types.NamespacedName, ok bool) {
		changed, position, ok = store.Changes(position)
		return changed, ok
	}
}

func (r Records[T]) records() (*storage.Store, error) {
	store, ok := r.store.Storage.Storage.(*storage.Store)
	if !ok {
		return nil, fmt.Errorf("unexpected storage %T of %s", r.store.Storage.Storage, r.store.DefaultQualifiedResource)
	}
	return store, nil
}

// requestContext makes the context one of a request for this resource: the store names
// the resource in errors after it, and the request may be for another one.
func (r Records[T]) requestContext(ctx context.Context, namespace string) context.Context {
	ctx = request.WithRequestInfo(ctx, &request.RequestInfo{
		IsResourceRequest: true, Namespace: namespace,
		APIGroup: r.store.DefaultQualifiedResource.Group, Resource: r.store.DefaultQualifiedResource.Resource,
	})
	if !r.visibleOnly {
		ctx = storage.WithHiddenNamespaces(ctx)
	}
	return request.WithNamespace(ctx, namespace)
}
