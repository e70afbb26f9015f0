// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"context"
	"slices"
	"sync"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

const (
	// identifiedInterval is the least time between two observations of the networks and
	// addresses that carry the identity of this management cluster.
	identifiedInterval = time.Minute
	// identifiedShare is the part of the budget that these observations may take: where
	// there are many, they are made less often.
	identifiedShare = 0.1
)

// identifiedMetal is the metal that carries the identity of this management cluster,
// as it was last observed, whether or not a record references it.
type identifiedMetal struct {
	mu       sync.Mutex
	nextDue  time.Time
	networks []*metal.Network
	ips      []*metal.IP
}

// observeIdentified observes the networks and addresses that were allocated for
// this management cluster: two finds, which belong to the sweep that makes them.
// What an observation cannot find out stays as it was.
func (o *Observer) observeIdentified(ctx context.Context, a *costTally) {
	mark, began, before := o.opts.ManagementCluster, o.opts.Clock.Now(), a.total
	o.identified.mu.Lock()
	due := mark != "" && !began.Before(o.identified.nextDue)
	o.identified.mu.Unlock()
	if !due {
		return
	}
	defer func() {
		pause := time.Duration(float64(a.total-before) / (o.budget.part() * identifiedShare))
		o.identified.mu.Lock()
		defer o.identified.mu.Unlock()
		o.identified.nextDue = began.Add(max(identifiedInterval, pause))
	}()
	networks, _, err := timedCall(ctx, o, a, callNetworkFind, countAll, func(ctx context.Context) ([]*metal.Network, error) {
		return o.backend.FindNetworks(ctx, metal.NetworkQuery{Labels: map[string]string{metal.TagManagementCluster: mark}})
	})
	if err == nil {
		networks = slices.DeleteFunc(networks, func(n *metal.Network) bool { return n.Labels[metal.TagManagementCluster] != mark || n.UID() == "" })
		o.identified.mu.Lock()
		o.identified.networks = networks
		o.identified.mu.Unlock()
	}
	ips, _, err := timedCall(ctx, o, a, callIPFind, countAll, func(ctx context.Context) ([]*metal.IP, error) {
		return o.backend.FindIPs(ctx, metal.IPQuery{Tags: []string{metal.Tag(metal.TagManagementCluster, mark)}})
	})
	if err == nil {
		ips = slices.DeleteFunc(ips, func(i *metal.IP) bool { return !hasManagementCluster(i.Tags, mark) || i.UID() == "" })
		o.identified.mu.Lock()
		o.identified.ips = ips
		o.identified.mu.Unlock()
	}
}

// forget drops a network or an address that was freed.
func (i *identifiedMetal) forget(ref metal.Ref) {
	i.mu.Lock()
	defer i.mu.Unlock()
	// What was returned before stays as it is.
	switch ref.Kind {
	case metal.KindNetwork:
		i.networks = slices.DeleteFunc(slices.Clone(i.networks), func(n *metal.Network) bool { return n.ID == ref.ID })
	case metal.KindIP:
		i.ips = slices.DeleteFunc(slices.Clone(i.ips), func(ip *metal.IP) bool { return ip.Address == ref.ID })
	}
}

func hasManagementCluster(tags []string, mark string) bool {
	cluster, _ := metal.TagValue(tags, metal.TagManagementCluster)
	return cluster == mark
}

// Identified returns the allocated machines and firewalls, the networks and the
// addresses that carry the identity of this management cluster, as of the last
// observations; networks and addresses are observed once a minute at most. The caller
// does not change them.
func (o *Observer) Identified() (machines []*metal.Machine, networks []*metal.Network, ips []*metal.IP) {
	if o.opts.ManagementCluster != "" {
		for m := range o.Machines() {
			if m.Allocation != nil && m.UID() != "" && hasManagementCluster(m.Tags, o.opts.ManagementCluster) {
				machines = append(machines, m)
			}
		}
	}
	o.identified.mu.Lock()
	defer o.identified.mu.Unlock()
	return machines, o.identified.networks, o.identified.ips
}
