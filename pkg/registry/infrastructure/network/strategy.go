// SPDX-License-Identifier: Apache-2.0

// Package network serves MetalStackNetworks.
package network

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
const Resource = "metalstacknetworks"

type (
	object = infrastructure.MetalStackNetwork
	spec   = infrastructure.MetalStackNetworkSpec
	status = infrastructure.MetalStackNetworkStatus
)

// Kind returns what networks do differently from other kinds.
func Kind(checks *references.Validator) *registry.Kind[*object, spec, status] {
	return &registry.Kind[*object, spec, status]{
		Plural: Resource, Singular: "metalstacknetwork", ShortNames: []string{"msnet"},
		OutsideClusterAPI: true,
		New:               func() *object { return &object{} },
		NewList:           func() runtime.Object { return &infrastructure.MetalStackNetworkList{} },
		Spec:              func(o *object) *spec { return &o.Spec },
		Status:            func(o *object) *status { return &o.Status },
		HasMetal:          func(o *object) bool { return o.Status.Allocation.HasMetal() },
		Deletion:          func(o *object) **infrastructure.Deletion { return &o.Status.Deletion },
		Finalizer:         infrastructure.NetworkFinalizer,
		Prepare: func(ctx context.Context, o, old *object) {
			switch {
			case old != nil:
				o.Spec.NetworkID = cmp.Or(o.Spec.NetworkID, old.Spec.NetworkID)
			case registry.IsMoved(ctx):
				o.Status.Allocation = &infrastructure.NetworkAllocation{Moved: true}
			}
		},
		Validate: func(ctx context.Context, o *object) field.ErrorList {
			errs := validation.ValidateNetwork(o)
			if !registry.IsMoved(ctx) {
				errs = append(errs, validation.ValidateOneClaimedNetwork(o)...)
			}
			return errs
		},
		ValidateUpdate: func(_ context.Context, o, old *object) field.ErrorList {
			return validation.ValidateNetworkUpdate(o, old)
		},
		ValidateReferences: func(ctx context.Context, o, old *object) field.ErrorList {
			return validateReferences(ctx, checks, o, old)
		},
		MergeStatus: func(s *status, submitted status) {
			begun := s.Allocation != nil && s.Allocation.Phase != ""
			s.Conditions = registry.MergeConditions(s.Conditions, submitted.Conditions, begun)
		},
		ValidateStatusUpdate: validation.ValidateNetworkStatusUpdate,
		ReadOnlyStatusFields: []string{"ready", "managed", "networkID", "displayName", "description", "type", "partition", "prefixes", "destinationPrefixes", "nat", "vrf", "parentNetworkID", "availableIPs", "usedIPs", "users", "allocation", "deletion"},
		SelectableFields:     selectableFields,
		DeleteSelector:       registry.ManagedClaimSelector,
		Columns:              columns(),
	}
}

func validateReferences(ctx context.Context, checks *references.Validator, o, old *object) field.ErrorList {
	c, path, s, before := checks.Begin(ctx, o.Namespace), field.NewPath("spec"), &o.Spec, &old.Spec
	c.Partition(path.Child("partition"), s.Partition, before.Partition)
	c.PrivateNetwork(path.Child("networkID"), s.NetworkID, before.NetworkID)
	c.PrivateNetworkSpec(path.Child("addresses"), s.Addresses, before.Addresses, s.Partition, before.Partition)
	return c.Errors()
}
