// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"strings"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// maxShownUsers is how many users of metal a cell shows.
const maxShownUsers = 3

// UsersCell is what a table shows of the users of metal of a namespace. cluster is what it
// calls the use by a cluster.
func UsersCell(users []infrastructure.MetalUser, namespace, cluster string) string {
	var shown []string
	for i, user := range users {
		if i == maxShownUsers {
			shown = append(shown, fmt.Sprintf("%d more", len(users)-i))
			break
		}
		shown = append(shown, userText(user, namespace, cluster))
	}
	return OrNone(strings.Join(shown, ", "))
}

func userText(u infrastructure.MetalUser, namespace, cluster string) string {
	name := u.Name
	if u.Namespace != namespace {
		name = u.Namespace + "/" + u.Name
	}
	switch u.Kind {
	case "MetalStackCluster":
		return cluster + " " + name
	case "MetalStackMachine":
		return "machine " + name
	case "MetalStackFirewall":
		return "firewall " + name
	case "Machine":
		return "machine " + u.MachineID
	case "Cluster":
		return "cluster " + u.ClusterID
	case "Service":
		return fmt.Sprintf("Service %s/%s of cluster %s", u.Namespace, u.Name, u.ClusterID)
	}
	return u.Kind + " " + name
}
