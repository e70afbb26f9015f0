// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/providerid"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// plan is what is requested of the metal-api for a machine or firewall.
type plan struct {
	project, partition string
	clusterName        string
	clusterID          string
	networks           []string
	// machineID is set if the spec names a machine.
	machineID string
}

// namedNetwork is a network that a field names, or the cluster that the field names.
type namedNetwork struct {
	path      *field.Path
	value, id string
}

// projectOf returns the project that a namespace is bound to.
func (p *Protocol) projectOf(namespace string) (string, error) {
	project, bound := p.opts.Bindings.Project(namespace)
	if !bound {
		return "", refuse(http.StatusForbidden, "namespace %q is not bound to a project", namespace)
	}
	return project, nil
}

// newPlan finds project, partition and networks of a machine or firewall, and
// checks that the project may use what the spec names. cluster may be empty.
func (p *Protocol) newPlan(ctx context.Context, kind *machineLikeKind, m *machineLike, cluster string) (*plan, error) {
	project, err := p.projectOf(m.meta.Namespace)
	if err != nil {
		return nil, err
	}
	pl := &plan{project: project, partition: m.partition, clusterName: cluster}
	var named []namedNetwork
	if cluster != "" {
		c, err := p.joinableCluster(ctx, m.meta.Namespace, cluster)
		if err != nil {
			return nil, err
		}
		if pl.partition == "" {
			pl.partition = c.Spec.Partition
		}
		pl.clusterID = infrastructure.ClusterID(c.MetalStackCluster)
		if isExternallyManaged(c) {
			named = append(named, namedNetwork{clusterRefPath, cluster, c.Spec.PrivateNetworkID})
		} else {
			pl.networks = []string{c.Status.Allocation.NetworkID}
		}
		if kind.role == metal.RoleFirewall && c.Spec.PublicNetworkID != "" {
			// The order is the order of the networks in the request.
			named = append([]namedNetwork{{clusterRefPath, cluster, c.Spec.PublicNetworkID}}, named...)
		}
	}
	for i, id := range m.networks {
		named = append(named, namedNetwork{networksPath.Index(i), id, id})
	}
	if *m.providerID != "" {
		id, err := providerid.Parse(*m.providerID)
		if err != nil {
			return nil, refuseField(field.Invalid(providerIDPath, *m.providerID, err.Error()))
		}
		if id.Partition != "" && pl.partition != "" && id.Partition != pl.partition {
			return nil, refuseField(field.Invalid(providerIDPath, *m.providerID, fmt.Sprintf("must name the partition of the spec or the cluster, %q", pl.partition)))
		}
		pl.machineID = id.MachineID
		if pl.partition == "" {
			if pl.partition, err = p.partitionOf(ctx, id, project); err != nil {
				return nil, err
			}
		}
	}
	for i, tag := range m.tags {
		if isReservedTag(tag) {
			return nil, refuseField(field.Forbidden(tagsPath.Index(i), fmt.Sprintf("%q is reserved for ownership", tag)))
		}
	}
	for _, network := range named {
		if slices.Contains(pl.networks, network.id) {
			continue
		}
		if _, err := p.findUsableNetwork(ctx, network, project); err != nil {
			return nil, err
		}
		pl.networks = append(pl.networks, network.id)
	}
	return pl, nil
}

// partitionOf returns the partition of a machine that a spec names without it;
// empty if there is no such machine.
func (p *Protocol) partitionOf(ctx context.Context, id providerid.ID, project string) (string, error) {
	if id.Partition != "" {
		return id.Partition, nil
	}
	m, err := p.lookUpMachine(ctx, id.MachineID, project)
	switch {
	case err != nil:
		return "", lookupRefusal(err)
	case m == nil:
		return "", nil
	}
	return m.Partition, nil
}

// checkComplete refuses a plan that lacks what an allocation needs, and an
// adoption does not.
func (pl *plan) checkComplete() error {
	switch {
	case pl.partition == "":
		return refuseField(field.Required(partitionPath, "must be set unless the allocation names a cluster that has a partition"))
	case len(pl.networks) == 0:
		return refuseField(field.Required(networksPath, "must be set unless the allocation names a cluster that has a private network"))
	}
	return nil
}

// isExternallyManaged is whether a cluster is managed by another controller, so
// that it holds nothing, and its spec names what its machines join: Cluster API's
// "externally managed infrastructure".
func isExternallyManaged(c *clusterRecord) bool {
	if c.DeletionTimestamp != nil || c.allocation().Phase != "" {
		return false
	}
	return infrastructure.ExternallyManaged(c.MetalStackCluster)
}

// joinableCluster returns a cluster that holds its network, or names it if it is
// externally managed.
func (p *Protocol) joinableCluster(ctx context.Context, namespace, name string) (*clusterRecord, error) {
	c, err := p.clusters.get(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	if isExternallyManaged(c) {
		if c.Spec.PrivateNetworkID == "" {
			return nil, refuseField(field.Invalid(clusterRefPath, name, "cluster is managed externally and has no spec.privateNetworkID: set it to the network that its machines join"))
		}
		return c, nil
	}
	if a := c.allocation(); a.Phase != infrastructure.AllocationAllocated || a.NetworkID == "" {
		return nil, refuse(http.StatusConflict, "cluster %q has no allocated private network: retry once it is allocated", name)
	}
	return c, nil
}

// findUsableNetwork returns a network that the project may use: its own, a shared
// or a public one. Another project's is not found, like one that does not exist.
func (p *Protocol) findUsableNetwork(ctx context.Context, named namedNetwork, project string) (*metal.Network, error) {
	n, err := p.lookUpNetwork(ctx, named.id, project)
	switch {
	case err != nil:
		return nil, lookupRefusal(err)
	case n != nil && n.UsableBy(project):
		return n, p.checkNetworksNotReleasing(ctx, n.ID)
	}
	return nil, refuseField(field.Invalid(named.path, named.value, fmt.Sprintf("network %q not found in project %q: must be a network of the project, a shared or a public one", named.id, project)))
}

// machineRequest is the plan as a request to the metal-api.
func (p *Protocol) machineRequest(m *machineLike, kind *machineLikeKind, pl *plan, id identity, userData []byte) metal.MachineRequest {
	r := metal.MachineRequest{
		ID:          pl.machineID,
		Project:     pl.project,
		Partition:   pl.partition,
		Size:        m.machineType,
		Image:       m.image,
		Name:        m.meta.Name,
		Hostname:    hostname(m.meta.Name),
		Description: kind.name + " " + m.meta.Namespace + "/" + m.meta.Name,
		SSHKeys:     m.sshKeys,
		Tags:        slices.Concat(p.identityTags(id), p.roleTags(m, kind, pl), m.tags),
		Networks:    pl.networks,
		UserData:    userData,

		DNSServers: m.dnsServers, NTPServers: m.ntpServers, FilesystemLayout: m.filesystemLayout,
	}
	if pl.clusterID != "" {
		group := placementGroup(m, kind, pl)
		r.Tags = append(r.Tags, group)
		// It has to be among the tags, too (docs/metal-api.md, Q67).
		r.PlacementTags = []string{group}
	}
	return r
}

// placementGroup is the tag of the machines of one cluster and role, which are spread
// over racks for themselves.
func placementGroup(m *machineLike, kind *machineLikeKind, pl *plan) string {
	role := "worker"
	_, controlPlane := m.meta.Labels[infrastructure.ControlPlaneLabel]
	switch {
	case kind.role == metal.RoleFirewall:
		role = "firewall"
	case controlPlane:
		role = "control-plane"
	}
	return metal.Tag(metal.TagPlacementGroup, LabelValue(pl.clusterID+"."+role))
}

// roleTags are the tags that others read: of machines, metal-ccm makes labels of
// Nodes. Those that the spec has are left out.
func (p *Protocol) roleTags(m *machineLike, kind *machineLikeKind, pl *plan) []string {
	if kind.role == metal.RoleFirewall {
		return []string{metal.Tag(metal.TagFirewallManagedBy, managedBy)}
	}
	var tags []string
	for _, topology := range []struct{ key, value string }{{metal.TagZone, pl.partition}, {metal.TagRegion, p.opts.Region}} {
		if _, specified := metal.TagValue(m.tags, topology.key); !specified && topology.value != "" {
			tags = append(tags, metal.Tag(topology.key, LabelValue(topology.value)))
		}
	}
	return tags
}

// managedBy is the value of metal.TagFirewallManagedBy.
const managedBy = "metalstack-controller-manager"

// firewallRules are firewall rules in the metal-api's terms.
func firewallRules(r *infrastructure.FirewallRules) *metal.FirewallRules {
	if r == nil {
		return nil
	}
	out := &metal.FirewallRules{}
	for _, e := range r.Egress {
		out.Egress = append(out.Egress, metal.EgressRule{Protocol: e.Protocol, Ports: e.Ports, To: e.To, Comment: e.Comment})
	}
	for _, i := range r.Ingress {
		out.Ingress = append(out.Ingress, metal.IngressRule{Protocol: i.Protocol, Ports: i.Ports, To: i.To, From: i.From, Comment: i.Comment})
	}
	return out
}
