// SPDX-License-Identifier: Apache-2.0

// Package clustertemplate serves MetalStackClusterTemplates.
package clustertemplate

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/validation"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/cluster"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/references"
)

// Resource is the plural name.
const Resource = "metalstackclustertemplates"

type (
	object = infrastructure.MetalStackClusterTemplate
	spec   = infrastructure.MetalStackClusterTemplateSpec
	// status is that of a kind without one.
	status = struct{}
)

// Kind returns what cluster templates do differently from other kinds.
func Kind(checks *references.Validator) *registry.Kind[*object, spec, status] {
	return &registry.Kind[*object, spec, status]{
		Plural: Resource, Singular: "metalstackclustertemplate", ShortNames: []string{"msct"},
		New:     func() *object { return &object{} },
		NewList: func() runtime.Object { return &infrastructure.MetalStackClusterTemplateList{} },
		Spec:    func(t *object) *spec { return &t.Spec },
		Status:  func(*object) *status { return &status{} },
		Validate: func(_ context.Context, t *object) field.ErrorList {
			return validation.ValidateClusterTemplate(t)
		},
		ValidateUpdate: func(ctx context.Context, t, old *object) field.ErrorList {
			return validation.ValidateClusterTemplateUpdate(t, old, registry.IsDryRun(ctx))
		},
		ValidateReferences: func(ctx context.Context, t, old *object) field.ErrorList {
			return validateReferences(ctx, checks, t, old)
		},
		Columns: []registry.Column[*object]{
			{Name: "Partition", Description: "Partition of the clusters.", Cell: func(t *object) any {
				return registry.OrNone(t.Spec.Template.Spec.Partition)
			}},
			{Name: "Public Network", Description: "Public network of the clusters.", Cell: func(t *object) any {
				return registry.OrNone(t.Spec.Template.Spec.PublicNetworkID)
			}},
			registry.Age[*object](),
		},
	}
}

func validateReferences(ctx context.Context, checks *references.Validator, t, old *object) field.ErrorList {
	c := checks.Begin(ctx, t.Namespace)
	cluster.ValidateSpecReferences(c, field.NewPath("spec", "template", "spec"), &t.Spec.Template.Spec, &old.Spec.Template.Spec)
	return c.Errors()
}
