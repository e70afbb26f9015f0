package allocation

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// Protocol allocates and releases. It is safe for concurrent use, and for use
// beside another server's over the same records.
//
// Its errors are API statuses: 404 without the object; 403 in a namespace that
// is not bound to a project, and for objects that have no record; 409 while
// another operation on the object, or on the machine that it names, is under
// way, while the object is not, or no longer, in a state for it, and during the
// pause after a refusal; 422 when the spec asks for what it may not have, or the
// metal-api refuses, in its words; 503 when the metal-api is busy, when it or the
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
	operations   *exclusiveOperations
	limiter      *partitionLimiter
	reservations *machineReservations
	// onCrashPoint is Options.Step.
	onCrashPoint func(step string)
}

// New returns a Protocol that does nothing until it is asked.
func New(opts Options) *Protocol {
	p := &Protocol{
		opts: opts, timing: opts.Timing.withDefaults(), clock: opts.Clock,
		machines: newMachineKind(opts.Machines), firewalls: newFirewallKind(opts.Firewalls),
		clusters:   newClusterRecords(opts.Clusters),
		operations: newExclusiveOperations(), reservations: newMachineReservations(), onCrashPoint: opts.CrashPoint,
	}
	if p.clock == nil {
		p.clock = clock.RealClock{}
	}
	p.limiter = newPartitionLimiter(p.clock)
	return p
}

func (p *Protocol) crashPoint(step string) {
	if p.onCrashPoint != nil {
		p.onCrashPoint(step)
	}
}

// AllocateMachine turns a MetalStackMachine into a server, as body asks for
// it. Called again, it answers the same.
func (p *Protocol) AllocateMachine(ctx context.Context, namespace, name string, body *infrastructure.Allocation) (*infrastructure.MetalStackMachine, error) {
	s, err := p.allocate(ctx, p.machines, namespace, name, body)
	return objectOf[*infrastructure.MetalStackMachine](s), err
}

// AllocateFirewall turns a MetalStackFirewall into a server.
func (p *Protocol) AllocateFirewall(ctx context.Context, namespace, name string, body *infrastructure.Allocation) (*infrastructure.MetalStackFirewall, error) {
	s, err := p.allocate(ctx, p.firewalls, namespace, name, body)
	return objectOf[*infrastructure.MetalStackFirewall](s), err
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

// ReleaseMachine gives a MetalStackMachine's server back. uid is the object's,
// or empty for whichever object has the name. Called again, it answers the same.
func (p *Protocol) ReleaseMachine(ctx context.Context, namespace, name string, uid types.UID) (*infrastructure.MetalStackMachine, error) {
	s, err := p.release(ctx, p.machines, namespace, name, uid)
	return objectOf[*infrastructure.MetalStackMachine](s), err
}

// ReleaseFirewall gives a MetalStackFirewall's server back.
func (p *Protocol) ReleaseFirewall(ctx context.Context, namespace, name string, uid types.UID) (*infrastructure.MetalStackFirewall, error) {
	s, err := p.release(ctx, p.firewalls, namespace, name, uid)
	return objectOf[*infrastructure.MetalStackFirewall](s), err
}

// ReleaseCluster gives a MetalStackCluster's network and address back, unless
// they were adopted.
func (p *Protocol) ReleaseCluster(ctx context.Context, namespace, name string, uid types.UID) (*infrastructure.MetalStackCluster, error) {
	ref := objectRef{clusterResource, namespace, name}
	c, err := run(ctx, p, ref, verbRelease, func(ctx context.Context) (*clusterRecord, error) {
		return p.releaseCluster(ctx, ref, uid)
	})
	return clusterOf(c), err
}

// run does work in a flight, or, in a dry run, at once.
func run[T any](ctx context.Context, p *Protocol, s objectRef, verb string, work func(ctx context.Context) (T, error)) (T, error) {
	if IsDryRun(ctx) {
		return dryRun(ctx, p, s, work)
	}
	return runExclusive(ctx, p, s, verb, work)
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

func objectOf[T runtime.Object](s *machineLike) T {
	var none T
	if s == nil {
		return none
	}
	return s.object.(T)
}

func clusterOf(c *clusterRecord) *infrastructure.MetalStackCluster {
	if c == nil {
		return nil
	}
	return c.MetalStackCluster
}

func uidOf(body *infrastructure.Allocation) types.UID {
	if body == nil {
		return ""
	}
	return body.UID
}
