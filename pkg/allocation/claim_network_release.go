// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

func (o *networkOperation) findUnrecorded(ctx context.Context) error {
	if o.allocation.NetworkID != "" {
		return nil
	}
	if o.spec.NetworkID != "" {
		// An adoption makes no call; its attempt may have been about to have again what a
		// claim that was moved allocated.
		o.inFlightUntil = time.Time{}
	}
	n, found, err := awaitOutcome[*metal.Network](ctx, o.p, networkClaimAllocator{networkOperation: o}, o.inFlightUntil, nil)
	if err != nil || !found {
		return err
	}
	return o.recordOwn(ctx, n)
}

// recordOwn records a network that carries the claim's identity, to be freed.
func (o *networkOperation) recordOwn(ctx context.Context, n *metal.Network) error {
	o.allocation.NetworkID, o.allocation.Adopted = n.ID, false
	return o.recordWhileReleasing(ctx, func(r *networkRecord) {
		r.allocation().NetworkID, r.allocation().Adopted = n.ID, false
	})
}

func (o *networkOperation) recordDuplicate(ctx context.Context) (found bool, err error) {
	n, found, err := networkClaimAllocator{networkOperation: o}.find(ctx)
	if err != nil || !found {
		return false, err
	}
	err = o.recordOwn(ctx, n)
	o.p.crashPoint(o.traits.step + "/recorded")
	return true, err
}

// frees reports whether a release frees the network.
func (o *networkOperation) frees() bool {
	return o.allocation.NetworkID != "" && !o.allocation.Adopted
}

// checkUnused refuses a network that clusters name, or that has machines or addresses. One that
// was adopted is kept, but only the claim allows that several clusters have it.
func (o *networkOperation) checkUnused(ctx context.Context) error {
	switch id := o.allocation.NetworkID; {
	case id == "":
		return nil
	case o.allocation.Adopted:
		clusters, err := o.p.clusterUsers(ctx, o.project, func(c *clusterRecord) bool { return c.Spec.PrivateNetworkID == id || hasNetwork(id)(c) })
		if err != nil || len(clusters) < 2 {
			return err
		}
		return clusters.refusal("network " + id)
	}
	_, err := o.ownership(ctx)
	return err
}

// ownership says whose the network is. It refuses one that clusters name, that has machines or
// addresses, or in which an attempt may allocate some. The attempts are read before the
// addresses: what they allocated by then is among these.
func (o *networkOperation) ownership(ctx context.Context) (ownership, error) {
	id := o.allocation.NetworkID
	whose, err := o.p.networkOwnership(ctx, o.project, o.identity.uid, id)
	if err != nil || whose != owned {
		return whose, err
	}
	users, err := o.p.usersOfNetwork(ctx, o.project, id)
	if err != nil {
		return owned, err
	}
	if err := users.refusal("network " + id); err != nil {
		return owned, err
	}
	return owned, refusesInUse(o.p.checkNetworkEmpty(ctx, id, nil))
}

// excludeUsers waits for requests of Services for addresses in the network.
func (o *networkOperation) excludeUsers(ctx context.Context) error {
	if !o.frees() {
		return nil
	}
	unlock, err := o.p.addresses.Lock(ctx, o.project)
	if err != nil {
		return errInterrupted
	}
	unlock()
	if until, uncertain := o.p.uncertainAddresses.untilOfNetwork(o.project, o.allocation.NetworkID, o.p.clock.Now()); uncertain {
		return o.refuseUntil(until)
	}
	return o.excludePredecessor(ctx, o.project)
}

func (o *networkOperation) free(ctx context.Context, inFlightUntil time.Time) (reason, message string, err error) {
	id := o.allocation.NetworkID
	switch {
	case id == "":
		return infrastructure.ReasonReleased, "Nothing was allocated.", nil
	case o.allocation.Adopted:
		return infrastructure.ReasonReleased, "Network " + id + " was adopted, and is kept.", nil
	}
	network := networkClaimFreer{o}
	if err := o.p.awaitNetworkEmpty(ctx, network.ownership); err != nil {
		return "", "", err
	}
	whose, err := ensureFreed(ctx, o.p, network, inFlightUntil, time.Time{})
	if err != nil {
		return "", "", err
	}
	if whose == foreign {
		return infrastructure.ReasonOwnershipMismatch, "Network " + id + " is allocated for another owner, and was not freed.", nil
	}
	o.p.opts.Observer.LearnFreed(metal.Ref{Kind: metal.KindNetwork, ID: id})
	return infrastructure.ReasonReleased, "Network " + id + " was released.", nil
}

// networkClaimFreer frees the network of a claim.
type networkClaimFreer struct{ *networkOperation }

var _ freer = networkClaimFreer{}

func (f networkClaimFreer) what() string { return "network" }

func (f networkClaimFreer) begin(ctx context.Context) error {
	return f.beginRelease(ctx, f.p.recordTime())
}

func (f networkClaimFreer) free(ctx context.Context) error {
	_, err := f.p.opts.Metal.FreeNetwork(ctx, f.allocation.NetworkID)
	return err
}
