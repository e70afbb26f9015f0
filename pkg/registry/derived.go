// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	apistorage "k8s.io/apiserver/pkg/storage"
)

// DerivedKind is a kind without records: each of its objects follows from one of another
// kind, with which it shares namespace, uid, labels and revision. All fields are required.
type DerivedKind[From, To Object] struct {
	Resource   schema.GroupResource
	Singular   string
	ShortNames []string

	New     func() To
	NewList func() runtime.Object
	// Name is the name of the object that follows from another one; empty if none does. It
	// does not change while there is one.
	Name func(From) string
	// Unknown is whether it is not known yet what follows from an object.
	Unknown func(From) bool
	// Keeps is whether a user must not be told that what followed from an object is gone:
	// watches of that user are told that it has changed. Lists do not contain it.
	Keeps func(user.Info, From) bool
	// Derive returns the object that follows from one with a Name.
	Derive func(From) To
	// Columns follow NAME in a table.
	Columns []Column[To]
}

// DerivedREST serves a derived kind, read-only, from the storage of the other kind. Its lists
// and watches select there the objects from which one follows. So when one begins or ends
// to follow, watches see it come or go, and revisions, pages and bookmarks are those of the
// other kind.
type DerivedREST[From, To Object] struct {
	kind *DerivedKind[From, To]
	from *REST
	// store is that of the other kind, with selectors of this one.
	store *genericregistry.Store
	table[To]
}

var (
	_ rest.Storage              = &DerivedREST[Object, Object]{}
	_ rest.Scoper               = &DerivedREST[Object, Object]{}
	_ rest.Getter               = &DerivedREST[Object, Object]{}
	_ rest.Lister               = &DerivedREST[Object, Object]{}
	_ rest.Watcher              = &DerivedREST[Object, Object]{}
	_ rest.ShortNamesProvider   = &DerivedREST[Object, Object]{}
	_ rest.SingularNameProvider = &DerivedREST[Object, Object]{}
)

// What selectors see of an object of the other kind. No client can name these fields.
const (
	derivedName    = "name of the derived object"
	derivedUnknown = "derived object is unknown"
)

// NewDerivedREST returns what serves a kind whose objects follow from those of another.
func NewDerivedREST[From, To Object](kind *DerivedKind[From, To], from *REST) *DerivedREST[From, To] {
	store := *from.Store
	r := &DerivedREST[From, To]{kind: kind, from: from, store: &store, table: table[To]{kind.Columns}}
	store.DefaultQualifiedResource = kind.Resource
	store.PredicateFunc = r.predicate
	return r
}

// predicate translates selectors of this kind.
func (r *DerivedREST[From, To]) predicate(label labels.Selector, field fields.Selector) apistorage.SelectionPredicate {
	field, err := field.Transform(func(name, value string) (string, string, error) {
		if name == metav1.ObjectNameField {
			name = derivedName
		}
		return name, value, nil
	})
	if err != nil {
		field = fields.Nothing()
	}
	return apistorage.SelectionPredicate{
		Label: label, Field: fields.AndSelectors(fields.OneTermNotEqualSelector(derivedName, ""), field), GetAttrs: r.attributes,
	}
}

func (r *DerivedREST[From, To]) attributes(obj runtime.Object) (labels.Set, fields.Set, error) {
	from, ok := obj.(From)
	if !ok {
		return nil, nil, fmt.Errorf("unexpected object type %T", obj)
	}
	set := fields.Set{"metadata.namespace": from.GetNamespace(), derivedName: r.kind.Name(from)}
	if r.kind.Unknown(from) {
		set[derivedUnknown] = "true"
	}
	return from.GetLabels(), set, nil
}

// checkKnown returns an API status while the answer to a list would lack objects that may
// exist: clients would take them for deleted. It does not for a list of one name that
// is there, nor across namespaces, where one of them would suffice to have it refused.
func (r *DerivedREST[From, To]) checkKnown(ctx context.Context, options *metainternalversion.ListOptions) error {
	if request.NamespaceValue(ctx) == "" {
		return nil
	}
	if options != nil && options.FieldSelector != nil {
		if name, isExact := options.FieldSelector.RequiresExactMatch(metav1.ObjectNameField); isExact {
			if known, err := r.oldest(ctx, name, "0"); known != nil || err != nil {
				return err
			}
		}
	}
	unknown := apistorage.SelectionPredicate{
		Label: labels.Everything(), Field: fields.OneTermEqualSelector(derivedUnknown, "true"), GetAttrs: r.attributes,
	}
	list, err := r.store.ListPredicate(ctx, unknown, &metainternalversion.ListOptions{ResourceVersion: "0"})
	if err != nil || meta.LenList(list) == 0 {
		return err
	}
	unavailable := apierrors.NewServiceUnavailable(fmt.Sprintf("%d %s not observed yet: retry", meta.LenList(list), r.kind.Resource.Resource))
	unavailable.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: 1}
	return unavailable
}

// New implements rest.Storage.
func (r *DerivedREST[From, To]) New() runtime.Object { return r.kind.New() }

// Destroy does nothing: the storage is that of the other kind.
func (r *DerivedREST[From, To]) Destroy() {}

// NewList implements rest.Lister.
func (r *DerivedREST[From, To]) NewList() runtime.Object { return r.kind.NewList() }

// NamespaceScoped implements rest.Scoper.
func (r *DerivedREST[From, To]) NamespaceScoped() bool { return true }

// ShortNames implements rest.ShortNamesProvider.
func (r *DerivedREST[From, To]) ShortNames() []string { return r.kind.ShortNames }

// GetSingularName implements rest.SingularNameProvider.
func (r *DerivedREST[From, To]) GetSingularName() string { return r.kind.Singular }

// Get implements rest.Getter. If several objects have the name, it is the oldest.
func (r *DerivedREST[From, To]) Get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error) {
	// A consistent read observes the one object, once it is known which it is.
	known, err := r.oldest(ctx, name, "0")
	if err != nil {
		return nil, err
	}
	if known != nil {
		obj, err := r.store.Get(ctx, (*known).GetName(), options)
		if err == nil && r.kind.Name(obj.(From)) == name {
			return r.kind.Derive(obj.(From)), nil
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, err
		}
	}
	known, err = r.oldest(ctx, name, options.ResourceVersion)
	if err != nil {
		return nil, err
	}
	if known != nil {
		return r.kind.Derive(*known), nil
	}
	if err := r.checkKnown(ctx, nil); err != nil {
		return nil, err
	}
	return nil, apierrors.NewNotFound(r.kind.Resource, name)
}

// oldest returns the object from which the one of that name follows; nil if there is none.
func (r *DerivedREST[From, To]) oldest(ctx context.Context, name, resourceVersion string) (*From, error) {
	list, err := r.store.List(ctx, &metainternalversion.ListOptions{
		ResourceVersion: resourceVersion, FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, name),
	})
	if err != nil {
		return nil, err
	}
	var oldest *From
	err = meta.EachListItem(list, func(obj runtime.Object) error {
		from := obj.(From)
		if created := from.GetCreationTimestamp(); oldest == nil || created.Time.Before((*oldest).GetCreationTimestamp().Time) {
			oldest = &from
		}
		return nil
	})
	return oldest, err
}

// List shows what the user may see.
func (r *DerivedREST[From, To]) List(ctx context.Context, options *metainternalversion.ListOptions) (runtime.Object, error) {
	return r.from.shown(r.kind.Resource).list(ctx, options, func(ctx context.Context) (runtime.Object, error) {
		if err := r.checkKnown(ctx, options); err != nil {
			return nil, err
		}
		list, err := r.store.List(ctx, options)
		if err != nil {
			return nil, err
		}
		return r.deriveList(list)
	})
}

func (r *DerivedREST[From, To]) deriveList(from runtime.Object) (runtime.Object, error) {
	to := r.kind.NewList()
	have, err := meta.ListAccessor(from)
	if err != nil {
		return nil, err
	}
	want, err := meta.ListAccessor(to)
	if err != nil {
		return nil, err
	}
	want.SetResourceVersion(have.GetResourceVersion())
	want.SetContinue(have.GetContinue())
	want.SetRemainingItemCount(have.GetRemainingItemCount())
	items := make([]runtime.Object, 0, meta.LenList(from))
	err = meta.EachListItem(from, func(obj runtime.Object) error {
		items = append(items, r.kind.Derive(obj.(From)))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return to, meta.SetList(to, items)
}

// Watch shows what the user may see, until that changes.
func (r *DerivedREST[From, To]) Watch(ctx context.Context, options *metainternalversion.ListOptions) (watch.Interface, error) {
	return r.from.shown(r.kind.Resource).watch(ctx, options, func(ctx context.Context) (watch.Interface, error) {
		if resumeRevision(options) == 0 {
			if err := r.checkKnown(ctx, options); err != nil {
				return nil, err
			}
		}
		inner, err := r.store.Watch(ctx, options)
		if err != nil {
			return nil, err
		}
		u, _ := request.UserFrom(ctx)
		return newConvertedWatch(inner, func(event watch.Event) watch.Event { return r.deriveEvent(event, u) }), nil
	})
}

// deriveEvent returns the event of this kind for a user.
func (r *DerivedREST[From, To]) deriveEvent(event watch.Event, u user.Info) watch.Event {
	if event.Type == watch.Error {
		return event
	}
	obj := event.Object
	if cached, ok := obj.(runtime.CacheableObject); ok {
		obj = cached.GetObject()
	}
	from, ok := obj.(From)
	switch {
	case !ok:
		return errorEvent(fmt.Errorf("unexpected object type %T", obj))
	case event.Type == watch.Deleted && r.kind.Keeps(u, from):
		return watch.Event{Type: watch.Modified, Object: r.kind.Derive(from)}
	case event.Type != watch.Bookmark:
		return watch.Event{Type: event.Type, Object: r.kind.Derive(from)}
	}
	bookmark := r.kind.New()
	bookmark.SetResourceVersion(from.GetResourceVersion())
	bookmark.SetAnnotations(from.GetAnnotations())
	return watch.Event{Type: event.Type, Object: bookmark}
}

// Status returns what serves the status subresource: the same objects.
func (r *DerivedREST[From, To]) Status() rest.Storage { return derivedStatus[From, To]{r} }

// derivedStatus is a DerivedREST of which single objects can be got.
type derivedStatus[From, To Object] struct{ whole *DerivedREST[From, To] }

var (
	_ rest.Getter         = derivedStatus[Object, Object]{}
	_ rest.TableConvertor = derivedStatus[Object, Object]{}
)

// New implements rest.Storage.
func (s derivedStatus[From, To]) New() runtime.Object { return s.whole.New() }

// Destroy does nothing: the storage is that of the other kind.
func (s derivedStatus[From, To]) Destroy() {}

// Get implements rest.Getter.
func (s derivedStatus[From, To]) Get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error) {
	return s.whole.Get(ctx, name, options)
}

// ConvertToTable implements rest.TableConvertor.
func (s derivedStatus[From, To]) ConvertToTable(ctx context.Context, object, options runtime.Object) (*metav1.Table, error) {
	return s.whole.ConvertToTable(ctx, object, options)
}
