package metal

import (
	"context"
	"iter"
	"time"

	"k8s.io/utils/clock"
)

// Want is what a read is about to see.
type Want struct {
	// Fleet: every machine of every project.
	Fleet bool
	// Project: the machines of one project.
	Project string
	// Machines, Networks and IPs are ids and addresses; together with Project
	// they are what is known of its scope.
	Machines, Networks, IPs []string
}

// ObserverOptions configure an Observer; the zero value of a field is its
// default.
type ObserverOptions struct {
	// Clock is the source of time; default the real one.
	Clock clock.WithTicker
	// Budget is the part of the time in which the metal-api may be busy with
	// looks, 0 < Budget <= 1; default DefaultBudget.
	Budget float64
	// SweepInterval is the least time between two sweeps, FocusInterval
	// between two looks at a machine in transition; ReadLimit is how long a
	// read waits; defaults Default….
	SweepInterval, FocusInterval, ReadLimit time.Duration
	// Parallel is how many calls of one look are under way at a time; default
	// DefaultParallel.
	Parallel int
	// Named returns the metal that records name; KindUID is ignored.
	Named func() []Ref
	// Relevant tells whether a project's metal is shown; default: every one's.
	Relevant func(project string) bool
	// Changed is told which facts changed, in the order of the changes, one
	// call at a time. It may ask the Observer for facts; it must not call
	// Confirm or Learn.
	Changed func(refs []Ref)
}

// Observer keeps facts about metal by looking at it. It knows nothing of
// Kubernetes, and changes nothing.
type Observer struct{}

// NewObserver returns an Observer that knows nothing yet. Answers of the
// client's writes are learned by themselves.
func NewObserver(client *Client, opts ObserverOptions) *Observer { return &Observer{} }

// Run looks until ctx ends.
func (o *Observer) Run(ctx context.Context) { <-ctx.Done() }

// Swept tells whether a first sweep was completed.
func (o *Observer) Swept() bool { return false }

// Staleness is how long ago the last complete sweep began; before the first
// one, how long ago the Observer was made.
func (o *Observer) Staleness() time.Duration { return 0 }

// Machine returns the fact about a machine; nil unless Present.
func (o *Observer) Machine(id string) (*Machine, Presence) { return nil, Unseen }

// Network returns the fact about a network; nil unless Present.
func (o *Observer) Network(id string) (*Network, Presence) { return nil, Unseen }

// IP returns the fact about an address; nil unless Present.
func (o *Observer) IP(address string) (*IP, Presence) { return nil, Unseen }

// Machines returns every machine that is known and Present, in no order.
func (o *Observer) Machines() iter.Seq[*Machine] { return func(func(*Machine) bool) {} }

// AllocatedIn returns the machines and firewalls of a project, by id.
func (o *Observer) AllocatedIn(project string) []*Machine { return nil }

// MachinesByUID returns the allocated machines that carry the identity, by id.
func (o *Observer) MachinesByUID(uid string) []*Machine { return nil }

// Confirm returns nil when everything that want covers was looked at by looks
// that began after the call, and Changed was told of all that they saw.
// Otherwise, at the latest after the read limit, it returns an *Unconfirmed;
// looks that are under way then go on.
func (o *Observer) Confirm(ctx context.Context, want Want) error { return nil }

// Attend looks at machines about to be released or otherwise on the move as
// closely as at those in transition, for the time d.
func (o *Observer) Attend(d time.Duration, ids ...string) {}

// LearnMachine takes in the answer of a write to a machine or firewall; a look
// that began earlier does not overwrite it. Answers of the Client's own writes
// arrive by themselves.
func (o *Observer) LearnMachine(m *Machine) {}

// LearnNetwork takes in the answer of a network's allocation.
func (o *Observer) LearnNetwork(n *Network) {}

// LearnIP takes in the answer of an address's allocation.
func (o *Observer) LearnIP(i *IP) {}

// LearnFreed takes in that a network or an IP was freed by us.
func (o *Observer) LearnFreed(ref Ref) {}
