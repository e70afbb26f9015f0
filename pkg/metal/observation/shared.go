package observation

import (
	"context"
	"sync"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// sharedLook is a look that any number of reads wait for.
type sharedLook struct {
	key     string
	want    metal.Want
	waiters int
	// until is when the last of them stops waiting.
	until time.Time
	// begun is closed when the look begins, at the time since; due is when it is
	// expected to be over.
	begun      chan struct{}
	since, due time.Time
	// looked is closed when the look is over, done when the next one of its scope
	// may begin.
	looked, done chan struct{}
	err          error
}

// left is how long a look that is under way takes from now on: one that is
// overdue as long again as it has taken so far.
func (l *sharedLook) left(now time.Time) time.Duration {
	if d := l.due.Sub(now); d > 0 {
		return d
	}
	return now.Sub(l.since)
}

// shared are the looks of reads: of each scope at most one is running, and one
// waiting, which all reads join that arrive in the meantime. Looks at single
// objects that arrive in the same moment become one look.
type shared struct {
	o  *Observer
	mu sync.Mutex
	// waiting has the next look of each scope that has one, running the look that
	// is under way. driven tells the scopes that have a goroutine.
	waiting, running map[string]*sharedLook
	driven           map[string]bool
	// gathering are the looks at single objects that begin together next, young
	// how many have begun lately.
	gathering []*sharedLook
	young     int
}

func newShared(o *Observer) *shared {
	return &shared{o: o, waiting: map[string]*sharedLook{}, running: map[string]*sharedLook{}, driven: map[string]bool{}}
}

// join returns a look of the scope that has not begun. If there will be none
// in time, because another one is under way first, it returns ErrTooSlow.
func (s *shared) join(key string, want metal.Want, until time.Time) (*sharedLook, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.o.opts.Clock.Now()
	if r := s.running[key]; r != nil {
		if _, p := s.o.priceOf(want, means{}); now.Add(r.left(now) + p.takes).After(until) {
			return nil, metal.ErrTooSlow
		}
	}
	l := s.waiting[key]
	if l == nil {
		l = &sharedLook{key: key, want: want, begun: make(chan struct{}), looked: make(chan struct{}), done: make(chan struct{})}
		s.waiting[key] = l
	}
	l.want = unionOf(l.want, want)
	if until.After(l.until) {
		l.until = until
	}
	l.waiters++
	if !s.driven[key] {
		s.driven[key] = true
		go s.drive(key)
	}
	return l, nil
}

// await waits for a look that was joined.
func (s *shared) await(ctx context.Context, key string, l *sharedLook, until time.Time) error {
	limit := s.o.opts.Clock.NewTimer(until.Sub(s.o.opts.Clock.Now()))
	defer limit.Stop()
	begun := l.begun
	for {
		select {
		case <-l.done:
			return l.err
		case <-begun:
			if begun = nil; l.due.After(until) {
				s.leave(key, l)
				return metal.ErrTooSlow
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
func (s *shared) leave(key string, l *sharedLook) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.waiters--
	switch {
	case !l.since.IsZero() || s.running[key] != nil:
		return metal.ErrTooSlow
	case l.waiters == 0 && s.waiting[key] == l:
		delete(s.waiting, key)
	}
	return metal.ErrOverBudget
}

// drive makes the looks of a scope, one after the other, while there are any.
func (s *shared) drive(key string) {
	for {
		s.mu.Lock()
		l := s.waiting[key]
		if l == nil {
			delete(s.driven, key)
			s.mu.Unlock()
			return
		}
		if namesOnly(l.want) {
			s.gathering = append(s.gathering, l)
			s.depart()
			s.mu.Unlock()
			<-l.looked
		} else {
			s.mu.Unlock()
			s.look([]*sharedLook{l})
		}
		s.mu.Lock()
		delete(s.running, key)
		s.mu.Unlock()
		close(l.done)
	}
}

// namesOnly tells whether only things are wanted that are named.
func namesOnly(w metal.Want) bool { return !w.Fleet && w.Project == "" }

// depart begins the looks that were gathered, as one, unless some others have
// begun lately: then when one of these is over, or none of late any more.
func (s *shared) depart() {
	if s.young >= soloLooks || len(s.gathering) == 0 {
		return
	}
	batch := s.gathering
	s.gathering = nil
	s.young++
	over := make(chan struct{})
	go func() {
		defer close(over)
		s.look(batch)
	}()
	go func() {
		timer := s.o.opts.Clock.NewTimer(gatherTime)
		defer timer.Stop()
		select {
		case <-over:
		case <-timer.C():
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.young--
		s.depart()
	}()
}

// look makes looks together, or as many of them as can be made in time.
func (s *shared) look(batch []*sharedLook) {
	o := s.o
	if batch = s.wanted(batch); len(batch) == 0 {
		return
	}
	want, until := s.union(batch)
	within := until.Sub(o.opts.Clock.Now())
	_, p := o.priceOf(want, limitedTo(within, o.budget.within(forReads, within)))
	err := metal.ErrTooSlow
	if p.takes <= within {
		err = metal.ErrOverBudget
		// What can never be saved could not be finished within any read's limit.
		if p.cost <= o.budget.most(forReads) {
			err = o.budget.await(forReads, p.cost, within-p.takes)
		}
	}
	switch {
	case err == nil:
		s.begin(batch, p.cost)
	case len(batch) == 1:
		// A read that arrives from now on gets a look of its own.
		s.mu.Lock()
		s.endJoining(batch[0])
		s.mu.Unlock()
		s.over(batch[0], err)
	default:
		half := len(batch) / 2
		var rest sync.WaitGroup
		rest.Go(func() { s.look(batch[half:]) })
		s.look(batch[:half])
		rest.Wait()
	}
}

// wanted ends the looks that nothing waits for any more, and returns the others.
func (s *shared) wanted(batch []*sharedLook) (left []*sharedLook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range batch {
		if l.waiters > 0 {
			left = append(left, l)
			continue
		}
		s.endJoining(l)
		s.over(l, metal.ErrOverBudget)
	}
	return left
}

// endJoining takes a look out of waiting, so that no read joins it any more; s.mu is
// held.
func (s *shared) endJoining(l *sharedLook) {
	if s.waiting[l.key] == l {
		delete(s.waiting, l.key)
	}
}

// union is what looks want, and until when.
func (s *shared) union(batch []*sharedLook) (want metal.Want, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return combined(batch)
}

// combined is union where s.mu is held.
func combined(batch []*sharedLook) (want metal.Want, until time.Time) {
	if len(batch) == 1 {
		return batch[0].want, batch[0].until
	}
	for _, l := range batch {
		want.Machines = append(want.Machines, l.want.Machines...)
		want.Networks = append(want.Networks, l.want.Networks...)
		want.IPs = append(want.IPs, l.want.IPs...)
		if l.until.After(until) {
			until = l.until
		}
	}
	return distinct(want), until
}

// over ends a look.
func (s *shared) over(l *sharedLook, err error) {
	l.err = err
	if !l.since.IsZero() {
		s.o.late.note(l.key, s.o.opts.Clock.Since(l.since) > s.o.opts.ReadLimit)
	}
	close(l.looked)
}
