package metal

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Want is what a read is about to see. For one object it names just that
// object's metal; for a namespace its project and the metal of its objects.
type Want struct {
	// Fleet: every machine that is shown.
	Fleet bool
	// Project: the machines of one project. Machines that nobody knows yet are
	// discovered by it only where a find costs little; otherwise by the sweep.
	Project string
	// Machines, Networks and IPs are ids and addresses.
	Machines, Networks, IPs []string
}

// Confirm returns nil when everything that want covers was looked at by looks
// that began after the call, and Changed was told of all that they saw.
// Otherwise, at the latest after the read limit, it returns an *Unconfirmed;
// looks that are under way then go on.
func (o *Observer) Confirm(ctx context.Context, want Want) error {
	key := want.key()
	if key == "" {
		return nil
	}
	if err := o.away.pass(); err != nil {
		return o.unconfirmed(want, err)
	}
	l := o.shared.join(key, want)
	limit := o.opts.Clock.NewTimer(o.opts.ReadLimit)
	defer limit.Stop()
	var cause error
	select {
	case <-l.done:
		cause = l.err
	case <-limit.C():
		cause = o.shared.leave(key, l)
	case <-ctx.Done():
		cause = ctx.Err()
		o.shared.leave(key, l)
	}
	if cause == nil {
		return nil
	}
	return o.unconfirmed(want, cause)
}

func (o *Observer) unconfirmed(want Want, cause error) error {
	o.metrics.unconfirmed.Inc()
	return &Unconfirmed{Since: o.since(want), Cause: cause}
}

// since is when the oldest fact of want was last confirmed.
func (o *Observer) since(want Want) (oldest time.Time) {
	all := o.targets(want)
	if want.Fleet || want.Project != "" && len(all.Machines) == 0 {
		return o.lastSweep()
	}
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	first := true
	older := func(looked time.Time) {
		if first || looked.Before(oldest) {
			oldest, first = looked, false
		}
	}
	for _, id := range all.Machines {
		older(lookedAt(&o.facts.machines, id))
	}
	for _, id := range all.Networks {
		older(lookedAt(&o.facts.networks, id))
	}
	for _, id := range all.IPs {
		older(lookedAt(&o.facts.ips, id))
	}
	return oldest
}

func lookedAt[T any](s *shelf[T], id string) time.Time {
	if h := s.held[id]; h != nil {
		return h.looked
	}
	return time.Time{}
}

// targets adds to want's machines those that are known of its scope.
func (o *Observer) targets(want Want) Want {
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	ids := map[string]struct{}{}
	for _, id := range want.Machines {
		ids[id] = struct{}{}
	}
	if want.Project != "" {
		maps.Copy(ids, o.facts.byProject[want.Project])
	}
	if want.Fleet {
		for id, h := range o.facts.machines.held {
			if o.facts.machineGuarded(id, h.fact) {
				ids[id] = struct{}{}
			}
		}
	}
	want.Machines = slices.Sorted(maps.Keys(ids))
	return want
}

// lookFor makes the look of a scope.
func (o *Observer) lookFor(ctx context.Context, a *account, want Want, p plan) error {
	return errors.Join(
		o.carryOut(ctx, a, p),
		each(ctx, want.Networks, o.opts.Parallel, func(ctx context.Context, id string) error { return o.lookAtNetwork(ctx, a, id) }),
		each(ctx, want.IPs, o.opts.Parallel, func(ctx context.Context, id string) error { return o.lookAtIP(ctx, a, id) }),
	)
}

// priceOf plans the look of a scope.
func (o *Observer) priceOf(want Want) (Want, plan, time.Duration) {
	want = o.targets(want)
	p := o.planFor(want)
	return want, p, p.cost +
		time.Duration(len(want.Networks))*o.costs.of(callNetworkGet, 1) +
		time.Duration(len(want.IPs))*o.costs.of(callIPGet, 1)
}

// key is the scope of a want: reads of one scope share looks.
func (w Want) key() string {
	switch {
	case w.Fleet:
		return "fleet"
	case w.Project != "":
		return "project " + w.Project
	}
	var b strings.Builder
	for _, ids := range [][]string{w.Machines, w.Networks, w.IPs} {
		for _, id := range slices.Sorted(slices.Values(ids)) {
			b.WriteString(id)
			b.WriteByte(' ')
		}
		b.WriteByte('/')
	}
	if b.Len() == 3 {
		return ""
	}
	return b.String()
}

// with is the union of two wants of one scope.
func (w Want) with(v Want) Want {
	w.Machines = union(w.Machines, v.Machines)
	w.Networks = union(w.Networks, v.Networks)
	w.IPs = union(w.IPs, v.IPs)
	return w
}

func union(a, b []string) []string {
	if len(b) == 0 || slices.Equal(a, b) {
		return a
	}
	return slices.Compact(slices.Sorted(func(yield func(string) bool) {
		for _, l := range [][]string{a, b} {
			for _, s := range l {
				if !yield(s) {
					return
				}
			}
		}
	}))
}

// sharedLook is a look that any number of reads wait for.
type sharedLook struct {
	want    Want
	waiters int
	began   bool
	// saving: it waits for the budget.
	saving bool
	// abandon ends the wait for the budget when nobody waits any more.
	abandon context.CancelFunc
	left    context.Context
	done    chan struct{}
	err     error
}

// shared are the looks of reads: of each scope at most one is running, and one
// waiting, which all reads join that arrive in the meantime.
type shared struct {
	o  *Observer
	mu sync.Mutex
	// waiting has the next look of each scope that has one; running tells the
	// scopes that somebody drives.
	waiting map[string]*sharedLook
	running map[string]bool
}

func newShared(o *Observer) *shared {
	return &shared{o: o, waiting: map[string]*sharedLook{}, running: map[string]bool{}}
}

// join returns a look of the scope that has not begun.
func (s *shared) join(key string, want Want) *sharedLook {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.waiting[key]
	if l == nil {
		l = &sharedLook{want: want, done: make(chan struct{})}
		l.left, l.abandon = context.WithCancel(context.Background())
		s.waiting[key] = l
	}
	l.want = l.want.with(want)
	l.waiters++
	if !s.running[key] {
		s.running[key] = true
		go s.drive(key)
	}
	return l
}

// leave gives up waiting, and returns what for.
func (s *shared) leave(key string, l *sharedLook) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.waiters--; l.waiters == 0 {
		l.abandon()
		if s.waiting[key] == l && !l.began {
			delete(s.waiting, key)
		}
	}
	if l.saving {
		return ErrOverBudget
	}
	return ErrTooSlow
}

// drive makes the looks of a scope, one after the other, while there are any.
func (s *shared) drive(key string) {
	for {
		s.mu.Lock()
		l := s.waiting[key]
		if l == nil {
			delete(s.running, key)
			s.mu.Unlock()
			return
		}
		want := l.want
		s.mu.Unlock()

		l.err = s.look(key, l, want)
		s.mu.Lock()
		if s.waiting[key] == l {
			delete(s.waiting, key)
		}
		s.mu.Unlock()
		l.abandon()
		close(l.done)
	}
}

func (s *shared) look(key string, l *sharedLook, want Want) error {
	o := s.o
	_, _, cost := o.priceOf(want)
	if cost > o.budget.most() {
		// It could not be finished within any read's limit either.
		return ErrOverBudget
	}
	s.mu.Lock()
	l.saving = true
	s.mu.Unlock()
	if err := o.budget.await(l.left, cost); err != nil {
		return err
	}
	s.mu.Lock()
	l.saving, l.began = false, true
	if s.waiting[key] == l {
		delete(s.waiting, key)
	}
	want = l.want
	s.mu.Unlock()

	// Who joined while it waited for the budget is looked for as well.
	want, p, _ := o.priceOf(want)
	a := &account{}
	err := o.lookFor(context.Background(), a, want, p)
	o.budget.settle(cost, a.took)
	o.metrics.looked("read", a.took)
	return err
}
