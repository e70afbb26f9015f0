// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

func columns() []registry.Column[*object] {
	return []registry.Column[*object]{
		{Name: "Cluster", Description: "Name of the Cluster API Cluster.", Cell: func(c *object) any {
			return registry.OrNone(c.Labels[infrastructure.ClusterNameLabel])
		}},
		{Name: "Ready", Description: "Whether the network and the control plane address are available.", Cell: func(c *object) any {
			return registry.ReadyCell(c.Status.Ready, c.Status.Conditions)
		}},
		{Name: "Endpoint", Description: "Control plane endpoint.", Cell: func(c *object) any {
			return registry.OrNone(endpoint(c.Spec.ControlPlaneEndpoint))
		}},
		{Name: "Network", Description: "Prefixes of the private network.", Cell: func(c *object) any {
			if c.Status.Network == nil {
				return registry.OrNone("")
			}
			return registry.OrNone(strings.Join(c.Status.Network.Prefixes, ","))
		}},
		{Name: "Partition", Description: "Partition of the cluster.", Cell: func(c *object) any {
			return registry.OrNone(c.Spec.Partition)
		}},
		registry.Age[*object](),
		{Name: "Project", Description: "metal-stack project of the cluster.", Wide: true, Cell: func(c *object) any {
			return registry.OrNone(c.Spec.ProjectID)
		}},
		{Name: "ClusterID", Description: "ID of the cluster in metal-stack.", Wide: true, Cell: func(c *object) any {
			return registry.OrNone(c.Status.ClusterID)
		}},
		{Name: "NetworkID", Description: "ID of the private network.", Wide: true, Cell: func(c *object) any {
			return registry.OrNone(c.Spec.PrivateNetworkID)
		}},
		{Name: "IPs", Description: "Used and available addresses of the private network.", Wide: true, Cell: func(c *object) any {
			if c.Status.Network == nil {
				return registry.OrNone("")
			}
			return fmt.Sprintf("%d/%d", c.Status.Network.UsedIPs, c.Status.Network.AvailableIPs)
		}},
	}
}

func endpoint(e infrastructure.APIEndpoint) string {
	if e.Host == "" {
		return ""
	}
	return net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port)))
}
