// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// The kinds of metal in metrics.
const (
	kindMachine  = "machine"
	kindFirewall = "firewall"
	kindNetwork  = "network"
	kindAddress  = "address"
)

var metalKinds = []string{kindMachine, kindFirewall, kindNetwork, kindAddress}

// unrecorded is one piece of metal that was allocated for an object of this
// management cluster, and that no record names or could own. It is only counted
// and logged: objects that were moved away leave the same behind, and another
// management cluster has them.
type unrecorded struct {
	kind, id, project string
	// namespace and name are those of the object that it was allocated for.
	namespace, name string
}

// recordedMetal is what records name, and the identities by which they could own
// more: an attempt in progress may have allocated it.
type recordedMetal struct {
	identities, allocations, networks, addresses sets.Set[string]
}

// allRecords are the records of all resources.
type allRecords struct {
	machineLikes []*machineLike
	clusters     []*clusterRecord
	networks     []*networkRecord
	ips          []*ipRecord
}

// countUnrecorded counts what no record names.
func (r *Recoverer) countUnrecorded(ctx context.Context, all *allRecords) {
	found := r.p.unrecorded(all)
	for _, kind := range metalKinds {
		n := 0
		for _, u := range found {
			if u.kind == kind {
				n++
			}
		}
		unrecordedGauge.WithLabelValues(kind).Set(float64(n))
	}
	for _, u := range found {
		if !slices.Contains(r.unrecorded, u) {
			klog.FromContext(ctx).Info("Metal carries an identity of this management cluster, and no record names it",
				"kind", u.kind, "id", u.id, "project", u.project, "namespace", u.namespace, "name", u.name)
		}
	}
	r.unrecorded = found
}

func (p *Protocol) unrecorded(all *allRecords) (found []unrecorded) {
	r := recordedMetalOf(all)
	machines, networks, ips := p.opts.Observer.Identified()
	add := func(kind, id, project string, tag func(key string) string) {
		found = append(found, unrecorded{kind: kind, id: id, project: project, namespace: tag(metal.TagNamespace), name: tag(metal.TagName)})
	}
	inTags := func(tags []string) func(string) string {
		return func(key string) string { value, _ := metal.TagValue(tags, key); return value }
	}
	for _, m := range machines {
		if r.identities.Has(m.UID()) || r.allocations.Has(m.AllocationUUID()) {
			continue
		}
		kind := kindMachine
		if m.Allocation.Role == metal.RoleFirewall {
			kind = kindFirewall
		}
		add(kind, m.ID, m.Project(), inTags(m.Tags))
	}
	for _, n := range networks {
		if !r.identities.Has(n.UID()) && !r.networks.Has(n.ID) {
			add(kindNetwork, n.ID, n.Project, func(key string) string { return n.Labels[key] })
		}
	}
	for _, ip := range ips {
		if !r.identities.Has(ip.UID()) && !r.addresses.Has(ip.Address) {
			add(kindAddress, ip.Address, ip.Project, inTags(ip.Tags))
		}
	}
	return found
}

func recordedMetalOf(all *allRecords) recordedMetal {
	r := recordedMetal{identities: sets.New[string](), allocations: sets.New[string](), networks: sets.New[string](), addresses: sets.New[string]()}
	for _, s := range all.machineLikes {
		if a := s.allocation(); a.Phase != infrastructure.AllocationReleased {
			r.identities.Insert(LabelValue(string(s.identityUID())))
			r.allocations.Insert(a.AllocationUUID)
		}
	}
	for _, c := range all.clusters {
		a := c.allocation()
		if a.Phase == infrastructure.AllocationReleased {
			continue
		}
		r.identities.Insert(LabelValue(string(c.identityUID())))
		r.networks.Insert(a.NetworkID, c.Spec.PrivateNetworkID)
		r.addresses.Insert(a.IPAddress, c.Spec.ControlPlaneEndpoint.Host)
	}
	for _, n := range all.networks {
		if a := n.allocation(); a.Phase != infrastructure.AllocationReleased {
			r.identities.Insert(LabelValue(string(n.identityUID())))
			r.networks.Insert(a.NetworkID, n.Spec.NetworkID)
		}
	}
	for _, i := range all.ips {
		if a := i.allocation(); a.Phase != infrastructure.AllocationReleased {
			r.identities.Insert(LabelValue(string(i.identityUID())))
			r.addresses.Insert(a.Address, i.Spec.Address)
		}
	}
	return r
}
