// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

type dryRunKey struct{}

// WithDryRun makes the operations of a Protocol with the context dry runs: they
// make the checks that come before the first call that changes metal, write
// nothing, and return the object as it is. What only the metal-api can refuse,
// for example because no machine is left, they do not.
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
	result, err := work(ctx)
	return result, ref.apiError(err)
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
	if err := ignoreDryRun(a.beginAttempt(ctx)); err != nil {
		var early *notBegun
		if errors.As(err, &early) {
			return early.error
		}
		return err
	}
	_, _, err := findOrCheck(ctx, a)
	var r *refusal
	if err == nil || errors.As(err, &r) {
		return err
	}
	return refusalOf(err)
}

// dryRunRelease checks what a release would.
func (o *machineOperation) dryRunRelease(ctx context.Context, a *infrastructure.MachineAllocation) error {
	if err := ignoreDryRun(o.beginRelease(ctx, o.p.recordTime())); err != nil || a.MachineID == "" {
		return err
	}
	_, err := o.machineOwnership(ctx, a)
	return asRefusal(err)
}

// dryRunAllocate checks what an allocation would.
func (o *clusterOperation) dryRunAllocate(ctx context.Context, a *infrastructure.ClusterAllocation) error {
	if a.NetworkID == "" {
		if err := o.dryRunNetwork(ctx); err != nil {
			return err
		}
	}
	if err := ignoreDryRun(o.beginAttempt(ctx)); err != nil {
		var early *notBegun
		if errors.As(err, &early) {
			return early.error
		}
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
		_, _, err := networkAllocator{clusterOperation: o}.checkOrAdopt(ctx)
		return err
	}
	n, err := o.findProjectNetwork(ctx, o.spec.PrivateNetworkID)
	if err != nil {
		return err
	}
	return o.checkNetworkUnreferenced(ctx, n)
}

func (o *clusterOperation) dryRunAddress(ctx context.Context) error {
	if !o.spec.AllocatesEndpoint() {
		return nil
	}
	host := o.spec.ControlPlaneEndpoint.Host
	if host == "" {
		return o.checkPublicNetwork(ctx)
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
	return o.checkAddressUnreferenced(ctx, ip)
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
	if a.NetworkID != "" && !a.NetworkAdopted {
		_, err := o.p.networkOwnership(ctx, o.project, o.identity.uid, a.NetworkID)
		return asRefusal(err)
	}
	return nil
}
