package observation

import (
	"context"
	"sync"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// sharedRefresh is a look that any number of reads wait for.
type sharedRefresh struct {
	key     string
	scope   metal.Scope
	waiters int
	// deadline is when the last of them stops waiting.
	deadline time.Time
	// started is closed when the look begins, at the time since; due is when it is
	// expected to be over.
	started                chan struct{}
	startedAt, expectedEnd time.Time
	// observed is closed when the look is over, done when the next one of its scope
	// may begin.
	observed, done chan struct{}
	err            error
}

// remaining is how long a look that is under way takes from now on: one that is
// overdue as long again as it has taken so far.
func (l *sharedRefresh) remaining(now time.Time) time.Duration {
	if d := l.expectedEnd.Sub(now); d > 0 {
		return d
	}
	return now.Sub(l.startedAt)
}

// refreshes are the looks of reads: of each scope at most one is running, and one
// waiting, which all reads join that arrive in the meantime. Looks at single
// objects that arrive in the same moment become one look.
type refreshes struct {
	o  *Observer
	mu sync.Mutex
	// waiting has the next look of each scope that has one, running the look that
	// is under way. driven tells the scopes that have a goroutine.
	waiting, running map[string]*sharedRefresh
	hasWorker        map[string]bool
	// batch are the looks at single objects that begin together next, young
	// how many have begun lately.
	batch        []*sharedRefresh
	recentStarts int
}

func newRefreshes(o *Observer) *refreshes {
	return &refreshes{o: o, waiting: map[string]*sharedRefresh{}, running: map[string]*sharedRefresh{}, hasWorker: map[string]bool{}}
}

// join returns a look of the scope that has not begun. If there will be none
// in time, because another one is under way first, it returns ErrTooSlow.
func (s *refreshes) join(key string, want metal.Scope, until time.Time) (*sharedRefresh, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.o.opts.Clock.Now()
	if r := s.running[key]; r != nil {
		if _, p := s.o.planScope(want, limits{}); now.Add(r.remaining(now) + p.duration).After(until) {
			return nil, metal.ErrTimeout
		}
	}
	l := s.waiting[key]
	if l == nil {
		l = &sharedRefresh{key: key, scope: want, started: make(chan struct{}), observed: make(chan struct{}), done: make(chan struct{})}
		s.waiting[key] = l
	}
	l.scope = unionScopes(l.scope, want)
	if until.After(l.deadline) {
		l.deadline = until
	}
	l.waiters++
	if !s.hasWorker[key] {
		s.hasWorker[key] = true
		go s.work(key)
	}
	return l, nil
}

// wait waits for a look that was joined.
func (s *refreshes) wait(ctx context.Context, key string, l *sharedRefresh, until time.Time) error {
	limit := s.o.opts.Clock.NewTimer(until.Sub(s.o.opts.Clock.Now()))
	defer limit.Stop()
	begun := l.started
	for {
		select {
		case <-l.done:
			return l.err
		case <-begun:
			if begun = nil; l.expectedEnd.After(until) {
				s.leave(key, l)
				return metal.ErrTimeout
			}
		case <-limit.C():
			return s.leave(key, l)
		case <-ctx.Done():
			s.leave(key, l)
			return ctx.Err()
		}
	}
}

// leave gives up waiting, and returns what for.
func (s *refreshes) leave(key string, l *sharedRefresh) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.waiters--
	switch {
	case !l.startedAt.IsZero() || s.running[key] != nil:
		return metal.ErrTimeout
	case l.waiters == 0 && s.waiting[key] == l:
		delete(s.waiting, key)
	}
	return metal.ErrBudgetExceeded
}

// work makes the looks of a scope, one after the other, while there are any.
func (s *refreshes) work(key string) {
	for {
		s.mu.Lock()
		l := s.waiting[key]
		if l == nil {
			delete(s.hasWorker, key)
			s.mu.Unlock()
			return
		}
		if isUnscoped(l.scope) {
			s.batch = append(s.batch, l)
			s.startBatch()
			s.mu.Unlock()
			<-l.observed
		} else {
			s.mu.Unlock()
			s.observe([]*sharedRefresh{l})
		}
		s.mu.Lock()
		delete(s.running, key)
		s.mu.Unlock()
		close(l.done)
	}
}

// isUnscoped tells whether only things are wanted that are named.
func isUnscoped(w metal.Scope) bool { return !w.Fleet && w.Project == "" }

// startBatch begins the looks that were gathered, as one, unless some others have
// begun lately: then when one of these is over, or none of late any more.
func (s *refreshes) startBatch() {
	if s.recentStarts >= maxUnbatched || len(s.batch) == 0 {
		return
	}
	batch := s.batch
	s.batch = nil
	s.recentStarts++
	over := make(chan struct{})
	go func() {
		defer close(over)
		s.observe(batch)
	}()
	go func() {
		timer := s.o.opts.Clock.NewTimer(batchWindow)
		defer timer.Stop()
		select {
		case <-over:
		case <-timer.C():
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.recentStarts--
		s.startBatch()
	}()
}

// observe makes looks together, or as many of them as can be made in time.
func (s *refreshes) observe(batch []*sharedRefresh) {
	o := s.o
	if batch = s.dropAbandoned(batch); len(batch) == 0 {
		return
	}
	want, until := s.combine(batch)
	within := until.Sub(o.opts.Clock.Now())
	_, p := o.planScope(want, newLimits(within, o.budget.balanceAfter(readAccount, within)))
	err := metal.ErrTimeout
	if p.duration <= within {
		err = metal.ErrBudgetExceeded
		// What can never be saved could not be finished within any read's limit.
		if p.cost <= o.budget.capacity(readAccount) {
			err = o.budget.reserveWithin(readAccount, p.cost, within-p.duration)
		}
	}
	switch {
	case err == nil:
		s.start(batch, p.cost)
	case len(batch) == 1:
		// A read that arrives from now on gets a look of its own.
		s.mu.Lock()
		s.closeToJoin(batch[0])
		s.mu.Unlock()
		s.finish(batch[0], err)
	default:
		half := len(batch) / 2
		var rest sync.WaitGroup
		rest.Go(func() { s.observe(batch[half:]) })
		s.observe(batch[:half])
		rest.Wait()
	}
}

// dropAbandoned ends the looks that nothing waits for any more, and returns the others.
func (s *refreshes) dropAbandoned(batch []*sharedRefresh) (left []*sharedRefresh) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range batch {
		if l.waiters > 0 {
			left = append(left, l)
			continue
		}
		s.closeToJoin(l)
		s.finish(l, metal.ErrBudgetExceeded)
	}
	return left
}

// closeToJoin takes a look out of waiting, so that no read joins it any more; s.mu is
// held.
func (s *refreshes) closeToJoin(l *sharedRefresh) {
	if s.waiting[l.key] == l {
		delete(s.waiting, l.key)
	}
}

// combine is what looks want, and until when.
func (s *refreshes) combine(batch []*sharedRefresh) (want metal.Scope, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return combineLocked(batch)
}

// combineLocked is union where s.mu is held.
func combineLocked(batch []*sharedRefresh) (want metal.Scope, until time.Time) {
	if len(batch) == 1 {
		return batch[0].scope, batch[0].deadline
	}
	for _, l := range batch {
		want.Machines = append(want.Machines, l.scope.Machines...)
		want.Networks = append(want.Networks, l.scope.Networks...)
		want.IPs = append(want.IPs, l.scope.IPs...)
		if l.deadline.After(until) {
			until = l.deadline
		}
	}
	return dedupScope(want), until
}

// finish ends a look.
func (s *refreshes) finish(l *sharedRefresh, err error) {
	l.err = err
	if !l.startedAt.IsZero() {
		s.o.slowBackoff.record(l.key, s.o.opts.Clock.Since(l.startedAt) > s.o.opts.RefreshTimeout)
	}
	close(l.observed)
}
