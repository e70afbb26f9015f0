// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/dryrun"

	"metal-stack.io/infrastructure-apiserver/pkg/storage"
	"metal-stack.io/infrastructure-apiserver/pkg/visibility"
)

// reader answers reads of a store, with what users may see.
type reader struct {
	store *genericregistry.Store
	// visibility is nil if all is shown.
	visibility Visibility
	rows       rowConvertor
}

func (r reader) get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error) {
	if form, _ := ctx.Value(encodedFormKey{}).(encodedForm); form != objectForm {
		return r.store.Get(ctx, name, options)
	}
	ctx, found := storage.WithListing(ctx)
	obj, err := r.store.Get(ctx, name, options)
	if err != nil || found.Len() == 0 {
		return obj, err
	}
	return found.Cacheable(0), nil
}

func (r reader) list(ctx context.Context, options *metainternalversion.ListOptions) (runtime.Object, error) {
	return r.shown().list(withRecordsOnlyForControllers(ctx), options, func(ctx context.Context) (runtime.Object, error) {
		form, _ := ctx.Value(encodedFormKey{}).(encodedForm)
		if form == 0 {
			return r.store.List(ctx, options)
		}
		ctx, items := storage.WithListing(ctx)
		list, err := r.store.List(ctx, options)
		if err != nil {
			return nil, err
		}
		return newEncodedList(ctx, form, list, items, r.rows)
	})
}

func (r reader) watch(ctx context.Context, options *metainternalversion.ListOptions) (watch.Interface, error) {
	return r.shown().watch(withRecordsOnlyForControllers(ctx), options, func(ctx context.Context) (watch.Interface, error) {
		return r.store.Watch(ctx, options)
	})
}

func (r reader) shown() shown { return shown{r.visibility, r.store.DefaultQualifiedResource} }

func (r *REST) reader() reader { return reader{r.Store, r.visibility, r.rows} }

// Get implements rest.Getter.
func (r *REST) Get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error) {
	return r.reader().get(ctx, name, options)
}

// List shows what the user may see.
func (r *REST) List(ctx context.Context, options *metainternalversion.ListOptions) (runtime.Object, error) {
	return r.reader().list(ctx, options)
}

// DeleteCollection deletes of what the user may see what the kind's selector
// leaves. It refuses the namespace controller as Delete does.
func (r *REST) DeleteCollection(ctx context.Context, deleteValidation rest.ValidateObjectFunc, options *metav1.DeleteOptions, listOptions *metainternalversion.ListOptions) (runtime.Object, error) {
	if err := r.checkNamespaceController(ctx, ""); err != nil {
		return nil, err
	}
	if r.deleteSelector != nil {
		if listOptions == nil {
			listOptions = &metainternalversion.ListOptions{}
		}
		listOptions = listOptions.DeepCopy()
		if listOptions.FieldSelector == nil {
			listOptions.FieldSelector = r.deleteSelector
		} else {
			listOptions.FieldSelector = fields.AndSelectors(listOptions.FieldSelector, r.deleteSelector)
		}
	}
	if options != nil && dryrun.IsDryRun(options.DryRun) {
		deleteValidation = r.withWritableCheck(deleteValidation)
	}
	return r.shown(r.DefaultQualifiedResource).list(withRecordsOnlyForControllers(ctx), listOptions, func(ctx context.Context) (runtime.Object, error) {
		return r.Store.DeleteCollection(storage.WithDeletion(ctx), deleteValidation, options, listOptions)
	})
}

// Watch shows what the user may see, until that changes.
func (r *REST) Watch(ctx context.Context, options *metainternalversion.ListOptions) (watch.Interface, error) {
	return r.reader().watch(ctx, options)
}

// shown is a resource of which users are shown what they may see.
type shown struct {
	// visibility is nil if that is all of it.
	visibility Visibility
	resource   schema.GroupResource
}

func (r *REST) shown(resource schema.GroupResource) shown { return shown{r.visibility, resource} }

// list runs something that lists. What was listed while the authorizer was unavailable
// is not shown.
func (s shown) list(ctx context.Context, options *metainternalversion.ListOptions, do func(context.Context) (runtime.Object, error)) (runtime.Object, error) {
	if s.visibility == nil {
		return do(ctx)
	}
	req, err := s.request(ctx, options)
	if err != nil {
		return nil, err
	}
	set, err := s.visibility.List(ctx, req)
	if err != nil {
		return nil, err
	}
	defer set.Close()
	list, err := do(storage.WithVisibility(ctx, set))
	if lost := set.Err(); lost != nil {
		return nil, lost
	}
	return list, err
}

// watch starts something that watches, and ends it when what the user may see changes.
func (s shown) watch(ctx context.Context, options *metainternalversion.ListOptions, start func(context.Context) (watch.Interface, error)) (watch.Interface, error) {
	if s.visibility == nil {
		return start(ctx)
	}
	req, err := s.request(ctx, options)
	if err != nil {
		return nil, err
	}
	set, err := s.visibility.Watch(ctx, req)
	if err != nil {
		return nil, err
	}
	if revision := resumeRevision(options); revision != 0 {
		if err := set.CheckResume(revision); err != nil {
			set.Close()
			return errorWatch(err), nil
		}
	}
	inner, err := start(storage.WithVisibility(ctx, set))
	if err != nil {
		set.Close()
		return nil, err
	}
	return &visibilityWatch{inner, set}, nil
}

// request describes a list or watch.
func (s shown) request(ctx context.Context, options *metainternalversion.ListOptions) (visibility.Request, error) {
	u, known := request.UserFrom(ctx)
	if !known {
		return visibility.Request{}, apierrors.NewInternalError(errors.New("request has no user"))
	}
	asked := visibility.Request{User: u, Resource: s.resource, Namespace: request.NamespaceValue(ctx)}
	if options == nil || options.FieldSelector == nil {
		return asked, nil
	}
	if asked.Namespace == "" {
		// Names a namespace, too.
		asked.Namespace, _ = options.FieldSelector.RequiresExactMatch("metadata.namespace")
	}
	if asked.Namespace != "" {
		asked.Name, _ = options.FieldSelector.RequiresExactMatch("metadata.name")
	}
	return asked, nil
}

// resumeRevision is the revision from which a watch goes on, or 0 if it begins with
// what is there now. What is no revision is for the storage to say.
func resumeRevision(options *metainternalversion.ListOptions) uint64 {
	if options.SendInitialEvents != nil && *options.SendInitialEvents {
		return 0
	}
	revision, _ := strconv.ParseUint(options.ResourceVersion, 10, 64)
	return revision
}

// visibilityWatch is a watch that ends when what the user may see changes, with an
// error that makes clients list again: it is not enough to watch again from
// where they are, since objects came and went without an event. The storage ends it.
type visibilityWatch struct {
	watch.Interface
	set *visibility.Set
}

// Stop implements watch.Interface.
func (w *visibilityWatch) Stop() {
	w.Interface.Stop()
	w.set.Close()
}

// errorWatch is a watch that says why it ends, which clients expect rather than an
// answer that says it.
func errorWatch(cause error) watch.Interface {
	results := make(chan watch.Event, 1)
	results <- errorEvent(cause)
	close(results)
	return watch.NewProxyWatcher(results)
}

func errorEvent(cause error) watch.Event {
	var known apierrors.APIStatus
	if !errors.As(cause, &known) {
		known = apierrors.NewInternalError(cause)
	}
	status := known.Status()
	return watch.Event{Type: watch.Error, Object: &status}
}
