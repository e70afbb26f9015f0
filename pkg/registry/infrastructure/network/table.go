// SPDX-License-Identifier: Apache-2.0

package network

import (
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/fields"

	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

func columns() []registry.Column[*object] {
	return []registry.Column[*object]{
		{Name: "Type", Description: "Whether the network is a private one of the project, a shared one, or an external one of no project.", Cell: func(n *object) any {
			return registry.OrNone(string(n.Status.Type))
		}},
		{Name: "Partition", Description: "Partition of the network; none if it is in all of them.", Cell: func(n *object) any {
			if n.Status.Partition == "" {
				return registry.OrNone(n.Spec.Partition)
			}
			return n.Status.Partition
		}},
		{Name: "Prefixes", Description: "Address ranges of the network.", Cell: func(n *object) any {
			return registry.OrNone(strings.Join(n.Status.Prefixes, ","))
		}},
		{Name: "Used", Description: "Used and all addresses of a private network of the project.", Cell: func(n *object) any {
			if n.Status.UsedIPs == nil || n.Status.AvailableIPs == nil {
				return registry.OrNone("")
			}
			return fmt.Sprintf("%d/%d", *n.Status.UsedIPs, *n.Status.AvailableIPs)
		}},
		{Name: "Used-By", Description: "Clusters and claims whose network it is.", Cell: func(n *object) any {
			return registry.UsersCell(n.Status.Users, n.Namespace, "cluster")
		}},
		{Name: "Ready", Description: "Whether the network exists in metal-stack.", Cell: func(n *object) any {
			return registry.ReadyCell(n.Status.Ready, n.Status.Conditions)
		}},
		registry.Age[*object](),
		{Name: "NetworkID", Description: "ID of the network, by which a spec names it.", Wide: true, Cell: func(n *object) any {
			return registry.OrNone(n.Status.NetworkID)
		}},
		{Name: "Network", Description: "Name of the network in metal-stack.", Wide: true, Cell: func(n *object) any {
			return registry.OrNone(n.Status.DisplayName)
		}},
		{Name: "Managed", Type: "boolean", Description: "Whether the object is a claim; false for discovered networks.", Wide: true, Cell: func(n *object) any {
			return n.Status.Managed
		}},
	}
}

func selectableFields(n *object) fields.Set {
	return fields.Set{
		"status.managed": strconv.FormatBool(n.Status.Managed), "status.networkID": n.Status.NetworkID,
		"status.ready": strconv.FormatBool(n.Status.Ready), "status.type": string(n.Status.Type),
	}
}
