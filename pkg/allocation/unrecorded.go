package allocation

import (
	"context"
	"slices"
	"time"

	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// unrecordedInterval is how often it is counted what carries an identity of this
// management cluster and no record names.
const unrecordedInterval = 30 * time.Second

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
// more: an attempt that is under way may have allocated it.
type recordedMetal struct {
	identities, allocations, networks, addresses map[string]struct{}
}

// countUnrecorded counts, every now and then, what no record names.
func (k *Recoverer) countUnrecorded(ctx context.Context, machineLikes []*machineLike, clusters []*clusterRecord) {
	now := k.p.clock.Now()
	if now.Sub(k.unrecordedTime) < unrecordedInterval {
		return
	}
	k.unrecordedTime = now
	found := k.p.unrecorded(machineLikes, clusters)
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
		if !slices.Contains(k.unrecorded, u) {
			klog.FromContext(ctx).Info("Metal carries an identity of this management cluster, and no record names it",
				"kind", u.kind, "id", u.id, "project", u.project, "namespace", u.namespace, "name", u.name)
		}
	}
	k.unrecorded = found
}

func (p *Protocol) unrecorded(machineLikes []*machineLike, clusters []*clusterRecord) (found []unrecorded) {
	r := recordedMetalOf(machineLikes, clusters)
	machines, networks, ips := p.opts.Observer.Identified()
	add := func(kind, id, project string, tag func(key string) string) {
		found = append(found, unrecorded{kind: kind, id: id, project: project, namespace: tag(metal.TagNamespace), name: tag(metal.TagName)})
	}
	inTags := func(tags []string) func(string) string {
		return func(key string) string { value, _ := metal.TagValue(tags, key); return value }
	}
	for _, m := range machines {
		if contains(r.identities, m.UID()) || contains(r.allocations, m.AllocationUUID()) {
			continue
		}
		kind := kindMachine
		if m.Allocation.Role == metal.RoleFirewall {
			kind = kindFirewall
		}
		add(kind, m.ID, m.Project(), inTags(m.Tags))
	}
	for _, n := range networks {
		if !contains(r.identities, n.UID()) && !contains(r.networks, n.ID) {
			add(kindNetwork, n.ID, n.Project, func(key string) string { return n.Labels[key] })
		}
	}
	for _, ip := range ips {
		if !contains(r.identities, ip.UID()) && !contains(r.addresses, ip.Address) {
			add(kindAddress, ip.Address, ip.Project, inTags(ip.Tags))
		}
	}
	return found
}

func recordedMetalOf(machineLikes []*machineLike, clusters []*clusterRecord) recordedMetal {
	r := recordedMetal{identities: map[string]struct{}{}, allocations: map[string]struct{}{}, networks: map[string]struct{}{}, addresses: map[string]struct{}{}}
	for _, s := range machineLikes {
		if a := s.allocation(); a.Phase != infrastructure.AllocationReleased {
			r.identities[LabelValue(string(s.identityUID()))] = struct{}{}
			r.allocations[a.AllocationUUID] = struct{}{}
		}
	}
	for _, c := range clusters {
		a := c.allocation()
		if a.Phase == infrastructure.AllocationReleased {
			continue
		}
		r.identities[LabelValue(string(c.identityUID()))] = struct{}{}
		for _, id := range []string{a.NetworkID, c.Spec.PrivateNetworkID} {
			r.networks[id] = struct{}{}
		}
		for _, address := range []string{a.IPAddress, c.Spec.ControlPlaneEndpoint.Host} {
			r.addresses[address] = struct{}{}
		}
	}
	return r
}

func contains(set map[string]struct{}, key string) bool {
	_, found := set[key]
	return found
}
