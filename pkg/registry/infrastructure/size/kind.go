// SPDX-License-Identifier: Apache-2.0

// Package size serves MetalStackSizes.
package size

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

// Resource is the plural name.
const Resource = "metalstacksizes"

type object = infrastructure.MetalStackSize

// Kind returns what serves sizes.
func Kind() *registry.ReadOnlyKind[*object] {
	return &registry.ReadOnlyKind[*object]{
		Plural: Resource, Singular: "metalstacksize", ShortNames: []string{"mssize"},
		ClusterScoped: true,
		New:           func() *object { return &object{} },
		NewList:       func() runtime.Object { return &infrastructure.MetalStackSizeList{} },
		Columns:       columns(),
	}
}

func columns() []registry.Column[*object] {
	return []registry.Column[*object]{
		{Name: "Cores", Description: "Processor cores of a machine.", Cell: func(s *object) any { return rangeText(s.Status.Cores) }},
		{Name: "Memory", Description: "Memory of a machine.", Cell: func(s *object) any { return rangeText(s.Status.Memory) }},
		{Name: "Storage", Description: "Disk space of a machine, over all disks.", Cell: func(s *object) any { return rangeText(s.Status.Storage) }},
		{Name: "GPUs", Description: "Graphics processors of a machine.", Cell: func(s *object) any {
			var all []string
			for _, g := range s.Status.GPUs {
				count := fmt.Sprint(g.Min)
				if g.Max != g.Min {
					count = fmt.Sprintf("%d-%d", g.Min, g.Max)
				}
				all = append(all, count+" "+g.Model)
			}
			return registry.OrNone(strings.Join(all, ", "))
		}},
		{Name: "Images", Description: "Versions of operating systems that the size is restricted to; others are not restricted.", Wide: true, Cell: func(s *object) any {
			var all []string
			for _, i := range s.Status.Images {
				all = append(all, i.OS+" "+i.Versions)
			}
			return registry.OrNone(strings.Join(all, ", "))
		}},
		{Name: "Description", Description: "Description of the size in metal-stack.", Wide: true, Cell: func(s *object) any {
			return registry.OrNone(s.Status.Description)
		}},
	}
}

// rangeText is the least and the most, or one of them if they are the same.
func rangeText(r *infrastructure.SizeRange) string {
	switch {
	case r == nil:
		return registry.OrNone("")
	case r.Min.Cmp(r.Max) == 0:
		return r.Min.String()
	}
	return r.Min.String() + "-" + r.Max.String()
}
