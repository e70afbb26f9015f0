// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"context"
	"sync"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// sharedRefresh is an observation that any number of reads wait for.
type sharedRefresh struct {
	key     string
	scope   metal.Scope
	waiters int
	// deadline is when the last of them stops waiting.
	deadline time.Time
	// started is closed when the observation begins, at the time startedAt; expectedEnd is when it is
	// expected to be over.
	started                chan struct{}
	startedAt, expectedEnd time.Time
	// observed is closed when the observation is over, done when the next one of its scope
	// may begin.
	observed, done chan struct{}
	err            error
}

// remaining is how long an observation that is in flight takes from now on: one that is
// overdue as long again as it has taken so far.
func (l *sharedRefresh) remaining(now time.Time) time.Duration {
	if d := l.expectedEnd.Sub(now); d > 0 {
		return d
	}
	return now.Sub(l.startedAt)
}

// refreshes are the observations of reads: of each scope at most one is running, and one
// waiting, which all reads join that arrive in the meantime. Observations at single
// objects that arrive in the same moment become one observation.
type refreshes struct {
	o  *Observer
	mu sync.Mutex
	// waiting has the next observation of each scope that has one, running the observation that
	// is in flight. hasWorker has the scopes that have a goroutine.
	waiting, running map[string]*sharedRefresh
	hasWorker        map[string]bool
	// batch are the observations of single objects that begin together next,
	// recentStarts how many have begun lately.
	batch        []*sharedRefresh
	recentStarts int
}

func newRefreshes(o *Observer) *refreshes {
	return &refreshes{o: o, waiting: map[string]*sharedRefresh{}, running: map[string]*sharedRefresh{}, hasWorker: map[string]bool{}}
}

// join returns an observation of the scope that has not begun. If there will be none
// in time, because another one is in flight first, it returns ErrTimeout.
func (s *refreshes) join(key string, scope metal.Scope, deadline time.Time) (*sharedRefresh, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.o.opts.Clock.Now()
	if r := s.running[key]; r != nil {
		if _, p := s.o.planScope(scope, limits{}); now.Add(r.remaining(now) + p.duration).After(deadline) {
			return nil, metal.ErrTimeout
		}
	}
	l := s.waiting[key]
	if l == nil {
		l = &sharedRefresh{key: key, scope: scope, started: make(chan struct{}), observed: make(chan struct{}), done: make(chan struct{})}
		s.waiting[key] = l
	}
	l.scope = unionScopes(l.scope, scope)
	if deadline.After(l.deadline) {
		l.deadline = deadline
	}
	l.waiters++
	if !s.hasWorker[key] {
		s.hasWorker[key] = true
		go s.work(key)
	}
	return l, nil
}

// wait waits for an observation that was joined.
func (s *refreshes) wait(ctx context.Context, key string, l *sharedRefresh, deadline time.Time) error {
	limit := s.o.opts.Clock.NewTimer(deadline.Sub(s.o.opts.Clock.Now()))
	defer limit.Stop()
	begun := l.started
	for {
		select {
		case <-l.done:
			return l.err
		case <-begun:
			if begun = nil; l.expectedEnd.After(deadline) {
				_ = s.leave(key, l)
				return metal.ErrTimeout
			}
		case <-limit.C():
			return s.leave(key, l)
		case <-ctx.Done():
			_ = s.leave(key, l)
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

// work makes the observations of a scope, in sequence, while there are any.
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

// isUnscoped reports whether a scope names all that it covers.
func isUnscoped(w metal.Scope) bool { return !w.Fleet && w.Project == "" }

// startBatch starts the observations of the batch, as one, unless several others have
// started within the window: then it is called again when one of these is over, or
// their window is.
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

// observe makes observations together, or as many of them as can be made in time.
func (s *refreshes) observe(batch []*sharedRefresh) {
	o := s.o
	if batch = s.dropAbandoned(batch); len(batch) == 0 {
		return
	}
	scope, deadline := s.combine(batch)
	timeLeft := deadline.Sub(o.opts.Clock.Now())
	_, p := o.planScope(scope, newLimits(timeLeft, o.budget.balanceAfter(readAccount, timeLeft)))
	err := metal.ErrTimeout
	if p.duration <= timeLeft {
		err = metal.ErrBudgetExceeded
		// What can never be saved could not be finished within any read's limit.
		if p.cost <= o.budget.capacity(readAccount) {
			err = o.budget.reserveWithin(readAccount, p.cost, timeLeft-p.duration)
		}
	}
	switch {
	case err == nil:
		s.start(batch, p.cost)
	case len(batch) == 1:
		// A read that arrives from now on gets an observation of its own.
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

// dropAbandoned ends the observations that nothing waits for any more, and returns the others.
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

// closeToJoin takes an observation out of waiting, so that no read joins it any more; s.mu is
// held.
func (s *refreshes) closeToJoin(l *sharedRefresh) {
	if s.waiting[l.key] == l {
		delete(s.waiting, l.key)
	}
}

// combine returns what observations cover, and their last deadline.
func (s *refreshes) combine(batch []*sharedRefresh) (scope metal.Scope, deadline time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return combineLocked(batch)
}

// combineLocked is combine where s.mu is held.
func combineLocked(batch []*sharedRefresh) (scope metal.Scope, deadline time.Time) {
	if len(batch) == 1 {
		return batch[0].scope, batch[0].deadline
	}
	for _, l := range batch {
		scope.Machines = append(scope.Machines, l.scope.Machines...)
		scope.Networks = append(scope.Networks, l.scope.Networks...)
		scope.IPs = append(scope.IPs, l.scope.IPs...)
		if l.deadline.After(deadline) {
			deadline = l.deadline
		}
	}
	return dedupScope(scope), deadline
}

// finish ends an observation.
func (s *refreshes) finish(l *sharedRefresh, err error) {
	l.err = err
	if !l.startedAt.IsZero() {
		s.o.slowBackoff.record(l.key, s.o.opts.Clock.Since(l.startedAt) > s.o.opts.RefreshTimeout)
	}
	close(l.observed)
}
