// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// Options configure an Observer; the zero value of a field is its
// default.
type Options struct {
	// Clock is the source of time; default the real one.
	Clock clock.WithTicker
	// Budget is the part of the time in which the metal-api may be busy with
	// observations, 0 < Budget <= 1; default DefaultBudget.
	Budget float64
	// SweepInterval is the least time between two sweeps, FocusInterval
	// between two observations of a machine in transition; RefreshTimeout is how long a
	// read waits; defaults Default….
	SweepInterval, FocusInterval, RefreshTimeout time.Duration
	// MaxConcurrent is how many gets of observations are in flight at a time at most, and, up to
	// 16, how many finds and lists; while answers are slow they are fewer. Default
	// DefaultMaxConcurrent.
	MaxConcurrent int
	// Referenced returns how the metal that records reference, machines, networks and IPs,
	// differs from what it was at a position that it returned before, or 0 for none. It is
	// called about once a second.
	Referenced func(since uint64) metal.RefChanges
	// Relevant reports whether a project's metal is shown; default: every one's.
	// Call RelevanceChanged when that changes.
	Relevant func(project string) bool
	// BoundProjects returns relevant projects as far as they can be listed, besides those that
	// anything is known of; default: none. It must not call the Observer.
	BoundProjects func() []string
	// Changed is called with what has changed, in the order of the changes, one
	// call at a time. It may ask the Observer for facts; it must not call
	// Refresh, Learn… or RelevanceChanged, nor write through the backend.
	Changed func(refs []metal.Ref)
	// Shown reports whether what Changed was called with is shown; default: it is. If it is
	// not, NetworksObserved, IPsObserved and their likes stay as they are.
	Shown func() bool
	// ManagementCluster is the value of TagManagementCluster of the metal that
	// Identified returns; empty: it returns none.
	ManagementCluster string
	// Registerer gets the metrics; nil: none does.
	Registerer prometheus.Registerer
}

// Observer keeps facts about metal by observing it. It knows nothing of
// Kubernetes, and changes nothing.
//
// Facts are ordered by when the observation that brought them began. That a piece of
// metal or an allocation is gone is concluded from two complete observations that
// agree, the second of which is a find of that very id; until then the old
// fact stays.
type Observer struct {
	backend     metal.Observable
	opts        Options
	facts       *facts
	budget      *budget
	costs       *costModel
	breaker     *circuitBreaker
	refreshes   *refreshes
	slowBackoff *slowBackoff
	// getLimiter bounds the calls of kinds that run concurrently, bulkLimiter the
	// others.
	getLimiter, bulkLimiter *limiter
	sweepRequests           chan struct{} // a sweep is wanted at once
	createdAt               time.Time

	metrics *observerMetrics
	// These have locks of their own.
	identified identifiedMetal
	referenced referencedObservations
	references referencesPosition
	interest   interest
	lists      networkLists

	// probing is held while a probe is in flight.
	probing sync.Mutex

	mu sync.Mutex
	// lastSweep is when the last complete sweep began; zero: never.
	lastSweep time.Time
	// lastAttempt is when focus last observed a machine.
	lastAttempt map[string]time.Time
	// lastRound is when focus last began a round, and sweeping when the sweep that
	// is in flight began; zero: none is.
	lastRound, sweepStarted time.Time
}

// New returns an Observer without facts. Answers of the
// backend's writes are learned by themselves.
func New(backend metal.Observable, opts Options) *Observer {
	if opts.Clock == nil {
		opts.Clock = clock.RealClock{}
	}
	if opts.Relevant == nil {
		opts.Relevant = func(string) bool { return true }
	}
	if opts.Referenced == nil {
		opts.Referenced = func(uint64) metal.RefChanges { return metal.RefChanges{} }
	}
	opts.Budget = min(cmp.Or(opts.Budget, DefaultBudget), 1)
	opts.SweepInterval = cmp.Or(opts.SweepInterval, DefaultSweepInterval)
	opts.FocusInterval = cmp.Or(opts.FocusInterval, DefaultFocusInterval)
	opts.RefreshTimeout = cmp.Or(opts.RefreshTimeout, DefaultRefreshTimeout)
	opts.MaxConcurrent = cmp.Or(opts.MaxConcurrent, DefaultMaxConcurrent)

	o := &Observer{
		backend:       backend,
		opts:          opts,
		facts:         newFacts(opts.Relevant, opts.Changed),
		budget:        newBudget(opts.Clock, opts.Budget),
		costs:         newCostModel(opts.Clock),
		breaker:       &circuitBreaker{clock: opts.Clock},
		getLimiter:    newLimiter(opts.MaxConcurrent, opts.MaxConcurrent),
		bulkLimiter:   newLimiter(min(opts.MaxConcurrent, maxBulkConcurrent), initialBulkConcurrent),
		slowBackoff:   newSlowBackoff(opts.Clock),
		sweepRequests: make(chan struct{}, 1),
		createdAt:     opts.Clock.Now(),
		referenced:    referencedObservations{lastAttempt: map[string]time.Time{}, slow: map[string]bool{}},
		lastAttempt:   map[string]time.Time{},
		lastRound:     opts.Clock.Now(),
		interest:      interest{of: map[interestKey]*interestState{}},
	}
	if opts.Shown != nil {
		o.facts.shown = opts.Shown
	}
	o.refreshes = newRefreshes(o)
	o.metrics = newObserverMetrics(opts.Registerer, o)
	backend.AddWriteListener(o)
	return o
}

// Run observes until ctx ends.
func (o *Observer) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { o.sweepLoop(ctx) })
	wg.Go(func() { o.focusLoop(ctx) })
	wg.Wait()
}

// SetBudget changes the part of the time in which the metal-api may be busy with
// observations, from now on: of several observers, the one whose facts are shown may
// observe more.
func (o *Observer) SetBudget(part float64) { o.budget.setRate(min(part, 1)) }

// RefreshAll observes all machines, and whatever else records reference and was never
// observed. It returns what Refresh does; what it could not observe in time a sweep
// observes as soon as the budget allows.
func (o *Observer) RefreshAll(ctx context.Context) error {
	o.updateReferenced()
	scope := metal.Scope{Fleet: true}
	o.facts.mu.RLock()
	for ref := range o.facts.referenced {
		switch ref.Kind {
		case metal.KindNetwork:
			if observedAt(&o.facts.networks, ref.ID).IsZero() {
				scope.Networks = append(scope.Networks, ref.ID)
			}
		case metal.KindIP:
			if observedAt(&o.facts.ips, ref.ID).IsZero() {
				scope.IPs = append(scope.IPs, ref.ID)
			}
		}
	}
	o.facts.mu.RUnlock()
	err := o.refresh(ctx, scope, true)
	if err != nil && o.HasSynced() {
		o.requestSweep()
		scope.Fleet = false
		_ = o.refresh(ctx, scope, true)
	}
	return err
}

// HasSynced reports whether a first sweep was completed.
func (o *Observer) HasSynced() bool { return !o.lastSweepStart().IsZero() }

func (o *Observer) lastSweepStart() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lastSweep
}

// Staleness is how long ago the last complete sweep began; before the first
// one, how long ago the Observer was made.
func (o *Observer) Staleness() time.Duration {
	if swept := o.lastSweepStart(); !swept.IsZero() {
		return o.opts.Clock.Since(swept)
	}
	return o.opts.Clock.Since(o.createdAt)
}

// Heartbeat is for how long a loop of Run has been silent: how long ago the
// last round of focus began or how long the sweep that is in flight has taken,
// whichever is longer.
func (o *Observer) Heartbeat() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	silent := o.opts.Clock.Since(o.lastRound)
	if !o.sweepStarted.IsZero() {
		silent = max(silent, o.opts.Clock.Since(o.sweepStarted))
	}
	return silent
}

// Machine returns the fact about a machine; nil unless Present.
func (o *Observer) Machine(id string) (*metal.Machine, metal.Presence) {
	return lookup(o.facts, &o.facts.machines, id)
}

// Network returns the fact about a network; nil unless Present.
func (o *Observer) Network(id string) (*metal.Network, metal.Presence) {
	return lookup(o.facts, &o.facts.networks, id)
}

// IP returns the fact about an address; nil unless Present.
func (o *Observer) IP(address string) (*metal.IP, metal.Presence) {
	return lookup(o.facts, &o.facts.ips, address)
}

// Machines returns every machine that is known to be there, by id: all that
// are allocated, and those that records reference.
func (o *Observer) Machines() iter.Seq[*metal.Machine] {
	o.facts.mu.RLock()
	all := make([]*metal.Machine, 0, len(o.facts.machines.entries))
	for _, h := range o.facts.machines.entries {
		if h.fact != nil {
			all = append(all, h.fact)
		}
	}
	o.facts.mu.RUnlock()
	slices.SortFunc(all, func(a, b *metal.Machine) int { return cmp.Compare(a.ID, b.ID) })
	return slices.Values(all)
}

// AllocatedIn returns the machines and firewalls of a project, by id.
func (o *Observer) AllocatedIn(project string) []*metal.Machine {
	return o.facts.machinesInProject(project)
}

// MachinesByUID returns the allocated machines that carry the identity, by id.
func (o *Observer) MachinesByUID(uid string) []*metal.Machine {
	return o.facts.machinesByUID(uid)
}

// RelevanceChanged notifies Changed of all metal of projects whose Relevant has
// changed, and requests a sweep as soon as the budget allows: machines that are not
// relevant are observed by sweeps only.
func (o *Observer) RelevanceChanged(projects ...string) {
	o.facts.update(func() {
		for _, project := range projects {
			for _, id := range slices.Sorted(maps.Keys(o.facts.byProject[project])) {
				o.facts.notifyMachine(id, o.facts.machines.entries[id].fact)
			}
			o.facts.notifyNetworking(project)
		}
		o.facts.notifyPublic()
	})
	if o.HasSynced() {
		o.requestSweep()
	}
}

// LearnMachine records the answer of a write to a machine or firewall; an observation
// that began earlier does not overwrite it. Answers of the backend's own writes
// arrive by themselves.
func (o *Observer) LearnMachine(m *metal.Machine) { o.learn(m) }

// LearnNetwork records the answer of a network's allocation.
func (o *Observer) LearnNetwork(n *metal.Network) { o.learn(n) }

// LearnIP records the answer of an address's allocation.
func (o *Observer) LearnIP(i *metal.IP) { o.learn(i) }

// LearnFreed records that a network or an IP was freed by this server.
func (o *Observer) LearnFreed(ref metal.Ref) { o.learn(ref) }

func (o *Observer) learn(answer any) {
	if freed, ok := answer.(metal.Ref); ok {
		o.identified.forget(freed)
	}
	m := o.facts.nextObservation(o.opts.Clock.Now())
	o.facts.update(func() {
		switch a := answer.(type) {
		case *metal.Machine:
			learn(&o.facts.machines, a.ID, a, m)
		case *metal.Network:
			learn(&o.facts.networks, a.ID, a, m)
		case *metal.IP:
			learn(&o.facts.ips, a.Address, a, m)
		case metal.Ref:
			switch a.Kind {
			case metal.KindNetwork:
				o.facts.networks.apply(a.ID, nil, m, sourceWrite)
			case metal.KindIP:
				o.facts.ips.apply(a.ID, nil, m, sourceWrite)
			}
		}
	})
}

// learn records an answer, once: the writer may report it again, later, when
// newer observations have been taken.
func learn[T any](s *cache[T], id string, fact *T, m observationTime) {
	h := s.getOrCreate(id, m.start)
	if h.lastWrite == fact {
		return
	}
	h.lastWrite = fact
	s.apply(id, fact, m, sourceWrite)
}
