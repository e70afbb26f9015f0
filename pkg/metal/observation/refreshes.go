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
	// anyCost: it is to be soon done, whatever it costs.
	anyCost bool
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
func (r *sharedRefresh) remaining(now time.Time) time.Duration {
	if d := r.expectedEnd.Sub(now); d > 0 {
		return d
	}
	return now.Sub(r.startedAt)
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

// join returns an observation of the scope that has not begun. If another one is in
// flight first, and after it there will be none in time, or no funds for one, it returns
// ErrTimeout or ErrBudgetExceeded.
func (r *refreshes) join(key string, scope metal.Scope, deadline time.Time, anyCost bool) (*sharedRefresh, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.o.opts.Clock.Now()
	if running := r.running[key]; running != nil {
		remaining := running.remaining(now)
		timeLeft := deadline.Sub(now) - remaining
		_, p := r.o.planScope(scope, r.o.readLimits(remaining, timeLeft, anyCost))
		if p.duration > timeLeft {
			return nil, metal.ErrTimeout
		}
		if most, _ := r.o.budget.affordable(readAccount, remaining+p.duration); p.cost > most {
			return nil, metal.ErrBudgetExceeded
		}
	}
	sr := r.waiting[key]
	if sr == nil {
		sr = &sharedRefresh{key: key, scope: scope, started: make(chan struct{}), observed: make(chan struct{}), done: make(chan struct{})}
		r.waiting[key] = sr
	}
	sr.scope = unionScopes(sr.scope, scope)
	if deadline.After(sr.deadline) {
		sr.deadline = deadline
	}
	sr.anyCost = sr.anyCost || anyCost
	sr.waiters++
	if !r.hasWorker[key] {
		r.hasWorker[key] = true
		go r.work(key)
	}
	return sr, nil
}

// wait waits for an observation that was joined.
func (r *refreshes) wait(ctx context.Context, key string, sr *sharedRefresh, deadline time.Time) error {
	limit := r.o.opts.Clock.NewTimer(deadline.Sub(r.o.opts.Clock.Now()))
	defer limit.Stop()
	begun := sr.started
	for {
		select {
		case <-sr.done:
			return sr.err
		case <-begun:
			if begun = nil; sr.expectedEnd.After(deadline) {
				_ = r.leave(key, sr)
				return metal.ErrTimeout
			}
		case <-limit.C():
			return r.leave(key, sr)
		case <-ctx.Done():
			_ = r.leave(key, sr)
			return ctx.Err()
		}
	}
}

// leave gives up waiting, and returns what for.
func (r *refreshes) leave(key string, sr *sharedRefresh) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	sr.waiters--
	switch {
	case !sr.startedAt.IsZero() || r.running[key] != nil:
		return metal.ErrTimeout
	case sr.waiters == 0 && r.waiting[key] == sr:
		delete(r.waiting, key)
	}
	return metal.ErrBudgetExceeded
}

// work makes the observations of a scope, in sequence, while there are any.
func (r *refreshes) work(key string) {
	for {
		r.mu.Lock()
		sr := r.waiting[key]
		if sr == nil {
			delete(r.hasWorker, key)
			r.mu.Unlock()
			return
		}
		if namesObjects(sr.scope) {
			r.batch = append(r.batch, sr)
			r.startBatch()
			r.mu.Unlock()
			<-sr.observed
		} else {
			r.mu.Unlock()
			r.observe([]*sharedRefresh{sr})
		}
		r.mu.Lock()
		delete(r.running, key)
		r.mu.Unlock()
		close(sr.done)
	}
}

// namesObjects reports whether a scope names all that it covers.
func namesObjects(w metal.Scope) bool {
	return !w.Fleet && !w.Capacities && w.Project == "" && !w.AllNetworks && !w.AllIPs && w.ProjectNetworks == "" && w.ProjectIPs == ""
}

// startBatch starts the observations of the batch, as one, unless several others have
// started within the window: then it is called again when one of these is over, or
// their window is.
func (r *refreshes) startBatch() {
	if r.recentStarts >= maxUnbatched || len(r.batch) == 0 {
		return
	}
	batch := r.batch
	r.batch = nil
	r.recentStarts++
	over := make(chan struct{})
	go func() {
		defer close(over)
		r.observe(batch)
	}()
	go func() {
		timer := r.o.opts.Clock.NewTimer(batchWindow)
		defer timer.Stop()
		select {
		case <-over:
		case <-timer.C():
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.recentStarts--
		r.startBatch()
	}()
}

// observe makes observations together, or as many of them as can be made in time. For
// what their account lacks they wait no longer than they take.
func (r *refreshes) observe(batch []*sharedRefresh) {
	o := r.o
	if batch = r.dropAbandoned(batch); len(batch) == 0 {
		return
	}
	scope, deadline, anyCost := r.combine(batch)
	timeLeft := deadline.Sub(o.opts.Clock.Now())
	limits := o.readLimits(0, timeLeft, anyCost)
	_, p := o.planScope(scope, limits)
	err := metal.ErrTimeout
	if p.duration <= timeLeft {
		err = o.budget.reserveWithin(readAccount, p.cost, min(p.duration, timeLeft-p.duration))
	}
	if err == nil {
		// Reads may have left while the observation waited for the budget.
		if batch = r.dropAbandoned(batch); len(batch) == 0 {
			o.budget.commit(readAccount, p.cost, 0)
			return
		}
	}
	switch {
	case err == nil:
		limits.funds = p.cost
		r.start(batch, limits)
	case len(batch) == 1:
		// A read that arrives from now on gets an observation of its own.
		r.mu.Lock()
		r.closeToJoin(batch[0])
		r.mu.Unlock()
		r.finish(batch[0], err)
	default:
		half := len(batch) / 2
		var rest sync.WaitGroup
		rest.Go(func() { r.observe(batch[half:]) })
		r.observe(batch[:half])
		rest.Wait()
	}
}

// dropAbandoned ends the observations that nothing waits for any more, and returns the others.
func (r *refreshes) dropAbandoned(batch []*sharedRefresh) (left []*sharedRefresh) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, sr := range batch {
		if sr.waiters > 0 {
			left = append(left, sr)
			continue
		}
		r.closeToJoin(sr)
		r.finish(sr, metal.ErrBudgetExceeded)
	}
	return left
}

// closeToJoin takes an observation out of waiting, so that no read joins it any more; s.mu is
// held.
func (r *refreshes) closeToJoin(sr *sharedRefresh) {
	if r.waiting[sr.key] == sr {
		delete(r.waiting, sr.key)
	}
}

// combine returns what observations cover, their last deadline, and whether one of them
// may cost anything.
func (r *refreshes) combine(batch []*sharedRefresh) (scope metal.Scope, deadline time.Time, anyCost bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return combineLocked(batch)
}

// combineLocked is combine where r.mu is held.
func combineLocked(batch []*sharedRefresh) (scope metal.Scope, deadline time.Time, anyCost bool) {
	if len(batch) == 1 {
		return batch[0].scope, batch[0].deadline, batch[0].anyCost
	}
	for _, sr := range batch {
		scope.Machines = append(scope.Machines, sr.scope.Machines...)
		scope.Networks = append(scope.Networks, sr.scope.Networks...)
		scope.IPs = append(scope.IPs, sr.scope.IPs...)
		if sr.deadline.After(deadline) {
			deadline = sr.deadline
		}
		anyCost = anyCost || sr.anyCost
	}
	return dedupScope(scope), deadline, anyCost
}

// finish ends an observation.
func (r *refreshes) finish(sr *sharedRefresh, err error) {
	sr.err = err
	if !sr.startedAt.IsZero() {
		r.o.slowBackoff.record(sr.key, r.o.opts.Clock.Since(sr.startedAt) > r.o.opts.RefreshTimeout)
	}
	close(sr.observed)
}
