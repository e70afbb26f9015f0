// SPDX-License-Identifier: Apache-2.0

// Package ip serves MetalStackIPs.
package ip

import (
	"cmp"
	"context"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
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
func Kind(_ *references.Validator) *registry.Kind[*object, spec, status] {
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
		Validate:       func(context.Context, *object) field.ErrorList { return nil },
		ValidateUpdate: func(context.Context, *object, *object) field.ErrorList { return nil },
		MergeStatus: func(s *status, submitted status) {
			begun := s.Allocation != nil && s.Allocation.Phase != ""
			s.Conditions = registry.MergeConditions(s.Conditions, submitted.Conditions, begun)
		},
		ValidateStatusUpdate: func(*object, *object) field.ErrorList { return nil },
		ReadOnlyStatusFields: []string{"ready", "managed", "address", "networkID", "displayName", "description", "type", "users", "allocation", "deletion"},
		SelectableFields:     selectableFields,
		DeleteSelector:       registry.ManagedClaimSelector,
		Columns:              columns(),
	}
}
