package allocation

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// ensureAddress allocates the control plane address, or adopts the one that is named.
func (w *clusterOperation) ensureAddress(ctx context.Context, openUntil time.Time) error {
	if host := w.spec.ControlPlaneEndpoint.Host; host != "" {
		return w.adoptAddress(ctx, host)
	}
	if err := w.checkPublicNetwork(ctx); err != nil {
		return err
	}
	ip, err := ensureAllocated(ctx, w.Protocol, allocating[*metal.IP]{
		what: "address", inFlightUntil: openUntil, begin: w.begin, uncertain: w.recordUncertain, find: w.findAddress,
		call: func(ctx context.Context) (*metal.IP, error) {
			return w.opts.Metal.AllocateIP(ctx, metal.IPRequest{
				Project: w.project, Network: w.spec.PublicNetworkID, Type: metal.TypeStatic, Name: w.ref.name,
				Description: "control plane of MetalStackCluster " + w.ref.namespace + "/" + w.ref.name,
				Tags:        w.identityTags(w.id),
			})
		},
	})
	if err != nil {
		return err
	}
	w.opts.Observer.LearnIP(ip)
	return w.recordAddress(ctx, ip.Address, false)
}

// checkPublicNetwork refuses a spec without a network for the address.
func (w *clusterOperation) checkPublicNetwork(ctx context.Context) error {
	if w.spec.PublicNetworkID == "" {
		return refuseSpec("spec.publicNetworkID is empty, and spec.controlPlaneEndpoint.host too: there is no network for the control plane address")
	}
	_, err := w.findUsableNetwork(ctx, w.spec.PublicNetworkID, w.project)
	return err
}

func (w *clusterOperation) recordAddress(ctx context.Context, address string, adopted bool) error {
	_, err := w.update(ctx, func(c *infrastructure.MetalStackCluster, a *infrastructure.ClusterAllocation) error {
		if a.IPAddress != "" && a.IPAddress != address {
			return refuse(http.StatusConflict, "another operation was faster")
		}
		a.IPAddress, a.IPAdopted = address, adopted
		clearInFlight(&a.AllocationState)
		if c.Spec.ControlPlaneEndpoint.Host == "" {
			c.Spec.ControlPlaneEndpoint.Host = address
		}
		return nil
	})
	w.crashPoint("address/recorded")
	return err
}

// findAddress is findNetwork for the control plane address.
func (w *clusterOperation) findAddress(ctx context.Context) (*metal.IP, bool, error) {
	found, err := w.opts.Metal.FindIPs(ctx, metal.IPQuery{
		Project: w.project, Tags: []string{metal.Tag(metal.TagUID, LabelValue(string(w.id.uid)))},
	})
	if err != nil {
		return nil, false, err
	}
	for _, ip := range found {
		if ip.Project != w.project || ip.UID() != LabelValue(string(w.id.uid)) {
			continue
		}
		if held, err := w.anyOtherCluster(ctx, holdsAddress(ip.Address)); err != nil || !held {
			return ip, err == nil, err
		}
	}
	return nil, false, nil
}

// adoptAddress takes the address that the spec names, if the project has it.
// Any other host is an endpoint that somebody else looks after, unless it is an
// address in a range of metal-stack: another project's is no different from one
// that nobody has.
func (w *clusterOperation) adoptAddress(ctx context.Context, host string) error {
	address, err := netip.ParseAddr(host)
	if err != nil {
		return nil
	}
	ip, err := w.findProjectAddress(ctx, address)
	switch {
	case err != nil:
		return err
	case ip == nil:
		return w.checkExternalAddress(ctx, address)
	}
	uid, err := w.adoptedAddressIdentity(ctx, ip)
	if err != nil {
		return err
	}
	if err := w.adopt(ctx, "address", uid, func(ctx context.Context) error {
		if err := w.checkAddressUnclaimed(ctx, ip); err != nil {
			return err
		}
		again, err := w.findProjectAddress(ctx, address)
		if err == nil && (again == nil || again.AllocationUUID != ip.AllocationUUID) {
			err = refuse(http.StatusConflict, "spec.controlPlaneEndpoint.host: the address %s was given back just now", host)
		}
		return err
	}); err != nil {
		return err
	}
	w.opts.Observer.LearnIP(ip)
	return w.recordAddress(ctx, ip.Address, ip.UID() != LabelValue(string(w.id.uid)))
}

// adoptedAddressIdentity is the identity under which an address is adopted: that of the
// address, if a cluster of this name in this management cluster allocated it and
// the network has no identity already. The address is then the cluster's own
// again. It is how an address is given back that no record names any more. In
// another management cluster a cluster of the same name may still use it.
func (w *clusterOperation) adoptedAddressIdentity(ctx context.Context, ip *metal.IP) (types.UID, error) {
	tag := func(key string) string { value, _ := metal.TagValue(ip.Tags, key); return value }
	if ip.UID() == "" || tag(metal.TagManagementCluster) != LabelValue(w.opts.ManagementCluster) ||
		!w.isOwnName(tag(metal.TagNamespace), tag(metal.TagName)) {
		return w.id.uid, nil
	}
	never := func(*infrastructure.MetalStackCluster) bool { return false }
	switch held, err := w.anyOtherCluster(ctx, claims(ip.UID(), holdsAddress(ip.Address), never)); {
	case err != nil:
		return "", refusalOf(err)
	case held:
		return w.id.uid, nil // The adoption is refused.
	}
	c, err := w.opts.Clusters.Get(ctx, w.ref.namespace, w.ref.name)
	if err != nil {
		return "", err
	}
	if a := clusterAllocation(c); a.NetworkID == "" || a.NetworkAdopted {
		return types.UID(ip.UID()), nil
	}
	return w.id.uid, nil
}

// findProjectAddress looks at an address, which is nil if the project does not have it.
func (w *clusterOperation) findProjectAddress(ctx context.Context, address netip.Addr) (*metal.IP, error) {
	found, err := w.opts.Metal.FindIPs(ctx, metal.IPQuery{Address: address.String(), Project: w.project})
	if err != nil {
		return nil, refusalOf(err)
	}
	for _, ip := range found {
		if ip.Address == address.String() && ip.Project == w.project {
			return ip, nil
		}
	}
	return nil, nil
}

// checkAddressUnclaimed refuses an address that is another cluster's.
func (w *clusterOperation) checkAddressUnclaimed(ctx context.Context, ip *metal.IP) error {
	wants := func(c *infrastructure.MetalStackCluster) bool {
		return isAddress(c.Spec.ControlPlaneEndpoint.Host, ip.Address)
	}
	switch found, err := w.anyOtherCluster(ctx, claims(ip.UID(), holdsAddress(ip.Address), wants)); {
	case err != nil:
		return refusalOf(err)
	case found:
		return refuseSpec("spec.controlPlaneEndpoint.host: the address %s belongs to another cluster", ip.Address)
	}
	return nil
}

// isAddress tells whether a host is an address, in whatever notation.
func isAddress(host, address string) bool {
	parsed, err := netip.ParseAddr(host)
	return err == nil && parsed.String() == address
}

// checkExternalAddress refuses an address in the range of a network. Of a network that the
// project cannot use it does not say which that is.
func (w *clusterOperation) checkExternalAddress(ctx context.Context, address netip.Addr) error {
	networks, err := w.opts.Metal.FindNetworks(ctx, metal.NetworkQuery{})
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
		if contains && n.UsableBy(w.project) {
			return refuseSpec("spec.controlPlaneEndpoint.host: %s lies in network %q and is not allocated to project %s", address, n.ID, w.project)
		}
		taken = taken || contains
	}
	if taken {
		return refuseSpec("spec.controlPlaneEndpoint.host: %s lies in a metal-stack network and is not allocated to project %s", address, w.project)
	}
	return nil
}
