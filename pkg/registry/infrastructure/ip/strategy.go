// SPDX-License-Identifier: Apache-2.0

// Package ip serves MetalStackIPs.
package ip

import (
	"cmp"
	"context"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/validation"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/references"
)

// Resource is the plural name.
const Resource = "metalstackips"

type (
	object = infrastructure.MetalStackIP
	spec   = infrastructure.MetalStackIPSpec
	status = infrastructure.MetalStackIPStatus
)

// Kind returns what addresses do differently from other kinds.
func Kind(checks *references.Validator) *registry.Kind[*object, spec, status] {
	return &registry.Kind[*object, spec, status]{
		Plural: Resource, Singular: "metalstackip", ShortNames: []string{"msip"},
		OutsideClusterAPI: true,
		New:               func() *object { return &object{} },
		NewList:           func() runtime.Object { return &infrastructure.MetalStackIPList{} },
		Spec:              func(o *object) *spec { return &o.Spec },
		Status:            func(o *object) *status { return &o.Status },
		HasMetal:          func(o *object) bool { return o.Status.Allocation.HasMetal() },
		Deletion:          func(o *object) **infrastructure.Deletion { return &o.Status.Deletion },
		Finalizer:         infrastructure.IPFinalizer,
		Prepare: func(_ context.Context, o, old *object) {
			if old != nil {
				o.Spec.Address = cmp.Or(o.Spec.Address, old.Spec.Address)
			}
		},
		Validate: func(_ context.Context, o *object) field.ErrorList { return validation.ValidateIP(o) },
		ValidateUpdate: func(_ context.Context, o, old *object) field.ErrorList {
			return validation.ValidateIPUpdate(o, old)
		},
		ValidateReferences: func(ctx context.Context, o, old *object) field.ErrorList {
			return validateReferences(ctx, checks, o, old)
		},
		MergeStatus: func(s *status, submitted status) {
			begun := s.Allocation != nil && s.Allocation.Phase != ""
			s.Conditions = registry.MergeConditions(s.Conditions, submitted.Conditions, begun)
		},
		ValidateStatusUpdate: validation.ValidateIPStatusUpdate,
		ReadOnlyStatusFields: []string{"ready", "managed", "address", "networkID", "displayName", "description", "type", "users", "allocation", "deletion"},
		SelectableFields:     selectableFields,
		DeleteSelector:       registry.ManagedClaimSelector,
		Columns:              columns(),
	}
}

func validateReferences(ctx context.Context, checks *references.Validator, o, old *object) field.ErrorList {
	c, path, s, before := checks.Begin(ctx, o.Namespace), field.NewPath("spec"), &o.Spec, &old.Spec
	c.Network(path.Child("networkID"), s.NetworkID, before.NetworkID)
	if len(c.Errors()) == 0 {
		c.Address(path.Child("address"), s.Address, before.Address, s.NetworkID)
	}
	return c.Errors()
}
