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
		{Name: "Cluster", Description: "The Cluster API Cluster that this is the infrastructure of.", Cell: func(c *object) any {
			return registry.OrNone(c.Labels[infrastructure.ClusterNameLabel])
		}},
		{Name: "Ready", Description: "Whether network and control plane address are there.", Cell: func(c *object) any {
			return registry.ReadyCell(c.Status.Ready, c.Status.Conditions)
		}},
		{Name: "Endpoint", Description: "Where the cluster's API server is reached.", Cell: func(c *object) any {
			return registry.OrNone(endpoint(c.Spec.ControlPlaneEndpoint))
		}},
		{Name: "Network", Description: "The address ranges of the private network.", Cell: func(c *object) any {
			if c.Status.Network == nil {
				return registry.OrNone("")
			}
			return registry.OrNone(strings.Join(c.Status.Network.Prefixes, ","))
		}},
		{Name: "Partition", Description: "The partition that the cluster is built in.", Cell: func(c *object) any {
			return registry.OrNone(c.Spec.Partition)
		}},
		registry.Age[*object](),
		{Name: "Project", Description: "The metal-stack project that owns everything of the cluster.", Wide: true, Cell: func(c *object) any {
			return registry.OrNone(c.Spec.ProjectID)
		}},
		{Name: "NetworkID", Description: "The id of the private network.", Wide: true, Cell: func(c *object) any {
			return registry.OrNone(c.Spec.PrivateNetworkID)
		}},
		{Name: "IPs", Description: "How many addresses of the private network are taken, and how many there are.", Wide: true, Cell: func(c *object) any {
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
