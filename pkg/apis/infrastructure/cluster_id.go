// SPDX-License-Identifier: Apache-2.0

package infrastructure

// ClusterID returns the id of a cluster in metal-stack, which its metal carries as
// ClusterIDTag. It is empty until the allocation of a cluster has begun that this
// server manages.
func ClusterID(c *MetalStackCluster) string {
	switch {
	case c.Spec.ClusterID != "":
		return c.Spec.ClusterID
	case c.Status.Allocation != nil && c.Status.Allocation.UID != "":
		return string(c.Status.Allocation.UID)
	case ExternallyManaged(c):
		return string(c.UID)
	}
	return ""
}
