// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"fmt"
	"net/http"

	"k8s.io/apimachinery/pkg/types"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/validation"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// networkAllocator allocates the private network of a cluster.
type networkAllocator struct {
	*clusterOperation
	immediate
}

var _ allocator[*metal.Network] = networkAllocator{}

func (a networkAllocator) what() string { return "network" }

func (a networkAllocator) find(ctx context.Context) (*metal.Network, bool, error) {
	return a.findNetwork(ctx)
}

func (a networkAllocator) allocate(ctx context.Context) (*metal.Network, error) {
	return a.p.opts.Metal.AllocateNetwork(ctx, networkRequest(a.spec.PrivateNetwork, metal.NetworkRequest{
		Project: a.project, Partition: a.spec.Partition, Name: a.ref.name,
		Description: "MetalStackCluster " + a.ref.namespace + "/" + a.ref.name,
		Labels:      a.p.identityLabels(a.identity),
	}))
}

// networkRequest returns a request with the addresses that a spec asks for, if it does.
func networkRequest(addresses *infrastructure.PrivateNetwork, r metal.NetworkRequest) metal.NetworkRequest {
	if addresses != nil {
		r.Lengths = prefixLengths(addresses.PrefixLengths)
		// Without one, the network gets those of the super network.
		if len(addresses.AddressFamilies) == 1 {
			r.AddressFamily = addresses.AddressFamilies[0]
		}
	}
	return r
}

// prefixLengths are lengths of prefixes in the metal-api's terms; nil if there are none.
func prefixLengths(l infrastructure.PrefixLengths) map[string]int64 {
	var lengths map[string]int64
	for family, length := range map[string]int32{metal.AddressFamilyIPv4: l.IPv4, metal.AddressFamilyIPv6: l.IPv6} {
		if length == 0 {
			continue
		}
		if lengths == nil {
			lengths = map[string]int64{}
		}
		lengths[family] = int64(length)
	}
	return lengths
}

func (a networkAllocator) checkOrAdopt(ctx context.Context) (none *metal.Network, ok bool, err error) {
	return nil, false, a.p.checkPrivateNetwork(ctx, a.spec.PrivateNetwork, a.spec.Partition, privateNetworkSpecPath)
}

// checkPrivateNetwork refuses addresses that the partition does not have: the metal-api refuses
// their lengths only while it takes a prefix (docs/metal-api.md, Q68), and an address family
// that it has no length for is left out.
func (p *Protocol) checkPrivateNetwork(ctx context.Context, wanted *infrastructure.PrivateNetwork, partition string, path *field.Path) error {
	if wanted == nil {
		return nil
	}
	found, err := p.opts.Metal.FindNetworks(ctx, metal.NetworkQuery{Partition: partition, PrivateSuper: true})
	if err != nil {
		return refusalOf(err)
	}
	for _, super := range found {
		if !super.PrivateSuper || super.Partition != partition {
			continue
		}
		if errs := validation.ValidatePrivateNetworkIn(wanted, super.Prefixes, super.ChildPrefixLengths, path); len(errs) > 0 {
			return refuseField(errs[0])
		}
	}
	return nil
}

func errNoPartition() error {
	return refuseField(field.Required(partitionPath, "must be the partition to allocate the private network in, unless spec.privateNetworkID is set"))
}

// ensureNetwork allocates the private network, or adopts the one that is named.
func (o *clusterOperation) ensureNetwork(ctx context.Context) error {
	if id := o.spec.PrivateNetworkID; id != "" {
		return o.adoptNetwork(ctx, id)
	}
	if o.spec.Partition == "" {
		return errNoPartition()
	}
	n, err := ensureAllocated(ctx, &o.operation, networkAllocator{clusterOperation: o})
	if err != nil {
		return err
	}
	o.p.opts.Observer.LearnNetwork(n)
	return o.recordNetwork(ctx, n.ID, false)
}

// recordNetwork also names the network and the cluster id in the spec: a `clusterctl
// move` carries that, and never the status.
func (o *clusterOperation) recordNetwork(ctx context.Context, id string, adopted bool) error {
	err := o.updateNetwork(ctx, id, adopted)
	o.p.crashPoint("network/recorded")
	return err
}

func (o *clusterOperation) updateNetwork(ctx context.Context, id string, adopted bool) error {
	if o.spec.ClusterID == "" {
		// No other record has the id until it is recorded.
		unlock, err := o.p.clusterIDs.Lock(ctx, o.project)
		if err != nil {
			return errInterrupted
		}
		defer unlock()
		if err := o.checkClusterIDUnique(ctx); err != nil {
			return err
		}
	}
	_, err := o.update(ctx, func(c *clusterRecord) error {
		a := c.allocation()
		if a.NetworkID != "" && a.NetworkID != id || c.Spec.ClusterID != "" && c.Spec.ClusterID != o.identity.cluster {
			return refuse(http.StatusConflict, "the record was changed by another operation: retry")
		}
		c.Spec.ClusterID = o.identity.cluster
		a.NetworkID, a.NetworkAdopted, a.UID = id, adopted, o.identity.uid
		clearInFlight(&a.AllocationState)
		c.Spec.PrivateNetworkID = id
		return nil
	})
	return err
}

// findNetwork looks for the network that carries the cluster's identity, and that
// no other record names.
func (o *clusterOperation) findNetwork(ctx context.Context) (*metal.Network, bool, error) {
	found, err := o.p.opts.Metal.FindNetworks(ctx, metal.NetworkQuery{
		Project: o.project, Labels: map[string]string{metal.TagUID: LabelValue(string(o.identity.uid))},
	})
	if err != nil {
		return nil, false, err
	}
	for _, n := range found {
		if n.Project != o.project || n.UID() != LabelValue(string(o.identity.uid)) {
			continue
		}
		if found, err := o.anyOtherCluster(ctx, hasNetwork(n.ID)); err != nil || !found {
			return n, err == nil, err
		}
	}
	return nil, false, nil
}

// adoptNetwork takes the network that the spec names. One that this very
// cluster allocated, here or where it was moved from, is its own again, with
// the identity that it had then; any other is not freed on release.
func (o *clusterOperation) adoptNetwork(ctx context.Context, id string) error {
	n, err := o.findProjectNetwork(ctx, id)
	if err != nil {
		return err
	}
	claimed, err := o.p.networkClaim(ctx, func(r *networkRecord) bool { return r.refersTo(n.ID, n.UID()) })
	if err != nil {
		return refusalOf(err)
	}
	uid := o.identity.uid
	own := claimed == nil && o.isOwn(func(key string) string { return n.Labels[key] })
	if own {
		uid = types.UID(n.UID())
	}
	o.takeClusterID(n, claimed != nil)
	if err := o.beginAdoption(ctx, "network", uid, func(ctx context.Context) error {
		if err := o.checkNetworkUnreferenced(ctx, n); err != nil {
			return err
		}
		if err := o.checkNotClaimed(ctx, n, own); err != nil {
			return err
		}
		_, err := o.findProjectNetwork(ctx, id)
		return err
	}); err != nil {
		return err
	}
	o.p.opts.Observer.LearnNetwork(n)
	return o.recordNetwork(ctx, id, !own)
}

// takeClusterID takes the id of the network for that of a cluster without one: metal of the
// cluster may carry it, unless several clusters have the network.
func (o *clusterOperation) takeClusterID(n *metal.Network, claimed bool) {
	if id := n.Labels[metal.TagCluster]; o.clusterID == "" && !n.Shared && !claimed && len(utilvalidation.IsValidLabelValue(id)) == 0 {
		o.clusterID = id
	}
}

// findProjectNetwork is a private network of the project.
func (o *clusterOperation) findProjectNetwork(ctx context.Context, id string) (*metal.Network, error) {
	n, err := o.p.findUsableNetwork(ctx, namedNetwork{privateNetworkPath, id, id}, o.project)
	if err != nil {
		return nil, err
	}
	if n.Project != o.project {
		return nil, refuseField(field.Invalid(privateNetworkPath, id, fmt.Sprintf("is not a private network of project %q: must be one, or omitted to have one allocated", o.project)))
	}
	return n, nil
}

// checkNotClaimed refuses a network whose claim is being released, and one that a claim has by
// now, if the cluster would free it.
func (o *clusterOperation) checkNotClaimed(ctx context.Context, n *metal.Network, own bool) error {
	switch claim, err := o.p.networkClaim(ctx, func(r *networkRecord) bool {
		a := r.allocation()
		// What carries its identity beside a network that it adopted is a duplicate.
		releasing := a.Phase == infrastructure.AllocationReleasing && (!a.Adopted || a.NetworkID != n.ID)
		return r.refersTo(n.ID, n.UID()) && (own || releasing)
	}); {
	case err != nil:
		return refusalOf(err)
	case claim != nil:
		return refuse(http.StatusConflict, "spec.privateNetworkID: network %s is being adopted or released by a MetalStackNetwork: retry", n.ID)
	}
	return nil
}

// checkNetworkUnreferenced refuses a network that is another cluster's. One that a claim of the
// namespace holds is for several clusters.
func (o *clusterOperation) checkNetworkUnreferenced(ctx context.Context, n *metal.Network) error {
	if n.Shared {
		return nil
	}
	switch shared, err := o.p.holdsNetwork(ctx, o.ref.namespace, n.ID); {
	case err != nil:
		return refusalOf(err)
	case shared:
		return nil
	}
	wants := func(c *clusterRecord) bool { return c.Spec.PrivateNetworkID == n.ID }
	switch found, err := o.anyOtherCluster(ctx, refersTo(n.UID(), hasNetwork(n.ID), wants)); {
	case err != nil:
		return refusalOf(err)
	case found:
		return refuseField(field.Invalid(privateNetworkPath, n.ID, "belongs to another MetalStackCluster: must be a network that no other one has, or that a MetalStackNetwork of the namespace holds, or omitted to have one allocated"))
	}
	return nil
}
