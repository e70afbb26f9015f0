package observation

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// departed takes a batch out of waiting, and returns what it looks for, which
// includes what reads want that joined while it waited for the budget.
func (s *shared) departed(batch []*sharedLook, cost time.Duration) (metal.Want, plan) {
	o := s.o
	s.mu.Lock()
	defer s.mu.Unlock()
	want, until := combined(batch)
	now := o.opts.Clock.Now()
	want, p := o.priceOf(want, limitedTo(until.Sub(now), cost))
	p.until = until
	for _, l := range batch {
		l.since, l.due = now, now.Add(p.takes)
		s.endJoining(l)
		s.running[l.key] = l
		close(l.begun)
	}
	return want, p
}

// begin makes looks together for which cost was reserved. Each read's answer
// depends on the calls that its own metal should have come by.
func (s *shared) begin(batch []*sharedLook, cost time.Duration) {
	o := s.o
	want, p := s.departed(batch, cost)
	ctx, a := startingBy(context.Background(), p.until), &account{}
	book := func() {
		took := a.close(o.costs)
		o.budget.settle(forReads, cost, took)
		o.metrics.looked("read", took)
	}
	began := o.facts.next(o.opts.Clock.Now())
	if len(batch) == 1 {
		gets, err := o.left(want, p, began, o.together(ctx, a, p))
		err = errors.Join(err, o.lookFor(ctx, a, want, plan{gets: gets, until: p.until}))
		book()
		s.over(batch[0], err)
		return
	}
	got := map[string]bool{}
	for _, id := range p.gets {
		got[id] = true
	}
	var looks sync.WaitGroup
	var failed map[string]error
	together := make(chan struct{})
	looks.Go(func() {
		defer close(together)
		failed = o.together(ctx, a, p)
	})
	for _, l := range batch {
		looks.Go(func() {
			gets, err := l.want.Machines, error(nil)
			if slices.ContainsFunc(gets, func(id string) bool { return !got[id] }) {
				<-together
				gets, err = o.left(l.want, p, began, failed)
			}
			s.over(l, errors.Join(err, o.lookFor(ctx, a, l.want, plan{gets: gets, until: p.until})))
		})
	}
	looks.Wait()
	book()
}

// doubtError is why machines stay in doubt after a list or a find that was
// answered: it concerns those machines only.
type doubtError struct{ cause error }

func inDoubt(cause error) error {
	if cause == nil {
		return nil
	}
	return &doubtError{cause}
}

// Error implements error.
func (e *doubtError) Error() string { return e.cause.Error() }

// Unwrap returns the cause.
func (e *doubtError) Unwrap() error { return e.cause }

// wholeList is the key of a list's error among those of finds, whose keys are
// projects.
const wholeList = ""

// together makes the list or the finds of a plan, and returns the error of each.
func (o *Observer) together(ctx context.Context, a *account, p plan) (failed map[string]error) {
	failed = map[string]error{}
	if p.list {
		failed[wholeList] = o.carryOut(ctx, a, plan{list: true})
	}
	for _, project := range p.finds {
		failed[project] = o.carryOut(ctx, a, plan{finds: []string{project}})
	}
	return failed
}

// left returns the machines of a want that are to be looked at one by one after
// the list or the finds of a plan, because no look since then has borne out what
// is known of them, and the errors of those calls that want was to be seen by.
func (o *Observer) left(want metal.Want, p plan, since moment, failed map[string]error) (gets []string, err error) {
	concern := map[string]bool{}
	answered := func(key string) bool {
		_, doubts := errors.AsType[*doubtError](failed[key])
		return doubts || failed[key] == nil
	}
	for key := range failed {
		discovers := want.Fleet || want.Project != "" && (p.list || key == want.Project)
		concern[key] = discovers && !answered(key)
	}
	// What is decided here has been handed over: update waits for that.
	o.facts.update(func() {
		for _, id := range want.Machines {
			h := o.facts.machines.held[id]
			key := wholeList
			if !p.list && h != nil && h.fact != nil {
				key = h.fact.Project()
			}
			switch {
			case h != nil && h.borneOut(since):
			case !answered(key), failed[key] != nil && h != nil && h.doubted != 0:
				concern[key] = true
			case p.list && h != nil && h.presence == metal.Gone:
				// A list that does not show it changes nothing.
			default:
				gets = append(gets, id)
			}
		}
	})
	var errs []error
	for key, concerned := range concern {
		if concerned {
			errs = append(errs, failed[key])
		}
	}
	return gets, errors.Join(errs...)
}

// borneOut tells whether a look that began after m has shown what is known. The
// answer of a write is no look.
func (h *held[T]) borneOut(m moment) bool {
	return h.doubted == 0 && h.seq > m.seq && (h.fact == nil || h.fact != h.learned)
}
