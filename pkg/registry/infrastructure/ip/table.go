// SPDX-License-Identifier: Apache-2.0

package ip

import (
	"strconv"

	"k8s.io/apimachinery/pkg/fields"

	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

func columns() []registry.Column[*object] {
	return []registry.Column[*object]{
		{Name: "Address", Description: "The IP address.", Cell: func(i *object) any {
			if i.Status.Address == "" {
				return registry.OrNone(i.Spec.Address)
			}
			return i.Status.Address
		}},
		{Name: "Network", Description: "ID of the network of the address.", Cell: func(i *object) any {
			if i.Status.NetworkID == "" {
				return registry.OrNone(i.Spec.NetworkID)
			}
			return i.Status.NetworkID
		}},
		{Name: "Type", Description: "Whether the address stays until it is released (static), or goes with what uses it (ephemeral).", Cell: func(i *object) any {
			return registry.OrNone(i.Status.Type)
		}},
		{Name: "Used-By", Description: "What the address is used by: a control plane, machines, Services of workload clusters.", Cell: func(i *object) any {
			return registry.UsersCell(i.Status.Users, i.Namespace, "control plane of")
		}},
		{Name: "Ready", Description: "Whether the project has the address in metal-stack.", Cell: func(i *object) any {
			return registry.ReadyCell(i.Status.Ready, i.Status.Conditions)
		}},
		registry.Age[*object](),
		{Name: "IP", Description: "Name of the address in metal-stack.", Wide: true, Cell: func(i *object) any {
			return registry.OrNone(i.Status.DisplayName)
		}},
		{Name: "Managed", Type: "boolean", Description: "Whether the object is a claim; false for discovered addresses.", Wide: true, Cell: func(i *object) any {
			return i.Status.Managed
		}},
	}
}

func selectableFields(i *object) fields.Set {
	return fields.Set{
		"status.address": i.Status.Address, "status.managed": strconv.FormatBool(i.Status.Managed),
		"status.networkID": i.Status.NetworkID, "status.ready": strconv.FormatBool(i.Status.Ready),
	}
}
