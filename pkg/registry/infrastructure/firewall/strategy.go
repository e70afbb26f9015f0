// SPDX-License-Identifier: Apache-2.0

// Package firewall serves MetalStackFirewalls.
package firewall

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
const Resource = "metalstackfirewalls"

type (
	object = infrastructure.MetalStackFirewall
	spec   = infrastructure.MetalStackFirewallSpec
	status = infrastructure.MetalStackFirewallStatus
)

// Kind returns what firewalls do differently from other kinds.
func Kind(checks *references.Validator) *registry.Kind[*object, spec, status] {
	return &registry.Kind[*object, spec, status]{
		Plural: Resource, Singular: "metalstackfirewall", ShortNames: []string{"msf"},
		New:       func() *object { return &object{} },
		NewList:   func() runtime.Object { return &infrastructure.MetalStackFirewallList{} },
		Spec:      func(f *object) *spec { return &f.Spec },
		Status:    func(f *object) *status { return &f.Status },
		HasMetal:  func(f *object) bool { return f.Status.Allocation.HasMetal() },
		Deletion:  func(f *object) **infrastructure.Deletion { return &f.Status.Deletion },
		Finalizer: infrastructure.FirewallFinalizer,
		Prepare:   prepare,
		Validate: func(_ context.Context, f *object) field.ErrorList {
			return validation.ValidateFirewall(f)
		},
		ValidateUpdate: func(_ context.Context, f, old *object) field.ErrorList {
			return validation.ValidateFirewallUpdate(f, old)
		},
		ValidateReferences: func(ctx context.Context, f, old *object) field.ErrorList {
			return validateReferences(ctx, checks, f, old)
		},
		Warnings:       validation.FirewallWarnings,
		DryRunWarnings: checks.CheckFirewall,
		MergeStatus: func(s *status, submitted status) {
			s.Initialization = registry.MergeInitialization(s.Initialization, submitted.Initialization)
			begun := s.Allocation != nil && s.Allocation.Phase != ""
			s.Conditions = registry.MergeConditions(s.Conditions, submitted.Conditions, begun)
			s.Distance, s.Controller = submitted.Distance, submitted.Controller
			s.ManagementAccess, s.WorkloadAccess = submitted.ManagementAccess, submitted.WorkloadAccess
		},
		ValidateStatusUpdate: validation.ValidateFirewallStatusUpdate,
		ReadOnlyStatusFields: []string{"ready", "addresses", "failureDomain", "metal", "allocation", "lastOperation", "deletion"},
		SelectableFields:     selectableFields,
		DeleteSelector:       registry.ManagedSelector,
		Columns:              columns(),
	}
}

// prepare keeps the provider ID, which the server fills in: a manifest that is
// applied again does not know it.
func prepare(_ context.Context, f, old *object) {
	if old != nil {
		f.Spec.ProviderID = cmp.Or(f.Spec.ProviderID, old.Spec.ProviderID)
	}
}

func validateReferences(ctx context.Context, checks *references.Validator, f, old *object) field.ErrorList {
	path := field.NewPath("spec")
	c := checks.Begin(ctx, f.Namespace)
	c.Size(path.Child("machineType"), f.Spec.MachineType, old.Spec.MachineType)
	c.Image(path.Child("image"), f.Spec.Image, old.Spec.Image, references.Firewall)
	c.Partition(path.Child("partition"), f.Spec.Partition, old.Spec.Partition)
	c.Networks(path.Child("networks"), f.Spec.Networks, old.Spec.Networks)
	c.FirewallController(path.Child("controller"), f.Spec.Controller, old.Spec.Controller, f.Spec.ProviderID != "")
	c.ProviderID(path.Child("providerID"), f.Spec.ProviderID, old.Spec.ProviderID, references.Referrer{Resource: Resource, Name: f.Name})
	c.Adoption(path.Child("providerID"), f.Spec.ProviderID, old.Spec.ProviderID, f.Spec.MachineType, f.Spec.Image)
	return c.Errors()
}

func selectableFields(f *object) fields.Set {
	set := registry.MachineLikeFields(f.Spec.ProviderID, f.Status.Metal)
	set["status.ready"] = strconv.FormatBool(f.Status.Ready)
	return set
}
