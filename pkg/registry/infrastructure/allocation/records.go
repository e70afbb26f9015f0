// SPDX-License-Identifier: Apache-2.0

// Package allocation serves the allocation subresource, by which objects get
// and release metal, and gives the allocation protocol its view of records.
// It decides nothing itself.
package allocation

import (
	"context"

	"k8s.io/apimachinery/pkg/api/meta"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
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
	store    *genericregistry.Store
	selector fields.Selector
	// visibleOnly leaves out the records of hidden namespaces.
	visibleOnly bool
}

// NewRecords returns the records of a resource, including those of hidden
// namespaces, which hold metal like others.
func NewRecords[T registry.Object](r *registry.REST) Records[T] {
	return Records[T]{store: r.Store, selector: r.RecordSelector()}
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

// List returns all objects that have a record.
func (r Records[T]) List(ctx context.Context) ([]T, error) {
	predicate := r.store.PredicateFunc(labels.Everything(), r.selector)
	list, err := r.store.ListPredicate(r.requestContext(ctx, ""), predicate, &metainternalversion.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return nil, err
	}
	var objs []T
	err = meta.EachListItem(list, func(item runtime.Object) error {
		objs = append(objs, item.(T))
		return nil
	})
	return objs, err
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
