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
// only as long as it ran. While machines in the cluster's network carry the cluster id,
// they keep their addresses.
func (o *clusterOperation) releaseServiceAddresses(ctx context.Context, network string, inFlightUntil time.Time) error {
	// Requests for addresses that began before the release was recorded end first; later
	// ones are refused.
	unlock, err := o.p.addresses.Lock(ctx, o.project)
	if err != nil {
		return errInterrupted
	}
	unlock()
	addresses, err := o.serviceAddresses(ctx)
	if err != nil || len(addresses) == 0 {
		return err
	}
	if network != "" {
		machines, err := o.p.opts.Metal.FindMachines(ctx, metal.MachineQuery{
			Project: o.project, Networks: []string{network}, Tags: []string{metal.Tag(metal.TagCluster, LabelValue(o.identity.cluster))},
		})
		if err != nil || len(machines) > 0 {
			return err
		}
	}
	for _, ip := range addresses {
		if o.services().isOnlyOurs(ip) {
			err = o.freeServiceAddress(ctx, ip, inFlightUntil)
		} else {
			err = o.removeServiceTags(ctx, ip)
		}
		if err != nil {
			return err
		}
	}
	return nil
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
	return &serviceCluster{o.p, o.identity.cluster, o.project}
}

func (o *clusterOperation) freeServiceAddress(ctx context.Context, ip *metal.IP, inFlightUntil time.Time) error {
	whose, err := ensureFreed(ctx, o.p, serviceAddressFreer{o, ip}, inFlightUntil, time.Time{})
	if err != nil {
		return err
	}
	if whose == gone {
		o.p.opts.Observer.LearnFreed(metal.Ref{Kind: metal.KindIP, ID: ip.Address})
	}
	err = o.recordFreed(ctx, func(*infrastructure.ClusterAllocation) {})
	o.p.crashPoint("service-address/released")
	return err
}

// removeServiceTags removes the tags of the cluster's Services from an address that
// others have, too, or that is static. All other tags are kept, as they are right before
// the call: the metal-api replaces them all.
func (o *clusterOperation) removeServiceTags(ctx context.Context, listed *metal.IP) error {
	unlock, err := o.p.addresses.Lock(ctx, o.project)
	if err != nil {
		return errInterrupted
	}
	defer unlock()
	ip, err := o.findAllocation(ctx, listed)
	if err != nil || ip == nil || !slices.ContainsFunc(ip.Tags, o.services().isServiceTag) {
		return err
	}
	_, err = o.p.opts.Metal.SetIPTags(ctx, ip.Address, slices.DeleteFunc(slices.Clone(ip.Tags), o.services().isServiceTag))
	o.p.crashPoint("service-address/tags-removed")
	if metal.IsNotFound(err) {
		return nil
	}
	return err
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
	case !f.services().isOnlyOurs(ip):
		return foreign, nil
	}
	return owned, nil
}

func (f serviceAddressFreer) begin(ctx context.Context) error {
	return f.beginRelease(ctx, f.p.recordTime())
}

func (f serviceAddressFreer) free(ctx context.Context) error {
	_, err := f.p.opts.Metal.FreeIP(ctx, f.ip.Address)
	return err
}
