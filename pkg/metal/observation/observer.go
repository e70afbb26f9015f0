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
	// looks, 0 < Budget <= 1; default DefaultBudget.
	Budget float64
	// SweepInterval is the least time between two sweeps, FocusInterval
	// between two looks at a machine in transition; ReadLimit is how long a
	// read waits; defaults Default….
	SweepInterval, FocusInterval, ReadLimit time.Duration
	// Parallel is how many gets of looks are under way at a time at most, and, up to
	// 16, how many finds and lists; while answers are slow they are fewer. Default
	// DefaultParallel.
	Parallel int
	// Named returns the metal that records name: machines, networks and IPs.
	// It is called about once a second.
	Named func() []metal.Ref
	// Relevant tells whether a project's metal is shown; default: every one's.
	// Call Reconsider when that changes.
	Relevant func(project string) bool
	// Changed is told which facts changed, in the order of the changes, one
	// call at a time. It may ask the Observer for facts; it must not call
	// Confirm, Learn… or Reconsider, nor write through the backend.
	Changed func(refs []metal.Ref)
	// ManagementCluster is the value of TagManagementCluster of the metal that
	// Identified returns; empty: it returns none.
	ManagementCluster string
	// Registerer gets the metrics; nil: none does.
	Registerer prometheus.Registerer
}

// Observer keeps facts about metal by looking at it. It knows nothing of
// Kubernetes, and changes nothing.
//
// Facts are ordered by when the look that brought them began. That a piece of
// metal or an allocation is gone is concluded from two complete looks that
// agree, the second of which is a find of that very id; until then the old
// fact stays.
type Observer struct {
	backend metal.Observable
	opts    Options
	facts   *facts
	budget  *budget
	costs   *costs
	away    *away
	shared  *shared
	late    *lateness
	// narrow bounds the calls of kinds that run side by side, wide the others.
	narrow, wide *limiter
	kick         chan struct{} // a sweep is wanted at once
	made         time.Time

	metrics *observerMetrics
	// identified and extras have locks of their own.
	identified identifiedMetal
	extras     extras

	// probing is held while a probe is under way.
	probing sync.Mutex

	mu sync.Mutex
	// swept is when the last complete sweep began; zero: never.
	swept time.Time
	// attended are machines to be looked at closely, and until when.
	attended map[string]time.Time
	// tried is when focus last looked at a machine.
	tried map[string]time.Time
	// beat is when focus last began a round, and sweeping when the sweep that
	// is under way began; zero: none is.
	beat, sweeping time.Time
}

// New returns an Observer that knows nothing yet. Answers of the
// backend's writes are learned by themselves.
func New(backend metal.Observable, opts Options) *Observer {
	if opts.Clock == nil {
		opts.Clock = clock.RealClock{}
	}
	if opts.Relevant == nil {
		opts.Relevant = func(string) bool { return true }
	}
	if opts.Named == nil {
		opts.Named = func() []metal.Ref { return nil }
	}
	opts.Budget = min(cmp.Or(opts.Budget, DefaultBudget), 1)
	opts.SweepInterval = cmp.Or(opts.SweepInterval, DefaultSweepInterval)
	opts.FocusInterval = cmp.Or(opts.FocusInterval, DefaultFocusInterval)
	opts.ReadLimit = cmp.Or(opts.ReadLimit, DefaultReadLimit)
	opts.Parallel = cmp.Or(opts.Parallel, DefaultParallel)

	o := &Observer{
		backend:  backend,
		opts:     opts,
		facts:    newFacts(opts.Relevant, opts.Changed),
		budget:   newBudget(opts.Clock, opts.Budget),
		costs:    newCosts(opts.Clock),
		away:     &away{clock: opts.Clock},
		narrow:   newLimiter(opts.Parallel, opts.Parallel),
		wide:     newLimiter(min(opts.Parallel, mostWide), firstWide),
		late:     newLateness(opts.Clock),
		kick:     make(chan struct{}, 1),
		made:     opts.Clock.Now(),
		extras:   extras{tried: map[string]time.Time{}, late: map[string]bool{}},
		attended: map[string]time.Time{},
		tried:    map[string]time.Time{},
		beat:     opts.Clock.Now(),
	}
	o.shared = newShared(o)
	o.metrics = newObserverMetrics(opts.Registerer, o)
	backend.AddWriteListener(o)
	return o
}

// Run looks until ctx ends.
func (o *Observer) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { o.sweepLoop(ctx) })
	wg.Go(func() { o.focusLoop(ctx) })
	wg.Wait()
}

// SetBudget changes the part of the time in which the metal-api may be busy with
// looks, from now on: of several observers, the one whose facts are shown may
// look more.
func (o *Observer) SetBudget(part float64) { o.budget.setRate(min(part, 1)) }

// CatchUp looks at all machines, and at whatever else records name and was never
// looked at. It answers as Confirm does; what it could not look at in time a sweep
// looks at as soon as the budget allows.
func (o *Observer) CatchUp(ctx context.Context) error {
	o.refreshNamed()
	want := metal.Want{Fleet: true}
	o.facts.mu.RLock()
	for ref := range o.facts.named {
		switch ref.Kind {
		case metal.KindNetwork:
			if lookedAt(&o.facts.networks, ref.ID).IsZero() {
				want.Networks = append(want.Networks, ref.ID)
			}
		case metal.KindIP:
			if lookedAt(&o.facts.ips, ref.ID).IsZero() {
				want.IPs = append(want.IPs, ref.ID)
			}
		}
	}
	o.facts.mu.RUnlock()
	err := o.Confirm(ctx, want)
	if err != nil && o.Swept() {
		o.sweepNow()
		want.Fleet = false
		_ = o.Confirm(ctx, want)
	}
	return err
}

// Swept tells whether a first sweep was completed.
func (o *Observer) Swept() bool { return !o.lastSweep().IsZero() }

func (o *Observer) lastSweep() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.swept
}

// Staleness is how long ago the last complete sweep began; before the first
// one, how long ago the Observer was made.
func (o *Observer) Staleness() time.Duration {
	if swept := o.lastSweep(); !swept.IsZero() {
		return o.opts.Clock.Since(swept)
	}
	return o.opts.Clock.Since(o.made)
}

// Heartbeat is for how long a loop of Run has been silent: how long ago the
// last round of focus began or how long the sweep that is under way has taken,
// whichever is longer.
func (o *Observer) Heartbeat() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	silent := o.opts.Clock.Since(o.beat)
	if !o.sweeping.IsZero() {
		silent = max(silent, o.opts.Clock.Since(o.sweeping))
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
// are allocated, and those that records name.
func (o *Observer) Machines() iter.Seq[*metal.Machine] {
	o.facts.mu.RLock()
	all := make([]*metal.Machine, 0, len(o.facts.machines.held))
	for _, h := range o.facts.machines.held {
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
	return o.facts.indexed(o.facts.byProject, project)
}

// MachinesByUID returns the allocated machines that carry the identity, by id.
func (o *Observer) MachinesByUID(uid string) []*metal.Machine {
	return o.facts.indexed(o.facts.byUID, uid)
}

// Attend looks at machines about to be released or otherwise on the move as
// closely as at those in transition, for the time d.
func (o *Observer) Attend(d time.Duration, ids ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, id := range ids {
		o.attended[id] = o.opts.Clock.Now().Add(d)
	}
}

// Reconsider tells Changed of all machines of projects about which Relevant has
// changed its mind, and has everything looked at as soon as the budget allows:
// while nobody is shown a machine, it is looked at no more than in passing.
func (o *Observer) Reconsider(projects ...string) {
	o.facts.update(func() {
		for _, project := range projects {
			for _, id := range slices.Sorted(maps.Keys(o.facts.byProject[project])) {
				o.facts.tellMachine(id, o.facts.machines.held[id].fact)
			}
		}
	})
	if o.Swept() {
		o.sweepNow()
	}
}

// LearnMachine takes in the answer of a write to a machine or firewall; a look
// that began earlier does not overwrite it. Answers of the backend's own writes
// arrive by themselves.
func (o *Observer) LearnMachine(m *metal.Machine) { o.learn(m) }

// LearnNetwork takes in the answer of a network's allocation.
func (o *Observer) LearnNetwork(n *metal.Network) { o.learn(n) }

// LearnIP takes in the answer of an address's allocation.
func (o *Observer) LearnIP(i *metal.IP) { o.learn(i) }

// LearnFreed takes in that a network or an IP was freed by us.
func (o *Observer) LearnFreed(ref metal.Ref) { o.learn(ref) }

func (o *Observer) learn(answer any) {
	if freed, ok := answer.(metal.Ref); ok {
		o.identified.forget(freed)
	}
	m := o.facts.next(o.opts.Clock.Now())
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
				o.facts.networks.take(a.ID, nil, m, byWrite)
			case metal.KindIP:
				o.facts.ips.take(a.ID, nil, m, byWrite)
			}
		}
	})
}

// learn takes in an answer, once: who wrote may tell it again, later, when
// newer looks have been taken.
func learn[T any](s *shelf[T], id string, fact *T, m moment) {
	h := s.of(id, m.began)
	if h.learned == fact {
		return
	}
	h.learned = fact
	s.take(id, fact, m, byWrite)
}
