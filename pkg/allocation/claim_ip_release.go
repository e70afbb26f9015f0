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

func (o *ipOperation) findUnrecorded(ctx context.Context, inFlightUntil time.Time) error {
	if o.allocation.Address != "" {
		return nil
	}
	ip, found, err := awaitOutcome[*metal.IP](ctx, o.p, ipClaimAllocator{ipOperation: o}, inFlightUntil, nil)
	if err != nil || !found {
		return err
	}
	o.allocation.Address, o.allocation.AllocationUUID = ip.Address, ip.AllocationUUID
	_, err = o.update(ctx, func(r *ipRecord) error {
		a := r.allocation()
		a.Address, a.AllocationUUID, a.Adopted = ip.Address, ip.AllocationUUID, false
		return nil
	})
	return err
}

// frees reports whether a release frees the address.
func (o *ipOperation) frees() bool { return o.allocation.Address != "" && !o.allocation.Adopted }

// checkUnused refuses an address that clusters, firewalls, machines or Services use.
func (o *ipOperation) checkUnused(ctx context.Context) error {
	if !o.frees() {
		return nil
	}
	users, err := o.p.usersOfAddress(ctx, o.project, o.allocation.Address)
	if err != nil {
		return err
	}
	if err := users.refusal("address " + o.allocation.Address); err != nil {
		return err
	}
	_, err = o.ownership(ctx, &o.allocation)
	return err
}

// ownership says whose an address is. Only one in the very allocation that is recorded, in the
// object's project, and with the recorded identity is owned.
func (o *ipOperation) ownership(ctx context.Context, a *infrastructure.IPAllocation) (ownership, error) {
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
		return owned, usersInTags(ip).refusal("address " + ip.Address)
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
	return nil
}

func (o *ipOperation) free(ctx context.Context, inFlightUntil time.Time) (reason, message string, err error) {
	address := o.allocation.Address
	switch {
	case address == "":
		return infrastructure.ReasonReleased, "Nothing was allocated.", nil
	case o.allocation.Adopted:
		return infrastructure.ReasonReleased, "Address " + address + " was adopted, and is kept.", nil
	}
	whose, err := o.freeIP(ctx, &o.allocation, inFlightUntil)
	if err != nil {
		return "", "", err
	}
	if whose == foreign {
		return infrastructure.ReasonOwnershipMismatch, "Address " + address + " is in another allocation, or for another owner, and was not freed.", nil
	}
	return infrastructure.ReasonReleased, "Address " + address + " was released.", nil
}

func (o *ipOperation) freeIP(ctx context.Context, a *infrastructure.IPAllocation, inFlightUntil time.Time) (ownership, error) {
	whose, err := ensureFreed(ctx, o.p, ipClaimFreer{o, a}, inFlightUntil, time.Time{})
	if err == nil && whose != foreign {
		o.p.opts.Observer.LearnFreed(metal.Ref{Kind: metal.KindIP, ID: a.Address})
	}
	return whose, err
}

func (o *ipOperation) freeDuplicates(ctx context.Context) error {
	for {
		ip, found, err := o.findIdentified(ctx, func(*metal.IP) bool { return true })
		if err != nil || !found {
			return err
		}
		if _, err := o.freeIP(ctx, &infrastructure.IPAllocation{Address: ip.Address, AllocationUUID: ip.AllocationUUID}, time.Time{}); err != nil {
			return err
		}
	}
}

// ipClaimFreer frees the address of a claim.
type ipClaimFreer struct {
	*ipOperation
	allocation *infrastructure.IPAllocation
}

var _ freer = ipClaimFreer{}

func (f ipClaimFreer) what() string { return "address" }

func (f ipClaimFreer) ownership(ctx context.Context) (ownership, error) {
	return f.ipOperation.ownership(ctx, f.allocation)
}

func (f ipClaimFreer) begin(ctx context.Context) error { return f.beginRelease(ctx, f.p.recordTime()) }

func (f ipClaimFreer) free(ctx context.Context) error {
	_, err := f.p.opts.Metal.FreeIP(ctx, f.allocation.Address)
	return err
}
