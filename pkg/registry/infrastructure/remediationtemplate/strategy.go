// SPDX-License-Identifier: Apache-2.0

// Package remediationtemplate serves MetalStackRemediationTemplates.
package remediationtemplate

import (
	"context"
	"strconv"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/validation"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

// Resource is the plural name.
const Resource = "metalstackremediationtemplates"

type (
	object = infrastructure.MetalStackRemediationTemplate
	spec   = infrastructure.MetalStackRemediationTemplateSpec
	// status is that of a kind without one.
	status = struct{}
)

// Kind returns what remediation templates do differently from other kinds.
func Kind() *registry.Kind[*object, spec, status] {
	return &registry.Kind[*object, spec, status]{
		Plural: Resource, Singular: "metalstackremediationtemplate", ShortNames: []string{"msrt"},
		New:     func() *object { return &object{} },
		NewList: func() runtime.Object { return &infrastructure.MetalStackRemediationTemplateList{} },
		Spec:    func(t *object) *spec { return &t.Spec },
		Status:  func(*object) *status { return &status{} },
		Validate: func(_ context.Context, t *object) field.ErrorList {
			return validation.ValidateRemediationTemplate(t)
		},
		ValidateUpdate: func(ctx context.Context, t, old *object) field.ErrorList {
			return validation.ValidateRemediationTemplateUpdate(t, old, registry.IsDryRun(ctx))
		},
		Columns: []registry.Column[*object]{
			{Name: "Strategy", Description: "How machines are remediated; empty: Reboot.", Cell: func(t *object) any {
				return registry.OrNone(string(t.Spec.Template.Spec.Strategy.Type))
			}},
			{Name: "Retries", Description: "Attempts that are made; empty: one.", Cell: func(t *object) any {
				if limit := t.Spec.Template.Spec.Strategy.RetryLimit; limit != 0 {
					return strconv.Itoa(int(limit))
				}
				return registry.OrNone("")
			}},
			{Name: "Timeout", Description: "How long one step of an attempt may take; empty: 15m.", Cell: func(t *object) any {
				if timeout := t.Spec.Template.Spec.Strategy.Timeout; timeout != nil {
					return timeout.Duration.String()
				}
				return registry.OrNone("")
			}},
			registry.Age[*object](),
		},
	}
}
