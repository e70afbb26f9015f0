package metal

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// identifiedInterval is the least time between two looks at the networks and
	// addresses that carry the identity of this management cluster.
	identifiedInterval = time.Minute
	// identifiedShare is the part of the budget that these looks may take: where
	// there are many, they are made less often.
	identifiedShare = 0.1
)

// identifiedMetal is the metal that carries the identity of this management cluster,
// as it was last looked at, whether or not a record names it.
type identifiedMetal struct {
	mu       sync.Mutex
	due      time.Time
	networks []*Network
	ips      []*IP
}

// lookAtIdentified looks at the networks and addresses that were allocated for
// this management cluster: two finds, which belong to the sweep that makes them.
// What a look cannot find out stays as it was.
func (o *Observer) lookAtIdentified(ctx context.Context, a *account) {
	mark, began, before := o.opts.ManagementCluster, o.opts.Clock.Now(), a.took
	o.identified.mu.Lock()
	due := mark != "" && !began.Before(o.identified.due)
	o.identified.mu.Unlock()
	if !due {
		return
	}
	defer func() {
		pause := time.Duration(float64(a.took-before) / (o.opts.Budget * identifiedShare))
		o.identified.mu.Lock()
		defer o.identified.mu.Unlock()
		o.identified.due = began.Add(max(identifiedInterval, pause))
	}()
	networks, _, err := timed(ctx, o, a, callNetworkFind, length, func(ctx context.Context) ([]*Network, error) {
		return o.client.FindNetworks(ctx, NetworkQuery{Labels: map[string]string{TagManagementCluster: mark}})
	})
	if err == nil {
		networks = slices.DeleteFunc(networks, func(n *Network) bool { return n.Labels[TagManagementCluster] != mark || n.UID() == "" })
		o.identified.mu.Lock()
		o.identified.networks = networks
		o.identified.mu.Unlock()
	}
	ips, _, err := timed(ctx, o, a, callIPFind, length, func(ctx context.Context) ([]*IP, error) {
		return o.client.FindIPs(ctx, IPQuery{Tags: []string{Tag(TagManagementCluster, mark)}})
	})
	if err == nil {
		ips = slices.DeleteFunc(ips, func(i *IP) bool { return !carries(i.Tags, mark) || i.UID() == "" })
		o.identified.mu.Lock()
		o.identified.ips = ips
		o.identified.mu.Unlock()
	}
}

// forget drops a network or an address that was freed.
func (i *identifiedMetal) forget(ref Ref) {
	i.mu.Lock()
	defer i.mu.Unlock()
	// What was returned before stays as it is.
	switch ref.Kind {
	case KindNetwork:
		i.networks = slices.DeleteFunc(slices.Clone(i.networks), func(n *Network) bool { return n.ID == ref.ID })
	case KindIP:
		i.ips = slices.DeleteFunc(slices.Clone(i.ips), func(ip *IP) bool { return ip.Address == ref.ID })
	}
}

func carries(tags []string, mark string) bool {
	cluster, _ := TagValue(tags, TagManagementCluster)
	return cluster == mark
}

// Identified returns the allocated machines and firewalls, the networks and the
// addresses that carry the identity of this management cluster, as of the last
// looks; networks and addresses are looked at once a minute at most. The caller
// does not change them.
func (o *Observer) Identified() (machines []*Machine, networks []*Network, ips []*IP) {
	if o.opts.ManagementCluster != "" {
		for m := range o.Machines() {
			if m.Allocation != nil && m.UID() != "" && carries(m.Tags, o.opts.ManagementCluster) {
				machines = append(machines, m)
			}
		}
	}
	o.identified.mu.Lock()
	defer o.identified.mu.Unlock()
	return machines, o.identified.networks, o.identified.ips
}
