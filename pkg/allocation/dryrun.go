package allocation

import (
	"context"
	"errors"
	"net/http"
	"net/netip"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

type dryRunKey struct{}

// WithDryRun makes what a Protocol is asked to do with the context a dry run: it
// makes the checks that come before the first call that changes metal, writes
// nothing, and answers with the object as it is. What only the metal-api can
// say when it is asked, such as that it has no machine left, it does not say.
func WithDryRun(ctx context.Context) context.Context {
	return context.WithValue(ctx, dryRunKey{}, true)
}

// WithDryRun is the function of that name, for who knows the protocol as an
// interface.
func (*Protocol) WithDryRun(ctx context.Context) context.Context { return WithDryRun(ctx) }

// IsDryRun tells whether a context is one of a dry run.
func IsDryRun(ctx context.Context) bool { return ctx.Value(dryRunKey{}) != nil }

// errDryRun ends a write that could have been made.
var errDryRun = errors.New("dry run: nothing is written")

// dryRun does work on s, unless another operation is under way.
func dryRun[T any](ctx context.Context, p *Protocol, s objectRef, work func(ctx context.Context) (T, error)) (T, error) {
	if other := p.operations.runningVerb(s); other != "" {
		var none T
		return none, s.apiError(errInProgress(other))
	}
	result, err := work(ctx)
	return result, s.apiError(err)
}

func errInProgress(verb string) error {
	return refuse(http.StatusConflict, "another %s is in progress: retry", verb)
}

// ignoreDryRun is nil for a write that could have been made, and why not otherwise.
func ignoreDryRun(err error) error {
	if errors.Is(err, errDryRun) {
		return nil
	}
	return err
}

// dryRunAllocate looks at what an allocation would.
func (o *machineAllocator) dryRunAllocate(ctx context.Context) error {
	if err := ignoreDryRun(o.beginAttempt(ctx)); err != nil {
		var early *notBegun
		if errors.As(err, &early) {
			return early.error
		}
		return err
	}
	_, _, err := findOrCheck(ctx, o)
	var r *refusal
	if err == nil || errors.As(err, &r) {
		return err
	}
	return refusalOf(err)
}

// dryRunRelease looks at what a release would.
func (o *machineOperation) dryRunRelease(ctx context.Context, a *infrastructure.MachineAllocation) error {
	if err := ignoreDryRun(o.beginRelease(ctx, o.p.recordTime())); err != nil || a.MachineID == "" {
		return err
	}
	_, err := o.machineOwnership(ctx, a)
	return asRefusal(err)
}

// dryRunAllocate looks at what an allocation would.
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
		return nil
	}
	n, err := o.findProjectNetwork(ctx, o.spec.PrivateNetworkID)
	if err != nil {
		return err
	}
	return o.checkNetworkUnclaimed(ctx, n)
}

func (o *clusterOperation) dryRunAddress(ctx context.Context) error {
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
	return o.checkAddressUnclaimed(ctx, ip)
}

// dryRunRelease looks at what a release would.
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
		_, err := o.networkOwnership(ctx, a.NetworkID)
		return asRefusal(err)
	}
	return nil
}
