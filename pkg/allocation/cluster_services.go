// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"slices"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// releaseServiceAddresses frees the ephemeral addresses that only Services of the
// cluster had, and removes the tags of its Services from all others: metal-ccm did so
// only as long as it ran. While machines of the cluster are in its network, they keep
// their addresses: left.
func (o *clusterOperation) releaseServiceAddresses(ctx context.Context, network string, inFlightUntil time.Time) (left bool, err error) {
	// Requests for addresses that began before the release was recorded end first; later
	// ones are refused.
	unlock, err := o.p.addresses.Lock(ctx, o.project)
	if err != nil {
		return true, errInterrupted
	}
	unlock()
	if until, uncertain := o.p.uncertainAddresses.untilOfCluster(o.services(), o.p.clock.Now()); uncertain {
		return true, o.refuseUntil(until)
	}
	addresses, err := o.serviceAddresses(ctx)
	if err != nil || len(addresses) == 0 {
		return err != nil, err
	}
	if running, err := o.hasRunningMachines(ctx, network); err != nil || running {
		return true, err
	}
	for _, ip := range addresses {
		if err := o.releaseServiceAddress(ctx, ip, inFlightUntil); err != nil {
			return true, err
		}
	}
	return false, nil
}

// releaseServiceAddress frees an address that only Services of the cluster have, or removes
// their tags from it. It reads again, and decides anew, if that changes meanwhile.
func (o *clusterOperation) releaseServiceAddress(ctx context.Context, ip *metal.IP, inFlightUntil time.Time) error {
	for ip != nil {
		freeable, err := o.isFreeable(ctx, ip)
		if err != nil {
			return err
		}
		if freeable {
			whose, err := o.freeServiceAddress(ctx, ip, inFlightUntil)
			if err != nil || whose != foreign {
				return err
			}
		}
		if ip, err = o.removeServiceTags(ctx, ip); err != nil {
			return err
		}
	}
	return nil
}

// isFreeable reports whether only Services of the cluster have an address, which is not that
// of a control plane.
func (o *clusterOperation) isFreeable(ctx context.Context, ip *metal.IP) (bool, error) {
	if !o.services().isOnlyOurs(ip) {
		return false, nil
	}
	found, err := o.services().isControlPlaneAddress(ctx, ip.Address)
	return !found, err
}

// hasRunningMachines reports whether machines of the cluster, on which its Services may
// run, are in its network. Those of an adopted cluster may carry another id than the
// cluster's: the CRD provider tags them with the id of the network, and its metal-ccm, if
// it may, with namespace and name (docs/migration.md). The id of a network that clusters
// share does not tell whose machine it is.
func (o *clusterOperation) hasRunningMachines(ctx context.Context, network string) (bool, error) {
	if network == "" {
		return false, nil
	}
	machines, err := o.p.opts.Metal.FindMachines(ctx, metal.MachineQuery{Project: o.project, Networks: []string{network}})
	if err != nil {
		return false, err
	}
	carry := func(ids ...string) bool {
		return slices.ContainsFunc(machines, func(m *metal.Machine) bool {
			id, _ := metal.TagValue(m.Tags, metal.TagCluster)
			return m.Allocation != nil && m.Allocation.Role == metal.RoleMachine && slices.Contains(ids, id)
		})
	}
	if carry(LabelValue(o.identity.cluster), o.ref.namespace+"."+o.ref.name) {
		return true, nil
	}
	if !carry(network) {
		return false, nil
	}
	networks, err := o.p.opts.Metal.FindNetworks(ctx, metal.NetworkQuery{ID: network})
	if err != nil || slices.ContainsFunc(networks, func(n *metal.Network) bool { return n.ID == network && n.Shared }) {
		return false, err
	}
	shared, err := o.p.holdsNetwork(ctx, o.ref.namespace, network)
	return !shared, err
}

// serviceAddresses are the addresses of the project that Services of the cluster have, or
// had.
func (o *clusterOperation) serviceAddresses(ctx context.Context) ([]*metal.IP, error) {
	all, err := o.p.opts.Metal.FindIPs(ctx, metal.IPQuery{Project: o.project})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(ip *metal.IP) bool {
		return ip.Project != o.project || !slices.ContainsFunc(ip.Tags, o.services().isServiceTag) && !o.services().isOnlyOurs(ip)
	}), nil
}

// services are the Services of the cluster, by its cluster id.
func (o *clusterOperation) services() *serviceCluster {
	return &serviceCluster{o.p, o.identity.cluster, o.project, o.ref.namespace}
}

func (o *clusterOperation) freeServiceAddress(ctx context.Context, ip *metal.IP, inFlightUntil time.Time) (ownership, error) {
	whose, err := ensureFreed(ctx, o.p, serviceAddressFreer{o, ip}, inFlightUntil, time.Time{})
	if err != nil {
		return whose, err
	}
	if whose == gone {
		o.p.opts.Observer.LearnFreed(metal.Ref{Kind: metal.KindIP, ID: ip.Address})
	}
	err = o.recordFreed(ctx, func(*infrastructure.ClusterAllocation) {})
	o.p.crashPoint("service-address/released")
	return whose, err
}

// removeServiceTags removes the tags of the cluster's Services from an address that
// others have, too, or that is static. All other tags are kept, as they are right before
// the call: the metal-api replaces them all. It returns the address if it is to be freed by
// then: one without a tag is not known to be the cluster's.
func (o *clusterOperation) removeServiceTags(ctx context.Context, listed *metal.IP) (*metal.IP, error) {
	unlock, err := o.p.addresses.Lock(ctx, o.project)
	if err != nil {
		return nil, errInterrupted
	}
	defer unlock()
	ip, err := o.findAllocation(ctx, listed)
	if err != nil || ip == nil {
		return nil, err
	}
	switch freeable, err := o.isFreeable(ctx, ip); {
	case err != nil:
		return nil, err
	case freeable:
		return ip, nil
	case !slices.ContainsFunc(ip.Tags, o.services().isServiceTag):
		return nil, nil
	}
	if until, uncertain := o.p.uncertainAddresses.untilOfAddress(ip, o.p.clock.Now()); uncertain {
		return nil, o.refuseUntil(until)
	}
	_, err = o.services().replaceTags(ctx, ip, slices.DeleteFunc(slices.Clone(ip.Tags), o.services().isServiceTag))
	o.p.crashPoint("service-address/tags-removed")
	if metal.IsNotFound(err) {
		return nil, nil
	}
	return nil, err
}

// findAllocation reads an address again; nil if it is not allocated any more, or is
// allocated anew.
func (o *clusterOperation) findAllocation(ctx context.Context, listed *metal.IP) (*metal.IP, error) {
	found, err := o.p.opts.Metal.FindIPs(ctx, metal.IPQuery{Address: listed.Address})
	if err != nil {
		return nil, err
	}
	for _, ip := range found {
		if ip.Address == listed.Address && ip.Project == o.project && ip.AllocationUUID == listed.AllocationUUID {
			return ip, nil
		}
	}
	return nil, nil
}

// serviceAddressFreer frees an address that only Services of a cluster have.
type serviceAddressFreer struct {
	*clusterOperation
	ip *metal.IP
}

var _ freer = serviceAddressFreer{}

func (f serviceAddressFreer) what() string { return "service-address" }

func (f serviceAddressFreer) ownership(ctx context.Context) (ownership, error) {
	ip, err := f.findAllocation(ctx, f.ip)
	switch {
	case err != nil:
		return owned, err
	case ip == nil:
		return absent, nil
	}
	if freeable, err := f.isFreeable(ctx, ip); err != nil || freeable {
		return owned, err
	}
	return foreign, nil
}

func (f serviceAddressFreer) begin(ctx context.Context) error {
	return f.beginRelease(ctx, f.p.recordTime())
}

func (f serviceAddressFreer) free(ctx context.Context) error {
	_, err := f.p.opts.Metal.FreeIP(ctx, f.ip.Address)
	return err
}
