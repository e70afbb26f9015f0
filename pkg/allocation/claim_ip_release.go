// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"net/http"
	"strings"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

func (o *ipOperation) findUnrecorded(ctx context.Context) error {
	if o.allocation.Address != "" {
		return nil
	}
	ip, found, err := awaitOutcome[*metal.IP](ctx, o.p, ipClaimAllocator{ipOperation: o}, o.inFlightUntil, nil)
	if err != nil || !found {
		return err
	}
	return o.recordOwn(ctx, ip)
}

// recordOwn records an address that carries the claim's identity, to be freed.
func (o *ipOperation) recordOwn(ctx context.Context, ip *metal.IP) error {
	o.allocation.Address, o.allocation.AllocationUUID, o.allocation.Adopted = ip.Address, ip.AllocationUUID, false
	return o.recordWhileReleasing(ctx, func(r *ipRecord) {
		a := r.allocation()
		a.Address, a.AllocationUUID, a.Adopted = ip.Address, ip.AllocationUUID, false
	})
}

func (o *ipOperation) recordDuplicate(ctx context.Context) (found bool, err error) {
	ip, found, err := o.findIdentified(ctx, func(*metal.IP) bool { return true })
	if err != nil || !found {
		return false, err
	}
	err = o.recordOwn(ctx, ip)
	o.p.crashPoint(o.traits.step + "/recorded")
	return true, err
}

// frees reports whether a release frees the address.
func (o *ipOperation) frees() bool { return o.allocation.Address != "" && !o.allocation.Adopted }

// checkUnused refuses an address that clusters, firewalls, machines or Services use.
func (o *ipOperation) checkUnused(ctx context.Context) error {
	if !o.frees() {
		return nil
	}
	_, err := o.ownership(ctx)
	return err
}

// ownership says whose the address is. Only one in the very allocation that is recorded, in the
// object's project, and with the recorded identity is owned. It refuses one that is in use; the
// records are read last, since what firewalls have as a source address is in no other place.
func (o *ipOperation) ownership(ctx context.Context) (ownership, error) {
	a := &o.allocation
	found, err := o.p.opts.Metal.FindIPs(ctx, metal.IPQuery{Address: a.Address})
	if err != nil {
		return owned, err
	}
	uid := LabelValue(string(o.identity.uid))
	for _, ip := range found {
		switch {
		case ip.Address != a.Address:
			continue
		case ip.Project != o.project, ip.AllocationUUID != a.AllocationUUID, ip.UID() != "" && ip.UID() != uid:
			return foreign, nil
		case ip.UID() == "":
			return owned, refuse(http.StatusConflict,
				"address %s is in the recorded allocation, but lost its identity tag %s, and is not freed: restore the tag, or free the address with `metalctl network ip delete %s`",
				ip.Address, metal.Tag(metal.TagUID, uid), ip.Address)
		}
		users, err := o.p.usersOfAddress(ctx, o.project, ip.Address)
		if err != nil {
			return owned, err
		}
		return owned, append(users, usersInTags(ip)...).refusal("address " + ip.Address)
	}
	return absent, nil
}

// usersInTags are what the tags of an address say that it is used by.
func usersInTags(ip *metal.IP) users {
	var found users
	for _, tag := range ip.Tags {
		switch key, value, _ := strings.Cut(tag, "="); key {
		case metal.TagMachine:
			found.add("machine " + value)
		case metal.TagService:
			_, service, _ := strings.Cut(value, "/")
			found.add("Service " + service + " of a workload cluster")
		case metal.TagCluster:
			found.add("cluster " + value)
		}
	}
	return found
}

// excludeUsers waits for requests of Services for the address.
func (o *ipOperation) excludeUsers(ctx context.Context) error {
	if !o.frees() {
		return nil
	}
	unlock, err := o.p.addresses.Lock(ctx, o.project)
	if err != nil {
		return errInterrupted
	}
	unlock()
	ip := &metal.IP{Project: o.project, Address: o.allocation.Address, AllocationUUID: o.allocation.AllocationUUID}
	if until, uncertain := o.p.uncertainAddresses.untilOfAddress(ip, o.p.clock.Now()); uncertain {
		return o.refuseUntil(until)
	}
	return o.excludePredecessor(ctx, o.project)
}

func (o *ipOperation) free(ctx context.Context, inFlightUntil time.Time) (reason, message string, err error) {
	address := o.allocation.Address
	switch {
	case address == "":
		return infrastructure.ReasonReleased, "Nothing was allocated.", nil
	case o.allocation.Adopted:
		return infrastructure.ReasonReleased, "Address " + address + " was adopted, and is kept.", nil
	}
	whose, err := ensureFreed(ctx, o.p, ipClaimFreer{o}, inFlightUntil, time.Time{})
	if err != nil {
		return "", "", err
	}
	if whose == foreign {
		return infrastructure.ReasonOwnershipMismatch, "Address " + address + " is in another allocation, or for another owner, and was not freed.", nil
	}
	o.p.opts.Observer.LearnFreed(metal.Ref{Kind: metal.KindIP, ID: address})
	return infrastructure.ReasonReleased, "Address " + address + " was released.", nil
}

// ipClaimFreer frees the address of a claim.
type ipClaimFreer struct{ *ipOperation }

var _ freer = ipClaimFreer{}

func (f ipClaimFreer) what() string { return "address" }

func (f ipClaimFreer) begin(ctx context.Context) error { return f.beginRelease(ctx, f.p.recordTime()) }

func (f ipClaimFreer) free(ctx context.Context) error {
	_, err := f.p.opts.Metal.FreeIP(ctx, f.allocation.Address)
	return err
}
