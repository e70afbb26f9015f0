// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// releaseCluster frees the addresses of Services, the control plane's address and then
// the network of a cluster that has no machines any more; what was adopted is kept.
func (p *Protocol) releaseCluster(ctx context.Context, ref objectRef, uid types.UID) (*clusterRecord, error) {
	c, err := p.clusters.get(ctx, ref.namespace, ref.name)
	if err != nil {
		return nil, err
	}
	a := c.allocation().DeepCopy()
	if err := checkUID(&c.ObjectMeta, uid); err != nil {
		return nil, err
	}
	if a.Phase == infrastructure.AllocationReleased {
		return c, nil
	}
	o, err := p.newClusterOperation(ref, c)
	if err != nil {
		return nil, err
	}
	o.observed, o.dryRun = observedStateOf(&a.AllocationState), IsDryRun(ctx)
	freeInFlightUntil := p.freeInFlightUntil(&a.AllocationState)
	o.freeInFlightUntil = freeInFlightUntil
	if a.Phase == infrastructure.AllocationReleasing {
		if err := p.checkBackoff(c); err != nil {
			return nil, err
		}
	} else if err := p.checkMarkedBeforeTakeover(&c.ObjectMeta); err != nil {
		return nil, err
	}
	switch {
	case o.dryRun:
		return c, o.dryRunRelease(ctx, a)
	case a.Phase != infrastructure.AllocationReleasing:
		// They are checked before, so that a release that comes too early changes
		// nothing, and after, so that no machine joins unnoticed.
		if err := o.checkNoDependents(ctx); err != nil {
			return nil, err
		}
		// No call that frees is in flight yet; but an attempt's may be, of which a
		// recovery after a crash has to know.
		var start *metav1.Time
		if !o.inFlightUntil.IsZero() {
			start = p.recordTime()
		}
		if err := o.beginRelease(ctx, start); err != nil {
			return nil, err
		}
		p.crashPoint("cluster/releasing")
	}
	// This comes first, since a refusal below records that no call is in flight.
	if a.Attempt > 0 {
		if err := o.findUnrecorded(ctx, a); err != nil {
			return nil, o.recordReleaseRefusal(ctx, asRefusal(err))
		}
	}
	if err := o.checkNoDependents(ctx); err != nil {
		return nil, o.recordReleaseRefusal(ctx, err)
	}
	left := false
	if infrastructure.ClusterID(c.MetalStackCluster) != "" {
		if left, err = o.releaseServiceAddresses(ctx, a.NetworkID, freeInFlightUntil); err != nil {
			return nil, o.recordReleaseRefusal(ctx, asRefusal(err))
		}
	}
	if !left {
		// No call of before is about an address of a Service any more.
		o.freeInFlightUntil = time.Time{}
	}
	if err := o.releaseAddress(ctx, a, freeInFlightUntil); err != nil {
		return nil, o.recordReleaseRefusal(ctx, err)
	}
	// A call of an earlier release was about the address as long as one was
	// recorded: once that is gone, none about the network is in flight.
	if o.observed.start == nil {
		freeInFlightUntil = time.Time{}
	}
	if err := o.releaseNetwork(ctx, a, freeInFlightUntil); err != nil {
		return nil, o.recordReleaseRefusal(ctx, err)
	}
	if a.Attempt > 0 {
		if err := o.releaseDuplicates(ctx, freeInFlightUntil); err != nil {
			return nil, o.recordReleaseRefusal(ctx, asRefusal(err))
		}
	}
	return o.recordReleased(ctx, infrastructure.ReasonReleased, "Network and address were released; adopted ones were kept.")
}

// releaseDuplicates frees what carries the cluster's identity, but was never
// recorded.
func (o *clusterOperation) releaseDuplicates(ctx context.Context, inFlightUntil time.Time) error {
	for {
		ip, found, err := o.findAddress(ctx)
		if err != nil {
			return err
		}
		if !found {
			break
		}
		if err := o.releaseAddress(ctx, &infrastructure.ClusterAllocation{IPAddress: ip.Address}, inFlightUntil); err != nil {
			return err
		}
	}
	for {
		n, found, err := o.findNetwork(ctx)
		if err != nil || !found {
			return err
		}
		if err := o.releaseNetwork(ctx, &infrastructure.ClusterAllocation{NetworkID: n.ID}, inFlightUntil); err != nil {
			return err
		}
	}
}

// checkNoDependents refuses to release a cluster whose machines hold metal, or are
// getting it.
func (o *clusterOperation) checkNoDependents(ctx context.Context) error {
	n := 0
	for _, k := range []*machineLikeKind{o.p.machines, o.p.firewalls} {
		all, err := k.list(ctx)
		if err != nil {
			return err
		}
		for _, s := range all {
			a := s.allocation()
			if s.meta.Namespace == o.ref.namespace && a.ClusterName == o.ref.name &&
				a.Phase != "" && a.Phase != infrastructure.AllocationReleased {
				n++
			}
		}
	}
	if n > 0 {
		return refuse(http.StatusConflict, "%d machines and firewalls of the cluster are allocated or being allocated: waiting for their release", n)
	}
	return nil
}

// findUnrecorded finds what an attempt that was not finished may have allocated.
func (o *clusterOperation) findUnrecorded(ctx context.Context, a *infrastructure.ClusterAllocation) error {
	if a.NetworkID == "" && o.spec.PrivateNetworkID == "" {
		n, found, err := awaitOutcome[*metal.Network](ctx, o.p, networkAllocator{clusterOperation: o}, o.inFlightUntil, nil)
		if err != nil {
			return err
		}
		if found {
			a.NetworkID = n.ID
			if err := o.recordNetwork(ctx, n.ID, false); err != nil {
				return err
			}
		}
	}
	if a.IPAddress == "" && o.spec.ControlPlaneEndpoint.Host == "" {
		ip, found, err := awaitOutcome[*metal.IP](ctx, o.p, addressAllocator{clusterOperation: o}, o.inFlightUntil, nil)
		if err != nil {
			return err
		}
		if found {
			a.IPAddress = ip.Address
			return o.recordAddress(ctx, ip.Address, false)
		}
	}
	return nil
}

// releaseAddress frees the control plane address, and records that.
func (o *clusterOperation) releaseAddress(ctx context.Context, a *infrastructure.ClusterAllocation, inFlightUntil time.Time) error {
	if a.IPAddress == "" || a.IPAdopted {
		return nil
	}
	if _, err := ensureFreed(ctx, o.p, addressFreer{o, a.IPAddress}, inFlightUntil, time.Time{}); err != nil {
		return err
	}
	o.p.opts.Observer.LearnFreed(metal.Ref{Kind: metal.KindIP, ID: a.IPAddress})
	err := o.recordFreed(ctx, func(r *infrastructure.ClusterAllocation) { r.IPAddress = "" })
	o.p.crashPoint("address/released")
	return err
}

// recordFreed records what a call freed, and that none is in flight until the next,
// unless another operation has begun one since, or one of before may be about something else.
func (o *clusterOperation) recordFreed(ctx context.Context, change func(*infrastructure.ClusterAllocation)) error {
	observed := o.observed
	_, err := o.update(ctx, func(c *clusterRecord) error {
		r := c.allocation()
		change(r)
		if o.observed.matches(&r.AllocationState) && !o.mayBeInFlight() {
			r.StartTime = nil
		}
		observed = observedStateOf(&r.AllocationState)
		return nil
	})
	if err == nil && observed.start == nil {
		o.observed = observed
	}
	return err
}

// addressFreer frees the control plane address of a cluster.
type addressFreer struct {
	*clusterOperation
	address string
}

var _ freer = addressFreer{}

func (f addressFreer) what() string { return "address" }

func (f addressFreer) ownership(ctx context.Context) (ownership, error) {
	return f.addressOwnership(ctx, f.address)
}

func (f addressFreer) begin(ctx context.Context) error { return f.beginRelease(ctx, f.p.recordTime()) }

func (f addressFreer) free(ctx context.Context) error {
	_, err := f.p.opts.Metal.FreeIP(ctx, f.address)
	return err
}

// addressOwnership says whose an address is that the cluster has recorded as allocated for it. One
// that has no identity any more, and is still described as the cluster's, is refused, as such a
// network is. Unlike a network's id, an address can have been allocated again since: without the
// description it is taken for another's.
func (o *clusterOperation) addressOwnership(ctx context.Context, address string) (ownership, error) {
	found, err := o.p.opts.Metal.FindIPs(ctx, metal.IPQuery{Address: address})
	if err != nil {
		return owned, err
	}
	for _, ip := range found {
		switch {
		case ip.Address != address:
			continue
		case ip.Project == o.project && ip.UID() == "" && ip.Description == o.addressDescription():
			return owned, refuse(http.StatusConflict,
				"control plane address %s is recorded, but lost its identity tag %s, and is not freed: restore the tag, or free the address with `metalctl network ip delete %s`",
				address, metal.Tag(metal.TagUID, LabelValue(string(o.identity.uid))), address)
		case ip.Project != o.project || ip.UID() != LabelValue(string(o.identity.uid)):
			return foreign, nil
		case ip.MachineID() != "":
			return owned, refuse(http.StatusConflict, "control plane address %s is in use by machine %s", address, ip.MachineID())
		}
		return owned, nil
	}
	return absent, nil
}

// maxEmptyChecks is how often it is checked whether a network is empty: its last
// addresses are gone a moment after their machines.
const maxEmptyChecks = 5

// releaseNetwork frees the private network once nothing is in it.
func (o *clusterOperation) releaseNetwork(ctx context.Context, a *infrastructure.ClusterAllocation, inFlightUntil time.Time) error {
	if a.NetworkID == "" || a.NetworkAdopted {
		return nil
	}
	network := networkFreer{o, a.NetworkID}
	if err := o.p.awaitNetworkEmpty(ctx, network.ownership); err != nil {
		return err
	}
	if _, err := ensureFreed(ctx, o.p, network, inFlightUntil, time.Time{}); err != nil {
		return err
	}
	o.p.opts.Observer.LearnFreed(metal.Ref{Kind: metal.KindNetwork, ID: a.NetworkID})
	return nil
}

// awaitNetworkEmpty returns a moment after a read found nothing in a network, or that it is not
// owned any more.
func (p *Protocol) awaitNetworkEmpty(ctx context.Context, ownership func(ctx context.Context) (ownership, error)) error {
	for reads := 1; ; reads++ {
		whose, err := ownership(ctx)
		if err == nil && whose != owned {
			break
		}
		if err != nil && reads == maxEmptyChecks {
			return asRefusal(err)
		}
		// An address is gone from the list a moment before it is back in its
		// prefix, and a dual-stack network that is freed in between is wrecked
		// for good (docs/metal-api.md, Q50).
		if pauseErr := p.pause(ctx, p.timing.NetworkFreeDelay); pauseErr != nil {
			return pauseErr
		}
		if err == nil {
			break
		}
	}
	p.crashPoint("network/empty")
	return nil
}

// networkFreer frees the private network of a cluster.
type networkFreer struct {
	*clusterOperation
	id string
}

var _ freer = networkFreer{}

func (f networkFreer) what() string { return "network" }

// ownership also refuses a network in which an attempt may allocate something: since the release
// is recorded, none begins any more. The attempts are read before the addresses: what they
// allocated by then is among these.
func (f networkFreer) ownership(ctx context.Context) (ownership, error) {
	whose, err := f.p.networkOwnership(ctx, f.project, f.identity.uid, f.id)
	if err != nil || whose != owned {
		return whose, err
	}
	attempts, err := f.p.attemptsInNetwork(ctx, f.project, f.id)
	if err != nil {
		return owned, err
	}
	if err := attempts.refusal("private network " + f.id); err != nil {
		return owned, err
	}
	return owned, f.p.checkNetworkEmpty(ctx, f.id, nil)
}

func (f networkFreer) begin(ctx context.Context) error { return f.beginRelease(ctx, f.p.recordTime()) }

func (f networkFreer) free(ctx context.Context) error {
	_, err := f.p.opts.Metal.FreeNetwork(ctx, f.id)
	return err
}

// networkOwnershipWithout says whose a network is, of an object of the project with the identity
// uid. It refuses one that still has machines or addresses, as if some addresses were freed.
func (p *Protocol) networkOwnershipWithout(ctx context.Context, project string, uid types.UID, id string, freed sets.Set[string]) (ownership, error) {
	whose, err := p.networkOwnership(ctx, project, uid, id)
	if err != nil || whose != owned {
		return whose, err
	}
	return owned, p.checkNetworkEmpty(ctx, id, freed)
}

// networkOwnership says whose a network is that an object of the project, with the identity uid,
// has recorded as allocated for it. One of the project without any identity is refused: it has lost
// its labels, or was disowned, which the metal-api does not tell apart; freeing it could take it from
// whom it was left to, and taking it for another's would leave it to none.
func (p *Protocol) networkOwnership(ctx context.Context, project string, uid types.UID, id string) (ownership, error) {
	found, err := p.opts.Metal.FindNetworks(ctx, metal.NetworkQuery{ID: id})
	if err != nil {
		return owned, err
	}
	i := slices.IndexFunc(found, func(n *metal.Network) bool { return n.ID == id })
	switch {
	case i < 0:
		return absent, nil
	case found[i].Project == project && found[i].UID() == "":
		return owned, refuse(http.StatusConflict,
			"network %s is recorded, but lost its identity label %s, and is not freed: restore the label, or free the network with `metalctl network free %s`",
			id, metal.Tag(metal.TagUID, LabelValue(string(uid))), id)
	case found[i].Project != project || found[i].UID() != LabelValue(string(uid)):
		return foreign, nil
	}
	return owned, nil
}

// checkNetworkEmpty refuses a network that has machines or addresses, of whatever family, as if
// some addresses were freed.
func (p *Protocol) checkNetworkEmpty(ctx context.Context, id string, freed sets.Set[string]) error {
	machines, err := p.opts.Metal.FindMachines(ctx, metal.MachineQuery{Networks: []string{id}})
	if err != nil {
		return err
	}
	if len(machines) > 0 {
		return refuse(http.StatusConflict, "private network %s is in use by %s", id, counted(len(machines), "machine", "machines"))
	}
	addresses, err := p.opts.Metal.FindIPs(ctx, metal.IPQuery{Network: id})
	if err != nil {
		return err
	}
	addresses = slices.DeleteFunc(addresses, func(ip *metal.IP) bool { return freed.Has(ip.Address) })
	if len(addresses) > 0 {
		return refuse(http.StatusConflict, "private network %s has %s, the first is %s", id,
			counted(len(addresses), "allocated address", "allocated addresses"), addresses[0].Address)
	}
	return nil
}

// counted is a number of things, in words.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
