// SPDX-License-Identifier: Apache-2.0

// Package machine serves MetalStackMachines.
package machine

import (
	"cmp"
	"context"
	"strconv"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/validation"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/references"
)

// Resource is the plural name.
const Resource = "metalstackmachines"

type (
	object = infrastructure.MetalStackMachine
	spec   = infrastructure.MetalStackMachineSpec
	status = infrastructure.MetalStackMachineStatus
)

// Kind returns what machines do differently from other kinds.
func Kind(checks *references.Validator) *registry.Kind[*object, spec, status] {
	return &registry.Kind[*object, spec, status]{
		Plural: Resource, Singular: "metalstackmachine", ShortNames: []string{"msm"},
		New:       func() *object { return &object{} },
		NewList:   func() runtime.Object { return &infrastructure.MetalStackMachineList{} },
		Spec:      func(m *object) *spec { return &m.Spec },
		Status:    func(m *object) *status { return &m.Status },
		HasMetal:  func(m *object) bool { return m.Status.Allocation.HasMetal() },
		Deletion:  func(m *object) **infrastructure.Deletion { return &m.Status.Deletion },
		Finalizer: infrastructure.MachineFinalizer,
		Prepare:   prepare,
		Validate: func(_ context.Context, m *object) field.ErrorList {
			return validation.ValidateMachine(m)
		},
		ValidateUpdate: func(_ context.Context, m, old *object) field.ErrorList {
			return validation.ValidateMachineUpdate(m, old)
		},
		ValidateReferences: func(ctx context.Context, m, old *object) field.ErrorList {
			return validateReferences(ctx, checks, m, old)
		},
		Warnings:       validation.MachineWarnings,
		DryRunWarnings: checks.CheckMachine,
		MergeStatus: func(s *status, submitted status) {
			s.Initialization = registry.MergeInitialization(s.Initialization, submitted.Initialization)
			begun := s.Allocation != nil && s.Allocation.Phase != ""
			s.Conditions = registry.MergeConditions(s.Conditions, submitted.Conditions, begun)
		},
		ValidateStatusUpdate: validation.ValidateMachineStatusUpdate,
		ReadOnlyStatusFields: []string{"ready", "addresses", "failureDomain", "metal", "allocation", "lastOperation", "deletion"},
		SelectableFields:     selectableFields,
		DeleteSelector:       registry.ManagedSelector,
		Columns:              columns(),
	}
}

// prepare keeps the provider ID, which the server fills in: a manifest that is
// applied again does not know it.
func prepare(_ context.Context, m, old *object) {
	if old != nil {
		m.Spec.ProviderID = cmp.Or(m.Spec.ProviderID, old.Spec.ProviderID)
	}
}

func validateReferences(ctx context.Context, checks *references.Validator, m, old *object) field.ErrorList {
	path := field.NewPath("spec")
	c := checks.Begin(ctx, m.Namespace)
	c.Size(path.Child("machineType"), m.Spec.MachineType, old.Spec.MachineType)
	c.Image(path.Child("image"), m.Spec.Image, old.Spec.Image, references.Machine)
	c.Partition(path.Child("partition"), m.Spec.Partition, old.Spec.Partition)
	c.Networks(path.Child("networks"), m.Spec.Networks, old.Spec.Networks)
	c.ProviderID(path.Child("providerID"), m.Spec.ProviderID, old.Spec.ProviderID, references.Referrer{Resource: Resource, Name: m.Name})
	c.Adoption(path.Child("providerID"), m.Spec.ProviderID, old.Spec.ProviderID, m.Spec.MachineType, m.Spec.Image)
	return c.Errors()
}

func selectableFields(m *object) fields.Set {
	set := registry.MachineLikeFields(m.Spec.ProviderID, m.Status.Metal)
	set["status.ready"] = strconv.FormatBool(m.Status.Ready)
	return set
}
