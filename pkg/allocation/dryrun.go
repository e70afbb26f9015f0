// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

type dryRunKey struct{}

// WithDryRun makes the operations of a Protocol with the context dry runs: they
// make the checks that come before the first call that changes metal, and those that the
// metal-api would make, write nothing, and return the object as it is. What cannot be known now is
// refused with 503.
func WithDryRun(ctx context.Context) context.Context {
	return context.WithValue(ctx, dryRunKey{}, true)
}

// WithDryRun is the function of that name, for who knows the protocol as an
// interface.
func (*Protocol) WithDryRun(ctx context.Context) context.Context { return WithDryRun(ctx) }

// IsDryRun reports whether a context is one of a dry run.
func IsDryRun(ctx context.Context) bool { return ctx.Value(dryRunKey{}) != nil }

// errDryRun ends a write that could have been made.
var errDryRun = errors.New("dry run: nothing is written")

// dryRun does work, unless another operation on the object is in progress.
func dryRun[T any](ctx context.Context, p *Protocol, ref objectRef, verb string, work func(ctx context.Context) (T, error)) (T, error) {
	if other := p.operations.runningVerb(ref); other != "" {
		var none T
		return none, ref.apiError(errInProgress(verb, other))
	}
	result, err := work(p.withAllowance(ctx, ref.namespace))
	return result, ref.apiError(p.orNotWritable(verb, err))
}

// errInProgress refuses what verb asks for while other is in progress. Those who ask for an
// allocation or a release know how long they wait.
func errInProgress(verb, other string) error {
	r := refuse(http.StatusConflict, "another %s is in progress: retry", other)
	if isOperation(verb) {
		r.retryAfter = time.Second
	}
	return r
}

// ignoreDryRun returns nil instead of errDryRun.
func ignoreDryRun(err error) error {
	if errors.Is(err, errDryRun) {
		return nil
	}
	return err
}

// dryRunAllocate checks what an allocation would.
func (a *machineAllocator) dryRunAllocate(ctx context.Context) error {
	if err := a.dryRunAttempt(ctx); err != nil {
		return err
	}
	_, found, err := findOrCheck(ctx, a)
	var r *refusal
	switch {
	case errors.As(err, &r):
		return r
	case err != nil:
		return refusalOf(err)
	case found:
		return nil
	}
	if err := a.p.limiter.checkPause(a.plan.partition); err != nil {
		return err
	}
	return a.checkOffers(ctx)
}

// dryRunRelease checks what a release would.
func (o *machineOperation) dryRunRelease(ctx context.Context, a *infrastructure.MachineAllocation) error {
	if err := ignoreDryRun(o.beginRelease(ctx, o.p.recordTime())); err != nil || a.MachineID == "" {
		return err
	}
	whose, err := o.machineOwnership(ctx, a)
	if err != nil || whose != owned {
		return asRefusal(err)
	}
	m, err := o.p.findMachine(ctx, a.MachineID)
	if err == nil && m != nil && m.State == metal.StateLocked {
		err = &refusal{code: http.StatusUnprocessableEntity, invalid: field.Forbidden(allocationPath, lockedMessage), message: lockedMessage}
	}
	return asRefusal(err)
}

// lockedMessage is what the metal-api says of a free of a locked machine.
const lockedMessage = "refused by the metal-api: machine is locked"

// dryRunAllocate checks what an allocation would.
func (o *clusterOperation) dryRunAllocate(ctx context.Context, a *infrastructure.ClusterAllocation) error {
	if a.NetworkID == "" {
		if err := o.dryRunNetwork(ctx); err != nil {
			return err
		}
	}
	if err := o.dryRunAttempt(ctx); err != nil {
		return err
	}
	if a.IPAddress == "" {
		return o.dryRunAddress(ctx)
	}
	return nil
}

func (o *clusterOperation) dryRunNetwork(ctx context.Context) error {
	if o.spec.PrivateNetworkID == "" {
		if o.spec.Partition == "" {
			return errNoPartition()
		}
		_, found, err := findOrCheck[*metal.Network](ctx, networkAllocator{clusterOperation: o})
		if err != nil || found {
			return asRefusal(err)
		}
		return o.p.checkPlace(ctx, o.project, o.spec.Partition)
	}
	n, err := o.findProjectNetwork(ctx, o.spec.PrivateNetworkID)
	if err != nil {
		return err
	}
	if err := o.checkNetworkUnreferenced(ctx, n); err != nil || o.spec.ClusterID != "" {
		return err
	}
	claim, err := o.p.networkClaim(ctx, func(r *networkRecord) bool { return r.refersTo(n.ID, n.UID()) })
	if err != nil {
		return refusalOf(err)
	}
	o.takeClusterID(n, claim != nil)
	o.setIdentity(o.identity.uid)
	return o.checkClusterIDUnique(ctx)
}

func (o *clusterOperation) dryRunAddress(ctx context.Context) error {
	if !o.spec.AllocatesEndpoint() {
		return nil
	}
	host := o.spec.ControlPlaneEndpoint.Host
	if host == "" {
		if err := o.checkPublicNetwork(ctx); err != nil {
			return err
		}
		if _, found, err := o.findAddress(ctx); err != nil || found {
			return asRefusal(err)
		}
		n, err := o.p.findUsableNetwork(ctx, namedNetwork{publicNetworkPath, o.spec.PublicNetworkID, o.spec.PublicNetworkID}, o.project)
		if err != nil {
			return err
		}
		return checkAddressLeft(n)
	}
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
	if err := o.checkAddressUnreferenced(ctx, ip); err != nil {
		return err
	}
	uid, err := o.adoptedAddressIdentity(ctx, ip)
	if err != nil {
		return err
	}
	return o.checkClaimOfAddress(ctx, ip, uid)
}

// dryRunRelease checks what a release would.
func (o *clusterOperation) dryRunRelease(ctx context.Context, a *infrastructure.ClusterAllocation) error {
	if err := o.checkNoDependents(ctx); err != nil {
		return err
	}
	if err := ignoreDryRun(o.beginRelease(ctx, o.p.recordTime())); err != nil {
		return err
	}
	if a.IPAddress != "" && !a.IPAdopted {
		if _, err := o.addressOwnership(ctx, a.IPAddress); err != nil {
			return asRefusal(err)
		}
	}
	if a.NetworkID == "" || a.NetworkAdopted {
		return nil
	}
	before, err := o.freedBeforeNetwork(ctx, a)
	if err == nil {
		_, err = o.p.networkOwnershipWithout(ctx, o.project, o.identity.uid, a.NetworkID, before)
	}
	return asRefusal(err)
}

// freedBeforeNetwork are the addresses that a release frees before the network.
func (o *clusterOperation) freedBeforeNetwork(ctx context.Context, a *infrastructure.ClusterAllocation) (sets.Set[string], error) {
	freed := sets.New[string]()
	if a.IPAddress != "" && !a.IPAdopted {
		freed.Insert(a.IPAddress)
	}
	if until, uncertain := o.p.uncertainAddresses.untilOfCluster(o.services(), o.p.clock.Now()); uncertain {
		return freed, o.refuseUntil(until)
	}
	addresses, err := o.serviceAddresses(ctx)
	if err != nil || len(addresses) == 0 {
		return freed, err
	}
	if running, err := o.hasRunningMachines(ctx, a.NetworkID); err != nil || running {
		return freed, err
	}
	for _, ip := range addresses {
		freeable, err := o.isFreeable(ctx, ip)
		if err != nil {
			return freed, err
		}
		if freeable {
			freed.Insert(ip.Address)
		}
	}
	return freed, nil
}
