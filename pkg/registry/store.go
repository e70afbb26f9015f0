// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/generic"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/dryrun"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
	"metal-stack.io/infrastructure-apiserver/pkg/visibility"
)

// Namespaces look up projects of namespaces, and keep a binding while an object is created.
type Namespaces interface {
	Project(namespace string) (project string, bound bool)
	// BeginCreate returns an API status if nothing can be created in a namespace: there
	// can be no metal for it. Otherwise the binding stays until done is called.
	BeginCreate(ctx context.Context, resource schema.GroupResource, namespace, name string) (done func(), err error)
}

// Visibility decides which namespaces' objects a list or a watch shows, and who
// may remove the finalizer of an object that holds metal.
type Visibility interface {
	List(ctx context.Context, request visibility.Request) (*visibility.Set, error)
	Watch(ctx context.Context, request visibility.Request) (*visibility.Set, error)
	// AuthorizeFinalizerRemoval returns an API status unless the user may do so.
	AuthorizeFinalizerRemoval(ctx context.Context, u user.Info, resource schema.GroupResource, namespace, name, finalizer string) error
}

// REST serves the objects of one kind.
type REST struct {
	// Store itself knows no users: List and Watch of it show everything.
	*genericregistry.Store
	visibility Visibility
	shortNames []string
	// outsideClusterAPI leaves the resource out of Cluster API's category.
	outsideClusterAPI bool
	finalizer         string
	hasMetal          func(runtime.Object) bool
	owners            OwnerLookup
	deleteSelector    fields.Selector
	rows              rowConvertor
}

var (
	_ rest.StandardStorage    = &REST{}
	_ rest.ShortNamesProvider = &REST{}
	_ rest.CategoriesProvider = &REST{}
)

// NewREST returns what serves a kind, and what serves its status, which is nil
// for a kind whose status clients cannot write. owners is nil where no garbage
// collector is.
func NewREST[T Object, Spec, Status any](kind *Kind[T, Spec, Status], binding Namespaces, visible Visibility, owners OwnerLookup, getter generic.RESTOptionsGetter) (*REST, *StatusREST, error) {
	s := newStrategy(kind)
	s.hasGarbageCollector = owners != nil
	registerMetrics()
	resource := infrastructure.Resource(kind.Plural)
	rows := table[T]{kind.Columns}
	store := &genericregistry.Store{
		NewFunc:                   func() runtime.Object { return kind.New() },
		NewListFunc:               kind.NewList,
		DefaultQualifiedResource:  resource,
		SingularQualifiedResource: infrastructure.Resource(kind.Singular),
		// BeginCreate runs before validation, whose errors would be about the missing project.
		BeginCreate: func(ctx context.Context, obj runtime.Object, _ *metav1.CreateOptions) (genericregistry.FinishFunc, error) {
			done, err := binding.BeginCreate(ctx, resource, request.NamespaceValue(ctx), obj.(T).GetName())
			return func(context.Context, bool) { done() }, err
		},
		CreateStrategy:      s,
		UpdateStrategy:      s,
		DeleteStrategy:      s,
		ResetFieldsStrategy: s,
		TableConvertor:      rows,
	}
	if err := store.CompleteWithOptions(&generic.StoreOptions{RESTOptions: getter, AttrFunc: attrFunc(kind.SelectableFields)}); err != nil {
		return nil, nil, err
	}
	main := &REST{Store: store, visibility: visible, shortNames: kind.ShortNames, outsideClusterAPI: kind.OutsideClusterAPI, finalizer: kind.Finalizer, owners: owners, deleteSelector: kind.DeleteSelector, rows: rows}
	if kind.Finalizer != "" {
		main.hasMetal = func(obj runtime.Object) bool { return kind.HasMetal(obj.(T)) }
	}
	if kind.MergeStatus == nil {
		return main, nil, nil
	}
	statusStore := *store
	statusStore.UpdateStrategy = statusStrategy[T, Spec, Status]{s}
	statusStore.ResetFieldsStrategy = statusStrategy[T, Spec, Status]{s}
	return main, &StatusREST{&statusStore}, nil
}

// ShortNames implements rest.ShortNamesProvider.
func (r *REST) ShortNames() []string { return r.shortNames }

// category is that of all kinds of the group.
const category = "metal-stack"

// Categories implements rest.CategoriesProvider.
func (r *REST) Categories() []string {
	if r.outsideClusterAPI {
		return []string{category}
	}
	return []string{"cluster-api", category}
}

// Create lets validation know whether the object lived elsewhere before, and whether it is a
// dry run.
func (r *REST) Create(ctx context.Context, obj runtime.Object, createValidation rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	if m, ok := obj.(metav1.Object); ok && r.finalizer != "" && slices.Contains(m.GetFinalizers(), r.finalizer) {
		ctx = context.WithValue(ctx, movedKey{}, true)
	}
	if dryrun.IsDryRun(options.DryRun) {
		// A record takes the name of what is discovered.
		ctx = storage.WithDryRunCreate(storage.WithRecordsOnly(context.WithValue(ctx, dryRunKey{}, true)))
		createValidation = r.withWritableCheck(createValidation)
	}
	ctx, override := withResponseOverride(ctx)
	created, err := r.Store.Create(ctx, obj, createValidation, options)
	return created, override.orElse(err)
}

// Update lets validation know whether it is a dry run, and keeps our finalizer
// on what holds metal.
func (r *REST) Update(ctx context.Context, name string, objInfo rest.UpdatedObjectInfo, createValidation rest.ValidateObjectFunc, updateValidation rest.ValidateObjectUpdateFunc, forceAllowCreate bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	if dryrun.IsDryRun(options.DryRun) {
		ctx = storage.WithDryRun(context.WithValue(ctx, dryRunKey{}, true), 0)
	}
	ctx, override := withResponseOverride(ctx)
	updated, created, err := r.Store.Update(ctx, name, objInfo, createValidation, r.guardFinalizer(updateValidation), forceAllowCreate, options)
	return updated, created, override.orElse(limitPatchError(err))
}

// withWritableCheck makes the validation of a dry run end as the write would that comes after
// the validation of a real request.
func (r *REST) withWritableCheck(validate rest.ValidateObjectFunc) rest.ValidateObjectFunc {
	return func(ctx context.Context, obj runtime.Object) error {
		if validate != nil {
			if err := validate(ctx, obj); err != nil {
				return err
			}
		}
		if s, ok := r.Storage.Storage.(interface{ CheckWritable() error }); ok {
			return s.CheckWritable()
		}
		return nil
	}
}

type movedKey struct{}

// IsMoved returns whether an object that is created existed before in
// another management cluster or in a backup: it brings the finalizer along that
// only this server puts on. Its metal may have changed since.
func IsMoved(ctx context.Context) bool { return ctx.Value(movedKey{}) != nil }

type dryRunKey struct{}

// IsDryRun returns whether a create or an update is one.
func IsDryRun(ctx context.Context) bool { return ctx.Value(dryRunKey{}) != nil }

// StatusREST serves the status subresource of one kind.
type StatusREST struct {
	store *genericregistry.Store
}

var (
	_ rest.Patcher             = &StatusREST{}
	_ rest.ResetFieldsStrategy = &StatusREST{}
	_ rest.TableConvertor      = &StatusREST{}
)

// New implements rest.Storage.
func (r *StatusREST) New() runtime.Object { return r.store.New() }

// Destroy does nothing: the storage is that of the main resource.
func (r *StatusREST) Destroy() {}

// Get implements rest.Getter.
func (r *StatusREST) Get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error) {
	return r.store.Get(ctx, name, options)
}

// Update implements rest.Updater. A status is never where an object begins.
func (r *StatusREST) Update(ctx context.Context, name string, objInfo rest.UpdatedObjectInfo, createValidation rest.ValidateObjectFunc, updateValidation rest.ValidateObjectUpdateFunc, _ bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	if dryrun.IsDryRun(options.DryRun) {
		ctx = storage.WithDryRun(ctx, 0)
	}
	updated, created, err := r.store.Update(ctx, name, objInfo, createValidation, updateValidation, false, options)
	return updated, created, limitPatchError(err)
}

// GetResetFields implements rest.ResetFieldsStrategy.
func (r *StatusREST) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return r.store.GetResetFields()
}

// ConvertToTable implements rest.TableConvertor.
func (r *StatusREST) ConvertToTable(ctx context.Context, object, options runtime.Object) (*metav1.Table, error) {
	return r.store.ConvertToTable(ctx, object, options)
}
