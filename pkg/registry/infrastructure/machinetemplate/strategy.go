// SPDX-License-Identifier: Apache-2.0

// Package machinetemplate serves MetalStackMachineTemplates.
package machinetemplate

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/validation"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/references"
)

// Resource is the plural name.
const Resource = "metalstackmachinetemplates"

type (
	object = infrastructure.MetalStackMachineTemplate
	spec   = infrastructure.MetalStackMachineTemplateSpec
	status = infrastructure.MetalStackMachineTemplateStatus
)

// Kind returns what machine templates do differently from other kinds.
func Kind(checks *references.Validator) *registry.Kind[*object, spec, status] {
	return &registry.Kind[*object, spec, status]{
		Plural: Resource, Singular: "metalstackmachinetemplate", ShortNames: []string{"msmt"},
		New:     func() *object { return &object{} },
		NewList: func() runtime.Object { return &infrastructure.MetalStackMachineTemplateList{} },
		Spec:    func(t *object) *spec { return &t.Spec },
		Status:  func(t *object) *status { return &t.Status },
		Validate: func(_ context.Context, t *object) field.ErrorList {
			return validation.ValidateMachineTemplate(t)
		},
		ValidateUpdate: func(ctx context.Context, t, old *object) field.ErrorList {
			return validation.ValidateMachineTemplateUpdate(t, old, registry.IsDryRun(ctx))
		},
		ValidateReferences: func(ctx context.Context, t, old *object) field.ErrorList {
			return validateReferences(ctx, checks, t, old)
		},
		// All of it follows from the size.
		MergeStatus:          func(*status, status) {},
		ReadOnlyStatusFields: []string{"capacity", "nodeInfo"},
		ValidateStatusUpdate: validation.ValidateMachineTemplateStatusUpdate,
		Columns:              columns(),
	}
}

func validateReferences(ctx context.Context, checks *references.Validator, t, old *object) field.ErrorList {
	path := field.NewPath("spec", "template", "spec")
	s, was := &t.Spec.Template.Spec, &old.Spec.Template.Spec
	c := checks.Begin(ctx, t.Namespace)
	c.Size(path.Child("machineType"), s.MachineType, was.MachineType)
	c.Image(path.Child("image"), s.Image, was.Image, references.Machine)
	c.Partition(path.Child("partition"), s.Partition, was.Partition)
	c.Networks(path.Child("networks"), s.Networks, was.Networks)
	return c.Errors()
}

func columns() []registry.Column[*object] {
	return []registry.Column[*object]{
		{Name: "Size", Description: "metal-stack size of the machines.", Cell: func(t *object) any {
			return registry.OrNone(t.Spec.Template.Spec.MachineType)
		}},
		{Name: "Image", Description: "Image of the machines.", Cell: func(t *object) any {
			return registry.OrNone(t.Spec.Template.Spec.Image)
		}},
		{Name: "Partition", Description: "Partition of the machines; empty: that of their cluster.", Cell: func(t *object) any {
			return registry.OrNone(t.Spec.Template.Spec.Partition)
		}},
		registry.Age[*object](),
	}
}
