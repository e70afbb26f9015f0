// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"net/http"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/providerid"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// plan is what is requested of the metal-api for a machine or firewall.
type plan struct {
	project, partition string
	clusterName        string
	clusterUID         types.UID
	networks           []string
	// machineID is set if the spec names a machine.
	machineID string
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
	named := m.networks
	if cluster != "" {
		c, err := p.joinableCluster(ctx, m.meta.Namespace, cluster)
		if err != nil {
			return nil, err
		}
		if pl.partition == "" {
			pl.partition = c.Spec.Partition
		}
		if isExternallyManaged(c) {
			pl.clusterUID = c.UID
			named = append([]string{c.Spec.PrivateNetworkID}, named...)
		} else {
			pl.clusterUID = c.Status.Allocation.UID
			pl.networks = []string{c.Status.Allocation.NetworkID}
		}
		if kind.role == metal.RoleFirewall && c.Spec.PublicNetworkID != "" {
			named = append([]string{c.Spec.PublicNetworkID}, named...)
		}
	}
	if *m.providerID != "" {
		id, err := providerid.Parse(*m.providerID)
		if err != nil {
			return nil, refuseSpec("spec.providerID: %v", err)
		}
		if id.Partition != "" && pl.partition != "" && id.Partition != pl.partition {
			return nil, refuseSpec("spec.providerID: partition %q is not partition %q of the spec or the cluster", id.Partition, pl.partition)
		}
		pl.machineID = id.MachineID
		if pl.partition == "" {
			if pl.partition, err = p.partitionOf(ctx, id); err != nil {
				return nil, err
			}
		}
	}
	for _, tag := range m.tags {
		if isReservedTag(tag) {
			return nil, refuseSpec("spec.tags: %q is reserved for ownership", tag)
		}
	}
	for _, id := range named {
		if slices.Contains(pl.networks, id) {
			continue
		}
		if _, err := p.findUsableNetwork(ctx, id, project); err != nil {
			return nil, err
		}
		pl.networks = append(pl.networks, id)
	}
	return pl, nil
}

// partitionOf returns the partition of a machine that a spec names without it;
// empty if there is no such machine.
func (p *Protocol) partitionOf(ctx context.Context, id providerid.ID) (string, error) {
	if id.Partition != "" {
		return id.Partition, nil
	}
	m, err := p.findMachine(ctx, id.MachineID)
	switch {
	case err != nil:
		return "", refusalOf(err)
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
		return refuseSpec("spec.partition: required, unless the allocation names a cluster that has one")
	case len(pl.networks) == 0:
		return refuseSpec("spec.networks: required, unless the allocation names a cluster that has a private network")
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
			return nil, refuseSpec("cluster %q is managed externally, and its spec.privateNetworkID is empty", name)
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
func (p *Protocol) findUsableNetwork(ctx context.Context, id, project string) (*metal.Network, error) {
	found, err := p.opts.Metal.FindNetworks(ctx, metal.NetworkQuery{ID: id})
	if err != nil {
		return nil, refusalOf(err)
	}
	for _, n := range found {
		if n.ID == id && n.UsableBy(project) {
			return n, nil
		}
	}
	return nil, refuseSpec("network %q not found in project %s", id, project)
}

// machineRequest is the plan as a request to the metal-api.
func (p *Protocol) machineRequest(m *machineLike, kind string, pl *plan, id identity, userData []byte) metal.MachineRequest {
	r := metal.MachineRequest{
		ID:          pl.machineID,
		Project:     pl.project,
		Partition:   pl.partition,
		Size:        m.machineType,
		Image:       m.image,
		Name:        m.meta.Name,
		Hostname:    hostname(m.meta.Name),
		Description: kind + " " + m.meta.Namespace + "/" + m.meta.Name,
		SSHKeys:     m.sshKeys,
		Tags:        append(p.identityTags(id), m.tags...),
		Networks:    pl.networks,
		UserData:    userData,
	}
	if pl.clusterUID != "" {
		// Machines of one cluster are spread over racks.
		r.PlacementTags = []string{metal.Tag(metal.TagCluster, LabelValue(string(pl.clusterUID)))}
	}
	return r
}

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
