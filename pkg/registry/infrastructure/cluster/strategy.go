// SPDX-License-Identifier: Apache-2.0

// Package cluster serves MetalStackClusters.
package cluster

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
const Resource = "metalstackclusters"

type (
	object = infrastructure.MetalStackCluster
	spec   = infrastructure.MetalStackClusterSpec
	status = infrastructure.MetalStackClusterStatus
)

// Kind returns what clusters do differently from other kinds.
func Kind(checks *references.Validator) *registry.Kind[*object, spec, status] {
	return &registry.Kind[*object, spec, status]{
		Plural: Resource, Singular: "metalstackcluster", ShortNames: []string{"msc"},
		New:       func() *object { return &object{} },
		NewList:   func() runtime.Object { return &infrastructure.MetalStackClusterList{} },
		Spec:      func(c *object) *spec { return &c.Spec },
		Status:    func(c *object) *status { return &c.Status },
		HasMetal:  func(c *object) bool { return c.Status.Allocation.HasMetal() },
		Deletion:  func(c *object) **infrastructure.Deletion { return &c.Status.Deletion },
		Finalizer: infrastructure.ClusterFinalizer,
		SkipFinalizer: func(c *object) bool {
			return infrastructure.ExternallyManaged(c) && !c.Status.Allocation.HasMetal() && (c.Status.Allocation == nil || c.Status.Allocation.Phase == "")
		},
		Prepare: func(_ context.Context, c, old *object) {
			prepare(checks.Projects, c, old)
		},
		Validate: func(ctx context.Context, c *object) field.ErrorList {
			errs := validation.ValidateCluster(c)
			if !registry.IsMoved(ctx) {
				errs = append(errs, validation.ValidateOneNetwork(c)...)
			}
			return errs
		},
		ValidateUpdate: func(_ context.Context, c, old *object) field.ErrorList {
			return validation.ValidateClusterUpdate(c, old)
		},
		ValidateReferences: func(ctx context.Context, c, old *object) field.ErrorList {
			return validateReferences(ctx, checks, c, old)
		},
		Warnings: validation.ClusterWarnings,
		MergeStatus: func(s *status, submitted status) {
			s.Initialization = registry.MergeInitialization(s.Initialization, submitted.Initialization)
			begun := s.Allocation != nil && s.Allocation.Phase != ""
			s.Conditions = registry.MergeConditions(s.Conditions, submitted.Conditions, begun)
		},
		ValidateStatusUpdate: validation.ValidateClusterStatusUpdate,
		ReadOnlyStatusFields: []string{"ready", "clusterID", "failureDomains", "network", "controlPlaneIP", "allocation", "deletion"},
		SelectableFields:     selectableFields,
		Columns:              columns(),
	}
}

// prepare fills in the project, and keeps what the server filled in: a
// manifest that is applied again says nothing about it.
func prepare(bindings references.ProjectLookup, c, old *object) {
	if old != nil {
		c.Spec.ProjectID = cmp.Or(c.Spec.ProjectID, old.Spec.ProjectID)
		c.Spec.PrivateNetworkID = cmp.Or(c.Spec.PrivateNetworkID, old.Spec.PrivateNetworkID)
		c.Spec.ClusterID = cmp.Or(c.Spec.ClusterID, old.Spec.ClusterID)
		if c.Spec.ControlPlaneEndpoint.Host == "" {
			c.Spec.ControlPlaneEndpoint.Host = old.Spec.ControlPlaneEndpoint.Host
			c.Spec.ControlPlaneEndpoint.Port = cmp.Or(c.Spec.ControlPlaneEndpoint.Port, old.Spec.ControlPlaneEndpoint.Port)
		}
	}
	if c.Spec.ProjectID == "" {
		c.Spec.ProjectID, _ = bindings.Project(c.Namespace)
	}
}

func validateReferences(ctx context.Context, checks *references.Validator, c, old *object) field.ErrorList {
	ch := checks.Begin(ctx, c.Namespace)
	ValidateSpecReferences(ch, field.NewPath("spec"), &c.Spec, &old.Spec)
	return ch.Errors()
}

// ValidateSpecReferences checks a cluster's spec, also one in a template.
func ValidateSpecReferences(c *references.Validation, path *field.Path, s, old *spec) {
	c.Project(path.Child("projectID"), s.ProjectID, old.ProjectID)
	c.Partition(path.Child("partition"), s.Partition, old.Partition)
	c.Network(path.Child("publicNetworkID"), s.PublicNetworkID, old.PublicNetworkID)
	c.PrivateNetwork(path.Child("privateNetworkID"), s.PrivateNetworkID, old.PrivateNetworkID)
	c.PrivateNetworkSpec(path.Child("privateNetwork"), s.PrivateNetwork, old.PrivateNetwork, s.Partition, old.Partition)
	if s.AllocatesEndpoint() {
		c.Host(path.Child("controlPlaneEndpoint", "host"), s.ControlPlaneEndpoint.Host, old.ControlPlaneEndpoint.Host)
	}
	if access := s.MetalAPIAccess; access != nil {
		before := cmp.Or(old.MetalAPIAccess, &infrastructure.MetalAPIAccess{})
		c.Networks(path.Child("metalAPIAccess", "additionalNetworkIDs"), access.AdditionalNetworkIDs, before.AdditionalNetworkIDs)
	}
	firewall, was := s.FirewallSpec, old.FirewallSpec
	if firewall == nil {
		return
	}
	if was == nil {
		was = &infrastructure.MetalStackFirewallSpec{}
	}
	path = path.Child("firewallSpec")
	c.Size(path.Child("machineType"), firewall.MachineType, was.MachineType)
	c.Image(path.Child("image"), firewall.Image, was.Image, references.Firewall)
	c.Partition(path.Child("partition"), firewall.Partition, was.Partition)
	c.Networks(path.Child("networks"), firewall.Networks, was.Networks)
	c.FirewallController(path.Child("controller"), firewall.Controller, was.Controller, true)
	// Who holds it is for the firewall to find out that is made like this.
	c.ProviderID(path.Child("providerID"), firewall.ProviderID, was.ProviderID, references.Referrer{})
	c.Adoption(path.Child("providerID"), firewall.ProviderID, was.ProviderID, firewall.MachineType, firewall.Image)
}

func selectableFields(c *object) fields.Set {
	return fields.Set{"status.ready": strconv.FormatBool(c.Status.Ready)}
}
