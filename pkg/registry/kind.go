// SPDX-License-Identifier: Apache-2.0

// Package registry holds what the resources of the group have in common on top
// of the generic server's Store: strategies, the status subresource, tables and
// selectable fields. A kind says in a Kind what it does differently.
//
// Nothing here may change metal: that is what the allocation subresource is for.
package registry

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// Object is an object of the group, in its internal form.
type Object interface {
	runtime.Object
	metav1.Object
	metav1.ObjectMetaAccessor
}

// Kind is what one kind does differently from the others. Fields that are not
// marked as optional are required.
type Kind[T Object, Spec, Status any] struct {
	Plural, Singular string
	ShortNames       []string
	// OutsideClusterAPI is set for a kind that is not Cluster API's: its category does not list it.
	// Optional.
	OutsideClusterAPI bool

	New     func() T
	NewList func() runtime.Object
	// Spec and Status point into an object.
	Spec   func(T) *Spec
	Status func(T) *Status

	// Finalizer keeps an object until its metal was released. Optional.
	Finalizer string
	// HasMetal is whether the record says that metal may be allocated for an
	// object. Required with a Finalizer.
	HasMetal func(T) bool
	// Deletion points to the record of who asked for an object's deletion.
	// Required with a Finalizer.
	Deletion func(T) **infrastructure.Deletion
	// SkipFinalizer is whether an object has no metal of its own, nor will have: it gets
	// no Finalizer. Optional.
	SkipFinalizer func(T) bool
	// Prepare fills in what the user may leave out, and what may never be
	// emptied again; old is the zero value on create. Optional.
	Prepare func(ctx context.Context, obj, old T)
	// Validate validates a new object.
	Validate func(ctx context.Context, obj T) field.ErrorList
	// ValidateUpdate validates a changed object.
	ValidateUpdate func(ctx context.Context, obj, old T) field.ErrorList
	// ValidateReferences looks up what a spec names; old is an empty object on create. It is
	// called only if Validate or ValidateUpdate found nothing: what cannot be the
	// name of anything is not asked for. Optional.
	ValidateReferences func(ctx context.Context, obj, old T) field.ErrorList
	// Warnings warns of what is valid, and hardly meant; old is an empty object on create.
	// Optional.
	Warnings func(obj, old T) []string
	// DryRunWarnings warns, in the dry run of a create, of what the object would wait for.
	// Optional.
	DryRunWarnings func(ctx context.Context, obj T) []string
	// MergeStatus changes status, which starts as a copy of the old one, to what
	// a controller may make of it with submitted. Optional: without it, there is
	// no status subresource.
	MergeStatus func(status *Status, submitted Status)
	// ValidateStatusUpdate validates what MergeStatus returned. Required with it.
	ValidateStatusUpdate func(obj, old T) field.ErrorList
	// ReadOnlyStatusFields are the paths under status that MergeStatus ignores.
	ReadOnlyStatusFields []string

	// SelectableFields are the selectable fields besides name and namespace, the same
	// ones for every object. Optional.
	SelectableFields func(T) fields.Set
	// DeleteSelector narrows what a delete of a collection deletes. Optional.
	DeleteSelector fields.Selector
	// Columns follow NAME in a table.
	Columns []Column[T]
}
