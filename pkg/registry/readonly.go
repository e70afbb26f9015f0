// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"

	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/registry/generic"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage/names"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
)

// ReadOnlyKind is what a kind that has no records does differently from the others. Fields that
// are not marked as optional are required.
type ReadOnlyKind[T Object] struct {
	Plural, Singular string
	ShortNames       []string
	// ClusterScoped objects are in no namespace: who may list them sees all of them. Optional.
	ClusterScoped bool

	New     func() T
	NewList func() runtime.Object
	// SelectableFields are the selectable fields besides name and namespace, the same
	// ones for every object. Optional.
	SelectableFields func(T) fields.Set
	// Columns follow NAME in a table.
	Columns []Column[T]
}

// ReadOnlyREST serves the objects of a kind that has no records. It has no method that writes, so
// that discovery lists none.
type ReadOnlyREST struct {
	reader
	namespaced bool
	shortNames []string
}

var (
	_ rest.Storage              = &ReadOnlyREST{}
	_ rest.Scoper               = &ReadOnlyREST{}
	_ rest.Getter               = &ReadOnlyREST{}
	_ rest.Lister               = &ReadOnlyREST{}
	_ rest.Watcher              = &ReadOnlyREST{}
	_ rest.SingularNameProvider = &ReadOnlyREST{}
	_ rest.ShortNamesProvider   = &ReadOnlyREST{}
	_ rest.CategoriesProvider   = &ReadOnlyREST{}
)

// NewReadOnlyREST returns what serves a kind that has no records.
func NewReadOnlyREST[T Object](kind *ReadOnlyKind[T], visible Visibility, getter generic.RESTOptionsGetter) (*ReadOnlyREST, error) {
	rows := table[T]{kind.Columns}
	strategy := readOnlyStrategy{scheme.Scheme, names.SimpleNameGenerator, !kind.ClusterScoped}
	store := &genericregistry.Store{
		NewFunc:                   func() runtime.Object { return kind.New() },
		NewListFunc:               kind.NewList,
		DefaultQualifiedResource:  infrastructure.Resource(kind.Plural),
		SingularQualifiedResource: infrastructure.Resource(kind.Singular),
		// The store needs strategies to know the scope. Nothing calls them.
		CreateStrategy: strategy,
		UpdateStrategy: strategy,
		DeleteStrategy: strategy,
		TableConvertor: rows,
	}
	if err := store.CompleteWithOptions(&generic.StoreOptions{RESTOptions: getter, AttrFunc: readOnlyAttrFunc(kind)}); err != nil {
		return nil, err
	}
	if kind.ClusterScoped {
		visible = nil
	}
	return &ReadOnlyREST{reader{store, visible, rows}, !kind.ClusterScoped, kind.ShortNames}, nil
}

// New implements rest.Storage.
func (r *ReadOnlyREST) New() runtime.Object { return r.store.New() }

// Destroy implements rest.Storage.
func (r *ReadOnlyREST) Destroy() { r.store.Destroy() }

// NewList implements rest.Lister.
func (r *ReadOnlyREST) NewList() runtime.Object { return r.store.NewList() }

// NamespaceScoped implements rest.Scoper.
func (r *ReadOnlyREST) NamespaceScoped() bool { return r.namespaced }

// GetSingularName implements rest.SingularNameProvider.
func (r *ReadOnlyREST) GetSingularName() string { return r.store.GetSingularName() }

// ShortNames implements rest.ShortNamesProvider.
func (r *ReadOnlyREST) ShortNames() []string { return r.shortNames }

// Categories implements rest.CategoriesProvider.
func (r *ReadOnlyREST) Categories() []string { return []string{category} }

// Get implements rest.Getter.
func (r *ReadOnlyREST) Get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error) {
	return r.get(ctx, name, options)
}

// List shows what the user may see.
func (r *ReadOnlyREST) List(ctx context.Context, options *metainternalversion.ListOptions) (runtime.Object, error) {
	return r.list(ctx, options)
}

// Watch shows what the user may see, until that changes.
func (r *ReadOnlyREST) Watch(ctx context.Context, options *metainternalversion.ListOptions) (watch.Interface, error) {
	return r.watch(ctx, options)
}

// ConvertToTable implements rest.TableConvertor.
func (r *ReadOnlyREST) ConvertToTable(ctx context.Context, object, options runtime.Object) (*metav1.Table, error) {
	return r.store.ConvertToTable(ctx, object, options)
}

// readOnlyStrategy is that of objects that nothing writes.
type readOnlyStrategy struct {
	runtime.ObjectTyper
	names.NameGenerator
	namespaced bool
}

// NamespaceScoped implements rest.Scoper.
func (s readOnlyStrategy) NamespaceScoped() bool { return s.namespaced }

// PrepareForCreate implements rest.RESTCreateStrategy.
func (readOnlyStrategy) PrepareForCreate(context.Context, runtime.Object) {}

// PrepareForUpdate implements rest.RESTUpdateStrategy.
func (readOnlyStrategy) PrepareForUpdate(context.Context, runtime.Object, runtime.Object) {}

// Validate implements rest.RESTCreateStrategy.
func (readOnlyStrategy) Validate(context.Context, runtime.Object) field.ErrorList {
	return field.ErrorList{field.Forbidden(nil, "read-only")}
}

// ValidateUpdate implements rest.RESTUpdateStrategy.
func (readOnlyStrategy) ValidateUpdate(context.Context, runtime.Object, runtime.Object) field.ErrorList {
	return field.ErrorList{field.Forbidden(nil, "read-only")}
}

// WarningsOnCreate implements rest.RESTCreateStrategy.
func (readOnlyStrategy) WarningsOnCreate(context.Context, runtime.Object) []string { return nil }

// WarningsOnUpdate implements rest.RESTUpdateStrategy.
func (readOnlyStrategy) WarningsOnUpdate(context.Context, runtime.Object, runtime.Object) []string {
	return nil
}

// Canonicalize implements rest.RESTCreateStrategy.
func (readOnlyStrategy) Canonicalize(runtime.Object) {}

// AllowCreateOnUpdate implements rest.RESTUpdateStrategy.
func (readOnlyStrategy) AllowCreateOnUpdate() bool { return false }

// AllowUnconditionalUpdate implements rest.RESTUpdateStrategy.
func (readOnlyStrategy) AllowUnconditionalUpdate() bool { return false }
