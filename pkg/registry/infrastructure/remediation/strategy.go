// SPDX-License-Identifier: Apache-2.0

// Package remediation serves MetalStackRemediations.
package remediation

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/validation"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

// Resource is the plural name.
const Resource = "metalstackremediations"

type (
	object = infrastructure.MetalStackRemediation
	spec   = infrastructure.MetalStackRemediationSpec
	status = infrastructure.MetalStackRemediationStatus
)

// Kind returns what remediations do differently from other kinds. They hold no metal: what
// the controller manager has changed of a machine and a Node is in the status, and its own
// finalizer keeps the object until that is undone.
func Kind() *registry.Kind[*object, spec, status] {
	return &registry.Kind[*object, spec, status]{
		Plural: Resource, Singular: "metalstackremediation", ShortNames: []string{"msr"},
		New:     func() *object { return &object{} },
		NewList: func() runtime.Object { return &infrastructure.MetalStackRemediationList{} },
		Spec:    func(r *object) *spec { return &r.Spec },
		Status:  func(r *object) *status { return &r.Status },
		Validate: func(_ context.Context, r *object) field.ErrorList {
			return validation.ValidateRemediation(r)
		},
		ValidateUpdate: func(_ context.Context, r, old *object) field.ErrorList {
			return validation.ValidateRemediationUpdate(r, old)
		},
		MergeStatus:          func(s *status, submitted status) { *s = submitted },
		ValidateStatusUpdate: validation.ValidateRemediationStatusUpdate,
		Columns:              columns(),
	}
}

func columns() []registry.Column[*object] {
	return []registry.Column[*object]{
		{Name: "Phase", Description: "How far the remediation is.", Cell: func(r *object) any {
			return registry.OrNone(string(r.Status.Phase))
		}},
		{Name: "Attempt", Description: "Attempts that were begun, of those that are allowed.", Cell: func(r *object) any {
			return fmt.Sprintf("%d/%d", r.Status.Attempt, r.Spec.Strategy.RetryLimit)
		}},
		{Name: "Machine", Description: "Name of the MetalStackMachine.", Cell: func(r *object) any {
			if r.Status.Machine == nil {
				return registry.OrNone("")
			}
			return registry.OrNone(r.Status.Machine.Name)
		}},
		registry.Age[*object](),
		{Name: "Node", Description: "Name of the Node that has the out-of-service taint because of the remediation.", Wide: true, Cell: func(r *object) any {
			return registry.OrNone(r.Status.FencedNode)
		}},
	}
}
