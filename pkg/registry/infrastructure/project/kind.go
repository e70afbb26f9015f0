// SPDX-License-Identifier: Apache-2.0

// Package project serves MetalStackProjects.
package project

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

// Resource is the plural name.
const Resource = "metalstackprojects"

type object = infrastructure.MetalStackProject

// Kind returns what serves projects.
func Kind() *registry.ReadOnlyKind[*object] {
	return &registry.ReadOnlyKind[*object]{
		Plural: Resource, Singular: "metalstackproject", ShortNames: []string{"msproj"},
		New:     func() *object { return &object{} },
		NewList: func() runtime.Object { return &infrastructure.MetalStackProjectList{} },
		Columns: columns(),
	}
}

func columns() []registry.Column[*object] {
	return []registry.Column[*object]{
		{Name: "Project", Description: "Name of the project in metal-stack.", Cell: func(p *object) any {
			return registry.OrNone(p.Status.DisplayName)
		}},
		{Name: "Tenant", Description: "metal-stack tenant that the project belongs to.", Cell: func(p *object) any {
			return registry.OrNone(p.Status.Tenant)
		}},
		{Name: "Machines", Description: "Machines and firewalls that the project has, and how many it may have.", Cell: func(p *object) any {
			return quota(p, "machines")
		}},
		{Name: "Addresses", Description: "Addresses that the project has, and how many it may have.", Cell: func(p *object) any {
			return quota(p, "addresses")
		}},
		registry.Age[*object](),
		{Name: "Reservations", Description: "Machines that are kept for the project: used and reserved ones, by size and partition.", Wide: true, Cell: func(p *object) any {
			var all []string
			for _, r := range p.Status.Reservations {
				all = append(all, fmt.Sprintf("%s in %s: %d/%d", r.Size, r.Partition, r.Used, r.Amount))
			}
			return registry.OrNone(strings.Join(all, ", "))
		}},
	}
}

// quota is used/limit, or what is used if there is no limit.
func quota(p *object, resource string) string {
	i := slices.IndexFunc(p.Status.Quotas, func(q infrastructure.ProjectQuota) bool { return q.Resource == resource })
	if i < 0 {
		return registry.OrNone("")
	}
	q := p.Status.Quotas[i]
	used := "<unknown>"
	if q.Used != nil {
		used = fmt.Sprint(*q.Used)
	}
	if q.Limit == nil {
		return used
	}
	return fmt.Sprintf("%s/%d", used, *q.Limit)
}
