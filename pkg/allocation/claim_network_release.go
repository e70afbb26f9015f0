// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

func (o *networkOperation) findUnrecorded(ctx context.Context, inFlightUntil time.Time) error {
	if o.allocation.NetworkID != "" || o.spec.NetworkID != "" {
		return nil
	}
	n, found, err := awaitOutcome[*metal.Network](ctx, o.p, networkClaimAllocator{networkOperation: o}, inFlightUntil, nil)
	if err != nil || !found {
		return err
	}
	o.allocation.NetworkID = n.ID
	_, err = o.update(ctx, func(r *networkRecord) error {
		r.allocation().NetworkID, r.allocation().Adopted = n.ID, false
		return nil
	})
	return err
}

// frees reports whether a release frees the network.
func (o *networkOperation) frees() bool {
	return o.allocation.NetworkID != "" && !o.allocation.Adopted
}

// checkUnused refuses a network that clusters name, or that has machines or addresses.
func (o *networkOperation) checkUnused(ctx context.Context) error {
	if !o.frees() {
		return nil
	}
	id := o.allocation.NetworkID
	users, err := o.p.usersOfNetwork(ctx, o.project, id)
	if err != nil {
		return err
	}
	if err := users.refusal("network " + id); err != nil {
		return err
	}
	_, err = o.ownership(ctx, id)
	return err
}

func (o *networkOperation) ownership(ctx context.Context, id string) (ownership, error) {
	whose, err := o.p.networkOwnership(ctx, o.project, o.identity.uid, id)
	return whose, refusesInUse(err)
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
	return nil
}

func (o *networkOperation) free(ctx context.Context, inFlightUntil time.Time) (reason, message string, err error) {
	id := o.allocation.NetworkID
	switch {
	case id == "":
		return infrastructure.ReasonReleased, "Nothing was allocated.", nil
	case o.allocation.Adopted:
		return infrastructure.ReasonReleased, "Network " + id + " was adopted, and is kept.", nil
	}
	whose, err := o.freeNetwork(ctx, id, inFlightUntil)
	if err != nil {
		return "", "", err
	}
	if whose == foreign {
		return infrastructure.ReasonOwnershipMismatch, "Network " + id + " is allocated for another owner, and was not freed.", nil
	}
	return infrastructure.ReasonReleased, "Network " + id + " was released.", nil
}

func (o *networkOperation) freeNetwork(ctx context.Context, id string, inFlightUntil time.Time) (ownership, error) {
	network := networkClaimFreer{o, id}
	if err := o.p.awaitNetworkEmpty(ctx, network.ownership); err != nil {
		return owned, err
	}
	whose, err := ensureFreed(ctx, o.p, network, inFlightUntil, time.Time{})
	if err == nil && whose != foreign {
		o.p.opts.Observer.LearnFreed(metal.Ref{Kind: metal.KindNetwork, ID: id})
	}
	return whose, err
}

func (o *networkOperation) freeDuplicates(ctx context.Context) error {
	for {
		n, found, err := networkClaimAllocator{networkOperation: o}.find(ctx)
		if err != nil || !found {
			return err
		}
		if _, err := o.freeNetwork(ctx, n.ID, time.Time{}); err != nil {
			return err
		}
	}
}

// networkClaimFreer frees the network of a claim.
type networkClaimFreer struct {
	*networkOperation
	id string
}

var _ freer = networkClaimFreer{}

func (f networkClaimFreer) what() string { return "network" }

func (f networkClaimFreer) ownership(ctx context.Context) (ownership, error) {
	return f.networkOperation.ownership(ctx, f.id)
}

func (f networkClaimFreer) begin(ctx context.Context) error {
	return f.beginRelease(ctx, f.p.recordTime())
}

func (f networkClaimFreer) free(ctx context.Context) error {
	_, err := f.p.opts.Metal.FreeNetwork(ctx, f.id)
	return err
}
