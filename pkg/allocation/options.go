// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
)

// Records are the objects of one resource.
type Records[T runtime.Object] interface {
	// Get returns the object as it is shown; it is not modified.
	Get(ctx context.Context, namespace, name string) (T, error)
	// Update changes the record by compare-and-swap: change gets the object as
	// it is now and modifies it; it is called again if the record was changed
	// meanwhile. An error of change ends the update and is returned as it is. Any
	// other error but NotFound leaves it uncertain whether the change was recorded.
	Update(ctx context.Context, namespace, name string, change func(T) error) (T, error)
	// List returns the objects of all namespaces that have a record; they are
	// not modified.
	List(ctx context.Context) ([]T, error)
	// Changes returns a function that returns which objects changed, by a write or because
	// of metal, since it was called last. It is false if there may be more, as it is when
	// it is called first: then List is to be called after it.
	Changes() func() (changed []types.NamespacedName, ok bool)
}

// Metal are the calls of the metal-api that the protocol makes; pkg/metal/client
// implements them. Writes do not end with their context.
type Metal interface {
	Machine(ctx context.Context, id string) (*metal.Machine, error)
	FindMachines(ctx context.Context, q metal.MachineQuery) ([]*metal.Machine, error)
	AllocateMachine(ctx context.Context, r metal.MachineRequest) (*metal.Machine, error)
	AllocateFirewall(ctx context.Context, r metal.FirewallRequest) (*metal.Machine, error)
	FreeMachine(ctx context.Context, id string) (*metal.Machine, error)
	FindNetworks(ctx context.Context, q metal.NetworkQuery) ([]*metal.Network, error)
	AllocateNetwork(ctx context.Context, r metal.NetworkRequest) (*metal.Network, error)
	FreeNetwork(ctx context.Context, id string) (*metal.Network, error)
	FindIPs(ctx context.Context, q metal.IPQuery) ([]*metal.IP, error)
	AllocateIP(ctx context.Context, r metal.IPRequest) (*metal.IP, error)
	FreeIP(ctx context.Context, address string) (*metal.IP, error)
	SetIPTags(ctx context.Context, address string, tags []string) (*metal.IP, error)
}

// Observer is what the protocol needs of the observation of metal;
// pkg/metal/observation implements it. Nothing dangerous is decided by what it
// answers.
type Observer interface {
	// MachinesByUID returns the allocated machines that carry the identity.
	MachinesByUID(uid string) []*metal.Machine
	// Identified returns the metal that carries the identity of this management
	// cluster, as it was last observed.
	Identified() (machines []*metal.Machine, networks []*metal.Network, ips []*metal.IP)
	LearnMachine(m *metal.Machine)
	LearnNetwork(n *metal.Network)
	LearnIP(i *metal.IP)
	LearnFreed(ref metal.Ref)
}

// Options configure a Protocol.
type Options struct {
	Machines  Records[*infrastructure.MetalStackMachine]
	Firewalls Records[*infrastructure.MetalStackFirewall]
	Clusters  Records[*infrastructure.MetalStackCluster]
	// Networks and IPs may be nil: there are none then.
	Networks Records[*infrastructure.MetalStackNetwork]
	IPs      Records[*infrastructure.MetalStackIP]
	Metal    Metal
	Observer Observer
	Bindings tenancy.Bindings
	// Offers are what there is to be allocated. Without them, a dry run does not know what only
	// the metal-api can refuse.
	Offers *Offers
	// Writable returns why no record can be written any more, as an API status; nil: all can.
	Writable func() error
	// TakenOver returns when a Namespace took over the records of an earlier one
	// of its name, zero if it did not; nil: none ever does.
	TakenOver func(namespace string) time.Time
	// ManagementCluster is the uid of the namespace kube-system, or, without
	// Kubernetes, an id that the server made for itself and kept.
	ManagementCluster string
	// Standalone is without a management cluster whose Firewalls firewall-controllers could read.
	Standalone bool
	// Region is the value of the tag topology.kubernetes.io/region of machines; empty:
	// they have none.
	Region string
	// Clock is the source of time; default the real one.
	Clock clock.WithTicker
	// Timing is how long things may take; zero fields get defaultTiming's.
	Timing Timing
	// CrashPoint, if it is set, is called after each step that a crash could
	// follow on (docs/allocation.md); for tests.
	CrashPoint func(name string)
}

// Timing is how long things may take.
type Timing struct {
	// BeginTimeout is the longest time between recording an attempt and making
	// its call: a process that was suspended for longer in between starts over.
	BeginTimeout time.Duration
	// AllocateTimeout is the longest that a client waits for the answer of an
	// allocation, FreeTimeout for that of a free.
	AllocateTimeout, FreeTimeout time.Duration
	// UncertainDuration is the longest that the metal-api works on a call after
	// its client went away.
	UncertainDuration time.Duration
	// PollInterval is the pause between reads of the outcome of a call.
	PollInterval time.Duration
	// Backoff is the pause after the first refusal; it doubles up to
	// MaxBackoff.
	Backoff, MaxBackoff time.Duration
	// NetworkFreeDelay is the pause between observing that a network's last
	// address is gone, and freeing the network.
	NetworkFreeDelay time.Duration
}

// defaultTiming is for a real metal-api.
var defaultTiming = Timing{
	BeginTimeout:    30 * time.Second,
	AllocateTimeout: metal.AllocateTimeout,
	FreeTimeout:     metal.FreeTimeout,
	// A cancelled allocate was in progress for up to 40 s, behind a lock that is
	// waited for 10 s (docs/metal-api.md, Q44); twice that.
	UncertainDuration: 100 * time.Second,
	PollInterval:      2 * time.Second,
	// One failure is harmless, six in a row took the addresses of the next
	// success (docs/metal-api.md, Q36); at this pace a clean-up is over before
	// the next attempt.
	Backoff: 10 * time.Second, MaxBackoff: 5 * time.Minute,
	// The metal-api returns a freed machine's addresses within 0.4 s
	// (docs/metal-api.md, Q49).
	NetworkFreeDelay: 2 * time.Second,
}

func (t Timing) withDefaults() Timing {
	for _, f := range []struct{ set, def *time.Duration }{
		{&t.BeginTimeout, &defaultTiming.BeginTimeout},
		{&t.AllocateTimeout, &defaultTiming.AllocateTimeout},
		{&t.FreeTimeout, &defaultTiming.FreeTimeout},
		{&t.UncertainDuration, &defaultTiming.UncertainDuration},
		{&t.PollInterval, &defaultTiming.PollInterval},
		{&t.Backoff, &defaultTiming.Backoff},
		{&t.MaxBackoff, &defaultTiming.MaxBackoff},
		{&t.NetworkFreeDelay, &defaultTiming.NetworkFreeDelay},
	} {
		if *f.set == 0 {
			*f.set = *f.def
		}
	}
	return t
}

// allocateInFlight is for how long after it was recorded the call of an attempt
// of another process may be in flight: until it is made, until its client gives
// up, and until the metal-api is done with it.
func (t Timing) allocateInFlight() time.Duration {
	return t.BeginTimeout + t.AllocateTimeout + t.UncertainDuration
}

// freeInFlight is the same for a free.
func (t Timing) freeInFlight() time.Duration {
	return t.BeginTimeout + t.FreeTimeout + t.UncertainDuration
}
