// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"slices"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage/names"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
)

// strategy creates, updates and deletes objects of one kind.
type strategy[T Object, Spec, Status any] struct {
	runtime.ObjectTyper
	names.NameGenerator
	kind *Kind[T, Spec, Status]
	// hasGarbageCollector is whether a garbage collector may send requests.
	hasGarbageCollector bool
}

func newStrategy[T Object, Spec, Status any](kind *Kind[T, Spec, Status]) strategy[T, Spec, Status] {
	return strategy[T, Spec, Status]{ObjectTyper: scheme.Scheme, NameGenerator: names.SimpleNameGenerator, kind: kind}
}

// NamespaceScoped implements rest.Scoper.
func (strategy[T, Spec, Status]) NamespaceScoped() bool { return true }

// PrepareForCreate drops what a client may not bring along: clusterctl moves
// objects by posting them whole, with the status and the revision that they
// had elsewhere.
func (s strategy[T, Spec, Status]) PrepareForCreate(ctx context.Context, o runtime.Object) {
	obj := o.(T)
	*s.kind.Status(obj) = *new(Status)
	obj.SetResourceVersion("")
	obj.SetGeneration(1)
	s.addFinalizer(obj)
	if s.kind.Prepare != nil {
		s.kind.Prepare(ctx, obj, *new(T))
	}
}

// addFinalizer puts our finalizer on what may come to hold metal.
func (s strategy[T, Spec, Status]) addFinalizer(obj T) {
	if s.kind.SkipFinalizer != nil && s.kind.SkipFinalizer(obj) {
		return
	}
	if f := s.kind.Finalizer; f != "" && !slices.Contains(obj.GetFinalizers(), f) {
		obj.SetFinalizers(append(obj.GetFinalizers(), f))
	}
}

// PrepareForUpdate keeps the status, and counts generations of the spec. An
// object that is not being deleted keeps our finalizer, too: a manifest by
// which it is replaced does not have it, and the metal would leak.
func (s strategy[T, Spec, Status]) PrepareForUpdate(ctx context.Context, o, oldObj runtime.Object) {
	obj, old := o.(T), oldObj.(T)
	*s.kind.Status(obj) = *s.kind.Status(old)
	if old.GetDeletionTimestamp() == nil {
		s.addFinalizer(obj)
	}
	if s.kind.Prepare != nil {
		s.kind.Prepare(ctx, obj, old)
	}
	if !apiequality.Semantic.DeepEqual(s.kind.Spec(obj), s.kind.Spec(old)) {
		obj.SetGeneration(old.GetGeneration() + 1)
	}
}

// Validate implements rest.RESTCreateStrategy.
func (s strategy[T, Spec, Status]) Validate(ctx context.Context, o runtime.Object) field.ErrorList {
	obj := o.(T)
	return s.validateReferences(ctx, s.kind.Validate(ctx, obj), obj, s.kind.New())
}

// ValidateUpdate implements rest.RESTUpdateStrategy.
func (s strategy[T, Spec, Status]) ValidateUpdate(ctx context.Context, o, old runtime.Object) field.ErrorList {
	obj, before := o.(T), old.(T)
	return s.validateReferences(ctx, s.kind.ValidateUpdate(ctx, obj, before), obj, before)
}

// validateReferences returns errs, or, if there are none, the errors of what the spec
// refers to.
func (s strategy[T, Spec, Status]) validateReferences(ctx context.Context, errs field.ErrorList, obj, old T) field.ErrorList {
	if len(errs) == 0 && s.kind.ValidateReferences != nil {
		errs = s.kind.ValidateReferences(ctx, obj, old)
	}
	return LimitErrors(errs)
}

// WarningsOnCreate implements rest.RESTCreateStrategy. What validation could not find
// out, it warns of itself.
func (s strategy[T, Spec, Status]) WarningsOnCreate(ctx context.Context, obj runtime.Object) []string {
	all := s.warnings(obj, s.kind.New())
	if s.kind.DryRunWarnings != nil && IsDryRun(ctx) {
		all = append(all, s.kind.DryRunWarnings(ctx, obj.(T))...)
	}
	return all
}

// WarningsOnUpdate implements rest.RESTUpdateStrategy.
func (s strategy[T, Spec, Status]) WarningsOnUpdate(_ context.Context, obj, old runtime.Object) []string {
	return s.warnings(obj, old)
}

func (s strategy[T, Spec, Status]) warnings(obj, old runtime.Object) []string {
	if s.kind.Warnings == nil {
		return nil
	}
	return s.kind.Warnings(obj.(T), old.(T))
}

// Canonicalize implements rest.RESTCreateStrategy.
func (strategy[T, Spec, Status]) Canonicalize(runtime.Object) {}

// AllowCreateOnUpdate implements rest.RESTUpdateStrategy. Server-side apply
// creates nevertheless.
func (strategy[T, Spec, Status]) AllowCreateOnUpdate() bool { return false }

// AllowUnconditionalUpdate implements rest.RESTUpdateStrategy.
func (strategy[T, Spec, Status]) AllowUnconditionalUpdate() bool { return false }

// DefaultGarbageCollectionPolicy implements rest.GarbageCollectionDeleteStrategy.
func (strategy[T, Spec, Status]) DefaultGarbageCollectionPolicy(context.Context) rest.GarbageCollectionPolicy {
	return rest.DeleteDependents
}

// GetResetFields implements rest.ResetFieldsStrategy: no field manager owns
// what it cannot set.
func (s strategy[T, Spec, Status]) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return resetFields(fieldpath.MakePathOrDie("status"))
}

// statusStrategy updates the status, and nothing else, with what controllers
// may write.
type statusStrategy[T Object, Spec, Status any] struct {
	strategy[T, Spec, Status]
}

// PrepareForUpdate takes from obj what MergeStatus lets it, and its managed
// fields; everything else stays as it was.
func (s statusStrategy[T, Spec, Status]) PrepareForUpdate(_ context.Context, o, oldObj runtime.Object) {
	obj, old := o.(T), oldObj.(T)
	managedFields := obj.GetManagedFields()
	objectMeta(old).DeepCopyInto(objectMeta(obj))
	obj.SetManagedFields(managedFields)

	submitted := *s.kind.Status(obj)
	*s.kind.Spec(obj) = *s.kind.Spec(old)
	*s.kind.Status(obj) = *s.kind.Status(old)
	s.kind.MergeStatus(s.kind.Status(obj), submitted)
}

// ValidateUpdate implements rest.RESTUpdateStrategy.
func (s statusStrategy[T, Spec, Status]) ValidateUpdate(_ context.Context, o, old runtime.Object) field.ErrorList {
	return LimitErrors(s.kind.ValidateStatusUpdate(o.(T), old.(T)))
}

// GetResetFields implements rest.ResetFieldsStrategy.
func (s statusStrategy[T, Spec, Status]) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	paths := append(computedConditionPaths(), fieldpath.MakePathOrDie("spec"))
	for _, name := range s.kind.ReadOnlyStatusFields {
		paths = append(paths, fieldpath.MakePathOrDie("status", name))
	}
	return resetFields(paths...)
}

func resetFields(paths ...fieldpath.Path) map[fieldpath.APIVersion]*fieldpath.Set {
	sets := map[fieldpath.APIVersion]*fieldpath.Set{}
	for _, gv := range servedVersions() {
		sets[fieldpath.APIVersion(gv.String())] = fieldpath.NewSet(paths...)
	}
	return sets
}
