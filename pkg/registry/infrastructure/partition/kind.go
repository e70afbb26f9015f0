// SPDX-License-Identifier: Apache-2.0

// Package partition serves MetalStackPartitions.
package partition

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

// Resource is the plural name.
const Resource = "metalstackpartitions"

type object = infrastructure.MetalStackPartition

// Kind returns what serves partitions.
func Kind() *registry.ReadOnlyKind[*object] {
	return &registry.ReadOnlyKind[*object]{
		Plural: Resource, Singular: "metalstackpartition", ShortNames: []string{"mspart"},
		ClusterScoped: true,
		New:           func() *object { return &object{} },
		NewList:       func() runtime.Object { return &infrastructure.MetalStackPartitionList{} },
		Columns:       columns(),
	}
}

func columns() []registry.Column[*object] {
	return []registry.Column[*object]{
		sum("Total", "Machines of all sizes.", false, func(c infrastructure.SizeCapacity) int64 { return c.Total }),
		sum("Allocated", "Machines that are allocated, by any project.", false, func(c infrastructure.SizeCapacity) int64 { return c.Allocated }),
		sum("Available", "Machines that a project without a reservation can allocate now.", false, func(c infrastructure.SizeCapacity) int64 { return c.Available }),
		sum("Faulty", "Machines that cannot be allocated until an operator of metal-stack has looked after them.", false, func(c infrastructure.SizeCapacity) int64 { return c.Faulty }),
		sum("Reserved", "Free machines that are kept for projects with a reservation.", true, func(c infrastructure.SizeCapacity) int64 { return c.Reserved }),
		sum("Unavailable", "Other machines that cannot be allocated now: they boot, or are locked or reserved by an operator.", true, func(c infrastructure.SizeCapacity) int64 { return c.Unavailable }),
		{Name: "Available-By-Size", Description: "Machines that a project without a reservation can allocate now, by size.", Wide: true, Cell: func(p *object) any {
			var sizes []string
			for _, c := range p.Status.Capacity {
				sizes = append(sizes, fmt.Sprintf("%s: %d", c.Size, c.Available))
			}
			return registry.OrNone(strings.Join(sizes, ", "))
		}},
		{Name: "Partition", Description: "Name of the partition in metal-stack.", Wide: true, Cell: func(p *object) any {
			return registry.OrNone(p.Status.DisplayName)
		}},
	}
}

// sum is a column with a sum over all sizes.
func sum(name, description string, wide bool, count func(infrastructure.SizeCapacity) int64) registry.Column[*object] {
	return registry.Column[*object]{Name: name, Type: "integer", Description: description, Wide: wide, Cell: func(p *object) any {
		var total int64
		for _, c := range p.Status.Capacity {
			total += count(c)
		}
		return total
	}}
}
