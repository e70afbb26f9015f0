// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// addressAllocator allocates the control plane address of a cluster.
type addressAllocator struct {
	*clusterOperation
	immediate
}

var _ allocator[*metal.IP] = addressAllocator{}

func (a addressAllocator) what() string { return "address" }

func (a addressAllocator) find(ctx context.Context) (*metal.IP, bool, error) {
	return a.findAddress(ctx)
}

// checkOrAdopt refuses a network that is being released.
func (a addressAllocator) checkOrAdopt(ctx context.Context) (none *metal.IP, ok bool, err error) {
	return nil, false, a.p.checkNetworksNotReleasing(ctx, a.spec.PublicNetworkID)
}

func (a addressAllocator) allocate(ctx context.Context) (*metal.IP, error) {
	return a.p.opts.Metal.AllocateIP(ctx, metal.IPRequest{
		Project: a.project, Network: a.spec.PublicNetworkID, Type: metal.TypeStatic, Name: a.ref.name,
		Description: a.addressDescription(),
		Tags:        a.p.identityTags(a.identity),
	})
}

// addressDescription is what the metal-api shows of an address that was allocated for the cluster.
func (o *clusterOperation) addressDescription() string {
	return "control plane of MetalStackCluster " + o.ref.namespace + "/" + o.ref.name
}

// ensureAddress allocates the control plane address, or adopts the one that is named. An
// endpoint that the control plane's provider brings is no metal of the cluster, whichever
// it is: it is neither recorded nor looked for.
func (o *clusterOperation) ensureAddress(ctx context.Context) error {
	if !o.spec.AllocatesEndpoint() {
		return nil
	}
	if host := o.spec.ControlPlaneEndpoint.Host; host != "" {
		return o.adoptAddress(ctx, host)
	}
	if !o.inFlightUntil.IsZero() {
		// The check below says nothing of an attempt whose outcome is not known.
		ip, ok, err := awaitOutcome[*metal.IP](ctx, o.p, addressAllocator{clusterOperation: o}, o.inFlightUntil, o.recordUncertain)
		switch {
		case err != nil:
			return err
		case ok:
			return o.recordAllocatedAddress(ctx, ip)
		}
		o.inFlightUntil = time.Time{}
	}
	if err := o.checkPublicNetwork(ctx); err != nil {
		return err
	}
	ip, err := ensureAllocated(ctx, &o.operation, addressAllocator{clusterOperation: o})
	if err != nil {
		return err
	}
	return o.recordAllocatedAddress(ctx, ip)
}

// recordAllocatedAddress records the address that was allocated for the cluster.
func (o *clusterOperation) recordAllocatedAddress(ctx context.Context, ip *metal.IP) error {
	o.p.opts.Observer.LearnIP(ip)
	return o.recordAddress(ctx, ip.Address, false)
}

// checkPublicNetwork refuses a spec without a network for the address.
func (o *clusterOperation) checkPublicNetwork(ctx context.Context) error {
	if o.spec.PublicNetworkID == "" {
		return refuseField(field.Required(publicNetworkPath, "must be the network to allocate the control plane's address in, unless spec.controlPlaneEndpoint.host is set"))
	}
	id := o.spec.PublicNetworkID
	_, err := o.p.findUsableNetwork(ctx, namedNetwork{publicNetworkPath, id, id}, o.project)
	return err
}

func (o *clusterOperation) recordAddress(ctx context.Context, address string, adopted bool) error {
	_, err := o.update(ctx, func(c *clusterRecord) error {
		a := c.allocation()
		if a.IPAddress != "" && a.IPAddress != address {
			return refuse(http.StatusConflict, "the record was changed by another operation: retry")
		}
		a.IPAddress, a.IPAdopted = address, adopted
		clearInFlight(&a.AllocationState)
		if c.Spec.ControlPlaneEndpoint.Host == "" {
			c.Spec.ControlPlaneEndpoint.Host = address
		}
		return nil
	})
	o.p.crashPoint("address/recorded")
	return err
}

// findAddress is findNetwork for the control plane address.
func (o *clusterOperation) findAddress(ctx context.Context) (*metal.IP, bool, error) {
	found, err := o.p.opts.Metal.FindIPs(ctx, metal.IPQuery{
		Project: o.project, Tags: []string{metal.Tag(metal.TagUID, LabelValue(string(o.identity.uid)))},
	})
	if err != nil {
		return nil, false, err
	}
	for _, ip := range found {
		if ip.Project != o.project || ip.UID() != LabelValue(string(o.identity.uid)) {
			continue
		}
		if found, err := o.anyOtherCluster(ctx, hasAddress(ip.Address)); err != nil || !found {
			return ip, err == nil, err
		}
	}
	return nil, false, nil
}

// adoptAddress takes the address that the spec names, if the project has it.
// Any other host is an external endpoint, unless it is an address in a network of
// metal-stack: another project's is refused like one that is not allocated.
func (o *clusterOperation) adoptAddress(ctx context.Context, host string) error {
	address, err := netip.ParseAddr(host)
	if err != nil {
		return nil
	}
	ip, err := o.findProjectAddress(ctx, address)
	switch {
	case err != nil:
		return err
	case ip == nil:
		return o.checkExternalAddress(ctx, address)
	}
	uid, err := o.adoptedAddressIdentity(ctx, ip)
	if err != nil {
		return err
	}
	if err := o.beginAdoption(ctx, "address", uid, func(ctx context.Context) error {
		if err := o.checkAddressUnreferenced(ctx, ip); err != nil {
			return err
		}
		if err := o.checkClaimOfAddress(ctx, ip, uid); err != nil {
			return err
		}
		again, err := o.findProjectAddress(ctx, address)
		if err == nil && (again == nil || again.AllocationUUID != ip.AllocationUUID) {
			err = refuse(http.StatusConflict, "spec.controlPlaneEndpoint.host: address %s was released meanwhile: retry", host)
		}
		return err
	}); err != nil {
		return err
	}
	o.p.opts.Observer.LearnIP(ip)
	return o.recordAddress(ctx, ip.Address, ip.UID() != LabelValue(string(o.identity.uid)))
}

// adoptedAddressIdentity is the identity under which an address is adopted: that
// of the address, if a cluster of this name in this management cluster allocated
// it and the network has no identity already. The address is then the cluster's
// own again, and released with it, even if no record named it any more. In another
// management cluster a cluster of the same name may still use it.
func (o *clusterOperation) adoptedAddressIdentity(ctx context.Context, ip *metal.IP) (types.UID, error) {
	tag := func(key string) string { value, _ := metal.TagValue(ip.Tags, key); return value }
	if tag(metal.TagManagementCluster) != LabelValue(o.p.opts.ManagementCluster) || !o.isOwn(tag) {
		return o.identity.uid, nil
	}
	switch claim, err := o.p.ipClaim(ctx, o.project, func(r *ipRecord) bool { return r.refersTo(ip.Address, ip.UID()) }); {
	case err != nil:
		return "", refusalOf(err)
	case claim != nil:
		return o.identity.uid, nil // It is released with the claim.
	}
	never := func(*clusterRecord) bool { return false }
	switch found, err := o.anyOtherCluster(ctx, refersTo(ip.UID(), hasAddress(ip.Address), never)); {
	case err != nil:
		return "", refusalOf(err)
	case found:
		return o.identity.uid, nil // The adoption is refused.
	}
	c, err := o.records.get(ctx, o.ref.namespace, o.ref.name)
	if err != nil {
		return "", err
	}
	if a := c.allocation(); a.NetworkID == "" || a.NetworkAdopted {
		return types.UID(ip.UID()), nil
	}
	return o.identity.uid, nil
}

// checkClaimOfAddress refuses an address whose claim is being released, and one that a claim
// has by now, if the cluster would free it.
func (o *clusterOperation) checkClaimOfAddress(ctx context.Context, ip *metal.IP, uid types.UID) error {
	own := ip.UID() == LabelValue(string(uid))
	switch claim, err := o.p.ipClaim(ctx, o.project, func(r *ipRecord) bool {
		a := r.allocation()
		// What carries its identity beside an address that it adopted is a duplicate.
		releasing := a.Phase == infrastructure.AllocationReleasing && (!a.Adopted || a.Address != ip.Address)
		return r.refersTo(ip.Address, ip.UID()) && (own || releasing)
	}); {
	case err != nil:
		return refusalOf(err)
	case claim != nil:
		return refuse(http.StatusConflict, "spec.controlPlaneEndpoint.host: address %s is being adopted or released by a MetalStackIP: retry", ip.Address)
	}
	return nil
}

func (o *clusterOperation) findProjectAddress(ctx context.Context, address netip.Addr) (*metal.IP, error) {
	return o.p.findProjectAddress(ctx, o.project, address)
}

// findProjectAddress returns an address, nil if it is not the project's.
func (p *Protocol) findProjectAddress(ctx context.Context, project string, address netip.Addr) (*metal.IP, error) {
	found, err := p.opts.Metal.FindIPs(ctx, metal.IPQuery{Address: address.String(), Project: project})
	if err != nil {
		return nil, refusalOf(err)
	}
	for _, ip := range found {
		if ip.Address == address.String() && ip.Project == project {
			return ip, nil
		}
	}
	return nil, nil
}

// checkAddressUnreferenced refuses an address that is another cluster's.
func (o *clusterOperation) checkAddressUnreferenced(ctx context.Context, ip *metal.IP) error {
	wants := func(c *clusterRecord) bool {
		return c.Spec.AllocatesEndpoint() && isAddress(c.Spec.ControlPlaneEndpoint.Host, ip.Address)
	}
	switch found, err := o.anyOtherCluster(ctx, refersTo(ip.UID(), hasAddress(ip.Address), wants)); {
	case err != nil:
		return refusalOf(err)
	case found:
		return refuseField(field.Invalid(endpointHostPath, o.spec.ControlPlaneEndpoint.Host, "belongs to another MetalStackCluster: must be an address that no other one has, or omitted to have one allocated"))
	}
	return nil
}

// isAddress reports whether a host is an address, in whatever notation.
func isAddress(host, address string) bool {
	parsed, err := netip.ParseAddr(host)
	return err == nil && parsed.String() == address
}

const allowedHosts = "must be an address that the project has allocated, an address outside of metal-stack, or a DNS name, or omitted to have an address allocated"

// checkExternalAddress refuses an address in the range of a network. Of a network that the
// project cannot use it does not say which that is.
func (o *clusterOperation) checkExternalAddress(ctx context.Context, address netip.Addr) error {
	networks, err := o.p.opts.Metal.FindNetworks(ctx, metal.NetworkQuery{})
	if err != nil {
		// One network that was freed halfway spoils every list (docs/metal-api.md, Q50), and nothing
		// of an address that is not recorded is ever touched.
		if r := refusalOf(err); r.code == http.StatusServiceUnavailable {
			return r
		}
		return nil
	}
	taken := false
	for _, n := range networks {
		contains := n.Contains(address)
		if contains && n.UsableBy(o.project) {
			return refuseField(field.Invalid(endpointHostPath, o.spec.ControlPlaneEndpoint.Host, fmt.Sprintf("is in network %q and is not allocated to project %q: %s", n.ID, o.project, allowedHosts)))
		}
		taken = taken || contains
	}
	if taken {
		return refuseField(field.Invalid(endpointHostPath, o.spec.ControlPlaneEndpoint.Host, fmt.Sprintf("is in a metal-stack network and is not allocated to project %q: %s", o.project, allowedHosts)))
	}
	return nil
}
