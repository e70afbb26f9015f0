// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// LookupNetwork looks up a network of any kind and any project. If it is not
// one that the project could use, all are those: its own, shared ones and those
// without a project.
func (c *Catalogue) LookupNetwork(ctx context.Context, id, project string) (network *metal.Network, all []string, err error) {
	network, err = c.network.lookup(ctx, id)
	switch {
	case network != nil && network.UsableBy(project):
		return network, nil, nil
	case err != nil:
		return nil, nil, err
	}
	// That the list cannot be had makes no id less unknown.
	known, _ := c.knownNetworks(ctx, id)
	for _, n := range known {
		if n.UsableBy(project) {
			all = append(all, n.ID)
		}
	}
	slices.Sort(all)
	return network, all, nil
}

// LookupSuperNetwork looks up the network that private networks of a partition are
// allocated from, as of the last time that networks were listed; nil if none is known.
func (c *Catalogue) LookupSuperNetwork(ctx context.Context, partition string) (*metal.Network, error) {
	known, err := c.knownNetworks(ctx, "super network of "+partition)
	if i := slices.IndexFunc(known, func(n *metal.Network) bool { return n.PrivateSuper && n.Partition == partition }); i >= 0 {
		return known[i], nil
	}
	return nil, err
}

// knownNetworks are all networks, as of the last time that they were listed.
func (c *Catalogue) knownNetworks(ctx context.Context, wanted string) ([]*metal.Network, error) {
	c.networks.refreshIfDue()
	entries, err := c.networks.entries(ctx, wanted, func(entries []*metal.Network) bool { return entries != nil })
	if entries != nil {
		err = nil
	}
	return entries, err
}

// LookupMachine looks up a machine that a project can have: one that is
// not allocated, or its own. A machine of another project is as unknown as none.
func (c *Catalogue) LookupMachine(ctx context.Context, id, project string) (*metal.Machine, error) {
	m, err := c.machine.lookup(ctx, id)
	if m == nil && err == nil && c.facts != nil {
		m, _ = c.facts.Machine(id)
	}
	if m != nil && (m.Allocation == nil || m.Project() == project) {
		return m, nil
	}
	return nil, err
}

// AcquireMachineLookup counts one read of a machine past the cache, which the caller makes,
// against the limits of look-ups, or refuses it.
func (c *Catalogue) AcquireMachineLookup(ctx context.Context, id string) error {
	if err := c.machine.acquire(ctx); err != nil {
		return unavailable(c.machine.entity, id, time.Time{}, err)
	}
	return nil
}

// LookupPowerState looks up what a machine's controller reported last, of any machine; nil if
// it is not known.
func (c *Catalogue) LookupPowerState(ctx context.Context, id string) (*metal.PowerState, error) {
	return c.power.lookup(ctx, id)
}

// LookupAddress looks up an address of a project. If the project has none such,
// it returns the network that the address would have to be allocated in: one
// that the project can use, if there is such a one, or else any. A private
// network of a project lies in the range that its partition sets aside for
// all of them, so that it does not matter whether there is one. No network means
// that the address is not metal-stack's.
func (c *Catalogue) LookupAddress(ctx context.Context, address netip.Addr, project string) (ip *metal.IP, in *metal.Network, err error) {
	ip, err = c.address.lookup(ctx, address.String())
	if ip != nil && ip.Project == project {
		return ip, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	networks, err := c.knownNetworks(ctx, address.String())
	if err != nil {
		return nil, nil, err
	}
	for _, n := range networks {
		switch {
		case !n.Contains(address):
		case n.UsableBy(project):
			return nil, n, nil
		case in == nil:
			in = n
		}
	}
	return nil, in, nil
}
