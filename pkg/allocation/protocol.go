// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/keylock"
)

// Protocol allocates and releases. It is safe for concurrent use, and for use
// beside another server's over the same records.
//
// Its errors are API statuses: 404 without the object; 403 in a namespace that
// is not bound to a project, and for objects that have no record; 409 while
// another operation on the object, or on the machine that it names, is in
// progress, while the object is not, or no longer, in a state for it, and during
// the backoff after a refusal; 422 when the spec asks for what it may not have, or
// the metal-api refuses, in its words; 503 when the metal-api is busy, when it or the
// ledger cannot be reached, or the server shuts down; 504 when the caller's
// context ends first: the operation goes on. With 4xx, retryAfterSeconds says
// when to ask again if that is known.
type Protocol struct {
	opts         Options
	timing       Timing
	clock        clock.WithTicker
	machines     *machineLikeKind
	firewalls    *machineLikeKind
	clusters     recordStore[*clusterRecord]
	networks     *claimKind[*networkRecord]
	ips          *claimKind[*ipRecord]
	operations   *exclusiveOperations
	limiter      *partitionLimiter
	reservations *machineReservations
	// clusterIDs locks a project while a cluster id is checked and recorded.
	clusterIDs keylock.Locks
	// addresses locks a project while addresses of Services are allocated, changed or freed.
	addresses          keylock.Locks
	uncertainAddresses uncertainAddresses
	// activeSince is when BecomeActive was called.
	activeSince atomic.Pointer[time.Time]
	// checks bound CheckMachine and CheckFirewall.
	checks *checkLimits
	// onCrashPoint is Options.CrashPoint.
	onCrashPoint func(name string)
}

// New returns a Protocol that does nothing until it is asked.
func New(opts Options) *Protocol {
	p := &Protocol{
		opts: opts, timing: opts.Timing.withDefaults(), clock: opts.Clock,
		machines: newMachineKind(opts.Machines), firewalls: newFirewallKind(opts.Firewalls),
		clusters:   newClusterRecords(opts.Clusters),
		operations: newExclusiveOperations(), reservations: newMachineReservations(), onCrashPoint: opts.CrashPoint,
		checks: newCheckLimits(),
	}
	if p.clock == nil {
		p.clock = clock.RealClock{}
	}
	p.networks, p.ips = p.newNetworkClaims(opts.Networks), p.newIPClaims(opts.IPs)
	p.limiter = newPartitionLimiter(p.clock)
	return p
}

// crashPoint marks a step that a crash could follow on.
func (p *Protocol) crashPoint(name string) {
	if p.onCrashPoint != nil {
		p.onCrashPoint(name)
	}
}

// AllocateMachine allocates a machine for a MetalStackMachine, as body asks for
// it. Called again, it answers the same.
func (p *Protocol) AllocateMachine(ctx context.Context, namespace, name string, body *infrastructure.Allocation) (*infrastructure.MetalStackMachine, error) {
	m, err := p.allocate(ctx, p.machines, namespace, name, body)
	return objectOf[*infrastructure.MetalStackMachine](m), err
}

// AllocateFirewall allocates a machine for a MetalStackFirewall.
func (p *Protocol) AllocateFirewall(ctx context.Context, namespace, name string, body *infrastructure.Allocation) (*infrastructure.MetalStackFirewall, error) {
	m, err := p.allocate(ctx, p.firewalls, namespace, name, body)
	return objectOf[*infrastructure.MetalStackFirewall](m), err
}

// AllocateCluster allocates a MetalStackCluster's private network and control
// plane address, or adopts those that its spec names.
func (p *Protocol) AllocateCluster(ctx context.Context, namespace, name string, body *infrastructure.Allocation) (*infrastructure.MetalStackCluster, error) {
	ref := objectRef{clusterResource, namespace, name}
	c, err := run(ctx, p, ref, verbAllocate, func(ctx context.Context) (*clusterRecord, error) {
		return p.allocateCluster(ctx, ref, uidOf(body))
	})
	return clusterOf(c), err
}

// AllocateNetwork allocates the network of a MetalStackNetwork, or adopts the one that its spec
// names.
func (p *Protocol) AllocateNetwork(ctx context.Context, namespace, name string, body *infrastructure.Allocation) (*infrastructure.MetalStackNetwork, error) {
	ref := objectRef{networkResource, namespace, name}
	n, err := run(ctx, p, ref, verbAllocate, func(ctx context.Context) (*networkRecord, error) {
		return p.networks.allocate(ctx, p, ref, uidOf(body))
	})
	return networkOf(n), err
}

// AllocateIP allocates the address of a MetalStackIP, or adopts the one that its spec names.
func (p *Protocol) AllocateIP(ctx context.Context, namespace, name string, body *infrastructure.Allocation) (*infrastructure.MetalStackIP, error) {
	ref := objectRef{ipResource, namespace, name}
	i, err := run(ctx, p, ref, verbAllocate, func(ctx context.Context) (*ipRecord, error) {
		return p.ips.allocate(ctx, p, ref, uidOf(body))
	})
	return ipOf(i), err
}

// ReleaseNetwork releases the network of a MetalStackNetwork, unless it was adopted. It is
// refused while something uses the network.
func (p *Protocol) ReleaseNetwork(ctx context.Context, namespace, name string, uid types.UID) (*infrastructure.MetalStackNetwork, error) {
	ref := objectRef{networkResource, namespace, name}
	n, err := run(ctx, p, ref, verbRelease, func(ctx context.Context) (*networkRecord, error) {
		return p.networks.release(ctx, p, ref, uid)
	})
	return networkOf(n), err
}

// ReleaseIP releases the address of a MetalStackIP, unless it was adopted. It is refused while
// something uses the address.
func (p *Protocol) ReleaseIP(ctx context.Context, namespace, name string, uid types.UID) (*infrastructure.MetalStackIP, error) {
	ref := objectRef{ipResource, namespace, name}
	i, err := run(ctx, p, ref, verbRelease, func(ctx context.Context) (*ipRecord, error) {
		return p.ips.release(ctx, p, ref, uid)
	})
	return ipOf(i), err
}

// ReleaseMachine releases the machine of a MetalStackMachine. uid is the object's,
// or empty for whichever object has the name. Called again, it answers the same.
func (p *Protocol) ReleaseMachine(ctx context.Context, namespace, name string, uid types.UID) (*infrastructure.MetalStackMachine, error) {
	m, err := p.release(ctx, p.machines, namespace, name, uid)
	return objectOf[*infrastructure.MetalStackMachine](m), err
}

// ReleaseFirewall releases the machine of a MetalStackFirewall.
func (p *Protocol) ReleaseFirewall(ctx context.Context, namespace, name string, uid types.UID) (*infrastructure.MetalStackFirewall, error) {
	m, err := p.release(ctx, p.firewalls, namespace, name, uid)
	return objectOf[*infrastructure.MetalStackFirewall](m), err
}

// ReleaseCluster releases a MetalStackCluster's network and address, unless they
// were adopted.
func (p *Protocol) ReleaseCluster(ctx context.Context, namespace, name string, uid types.UID) (*infrastructure.MetalStackCluster, error) {
	ref := objectRef{clusterResource, namespace, name}
	c, err := run(ctx, p, ref, verbRelease, func(ctx context.Context) (*clusterRecord, error) {
		return p.releaseCluster(ctx, ref, uid)
	})
	return clusterOf(c), err
}

// run does work as the only operation on an object, or, in a dry run, at once.
func run[T any](ctx context.Context, p *Protocol, ref objectRef, verb string, work func(ctx context.Context) (T, error)) (T, error) {
	if IsDryRun(ctx) {
		return dryRun(ctx, p, ref, verb, work)
	}
	return runExclusive(ctx, p, ref, verb, work)
}

func (p *Protocol) allocate(ctx context.Context, kind *machineLikeKind, namespace, name string, body *infrastructure.Allocation) (*machineLike, error) {
	ref := objectRef{kind.resource, namespace, name}
	return run(ctx, p, ref, verbAllocate, func(ctx context.Context) (*machineLike, error) {
		return p.allocateMachineLike(ctx, kind, ref, body)
	})
}

func (p *Protocol) release(ctx context.Context, kind *machineLikeKind, namespace, name string, uid types.UID) (*machineLike, error) {
	ref := objectRef{kind.resource, namespace, name}
	return run(ctx, p, ref, verbRelease, func(ctx context.Context) (*machineLike, error) {
		return p.releaseMachineLike(ctx, kind, ref, uid)
	})
}

// The verbs, as logs, metrics and answers name them.
const (
	verbAllocate = "allocation"
	verbRelease  = "release"
	verbRecover  = "recovery"
)

func objectOf[T runtime.Object](m *machineLike) T {
	var none T
	if m == nil {
		return none
	}
	return m.object.(T)
}

func clusterOf(c *clusterRecord) *infrastructure.MetalStackCluster {
	if c == nil {
		return nil
	}
	return c.MetalStackCluster
}

func networkOf(n *networkRecord) *infrastructure.MetalStackNetwork {
	if n == nil {
		return nil
	}
	return n.MetalStackNetwork
}

func ipOf(i *ipRecord) *infrastructure.MetalStackIP {
	if i == nil {
		return nil
	}
	return i.MetalStackIP
}

func uidOf(body *infrastructure.Allocation) types.UID {
	if body == nil {
		return ""
	}
	return body.UID
}
