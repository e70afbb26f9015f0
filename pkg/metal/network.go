// SPDX-License-Identifier: Apache-2.0

package metal

import (
	"net/netip"
	"slices"
)

// UsableBy reports whether a project may put machines and addresses into the
// network: it is the project's own, a shared one, or one of no project.
func (n *Network) UsableBy(project string) bool {
	return !n.Underlay && !n.PrivateSuper && (n.Project == project || n.Shared || n.Project == "")
}

// UsableByCluster reports whether Services of a cluster may have addresses in the network:
// in one of no project, a shared one, the cluster's own, or one of the project that is no
// other cluster's.
func (n *Network) UsableByCluster(project, clusterID string) bool {
	owner := n.Labels[TagCluster]
	return n.UsableBy(project) && (n.Project == "" || n.Shared || owner == "" || owner == clusterID)
}

// Contains reports whether an address is in one of the network's ranges.
func (n *Network) Contains(address netip.Addr) bool {
	return slices.ContainsFunc(n.Prefixes, func(s string) bool {
		prefix, err := netip.ParsePrefix(s)
		return err == nil && prefix.Contains(address)
	})
}
