// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"context"
	"errors"
	"slices"
	"sync"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// takeBatch takes a batch out of waiting, and returns what it is for, which
// includes what reads want that joined while it waited for the budget. m.funds were
// reserved for it.
func (r *refreshes) takeBatch(batch []*sharedRefresh, m limits) (metal.Scope, plan) {
	o := r.o
	r.mu.Lock()
	defer r.mu.Unlock()
	scope, deadline, _ := combineLocked(batch)
	now := o.opts.Clock.Now()
	m.duration = deadline.Sub(now)
	scope, p := o.planScope(scope, m)
	p.deadline = deadline
	for _, sr := range batch {
		sr.startedAt, sr.expectedEnd = now, now.Add(p.duration)
		r.closeToJoin(sr)
		r.running[sr.key] = sr
		close(sr.started)
	}
	return scope, p
}

// start makes observations together, for which m.funds were reserved. Each read's answer
// depends on the calls that its own metal should have come by.
func (r *refreshes) start(batch []*sharedRefresh, m limits) {
	o := r.o
	scope, p := r.takeBatch(batch, m)
	ctx, a := withStartDeadline(context.Background(), p.deadline), &costTally{}
	book := func() {
		took := a.finish(o.costs)
		o.budget.commit(readAccount, m.funds, took)
		o.metrics.recordObservation("read", took)
	}
	began := o.facts.nextObservation(o.opts.Clock.Now())
	if len(batch) == 1 {
		gets, err := o.remainingGets(scope, p, began, o.executeBulk(ctx, a, p))
		err = errors.Join(err, o.executeNetworking(ctx, a, p.networking))
		err = errors.Join(err, o.observeScope(ctx, a, scope, plan{gets: gets, deadline: p.deadline}))
		book()
		if scope.Fleet || scope.Capacities {
			o.facts.notifyCapacities()
		}
		r.finish(batch[0], err)
		return
	}
	got := map[string]bool{}
	for _, id := range p.gets {
		got[id] = true
	}
	var observations sync.WaitGroup
	var failed map[string]error
	together := make(chan struct{})
	observations.Go(func() {
		defer close(together)
		failed = o.executeBulk(ctx, a, p)
	})
	for _, sr := range batch {
		observations.Go(func() {
			gets, err := sr.scope.Machines, error(nil)
			if slices.ContainsFunc(gets, func(id string) bool { return !got[id] }) {
				<-together
				gets, err = o.remainingGets(sr.scope, p, began, failed)
			}
			r.finish(sr, errors.Join(err, o.observeScope(ctx, a, sr.scope, plan{gets: gets, deadline: p.deadline})))
		})
	}
	observations.Wait()
	book()
}

// unverifiedError is why machines stay pending verification after a list or a find that was
// answered: it concerns those machines only.
type unverifiedError struct{ cause error }

func asUnverified(cause error) error {
	if cause == nil {
		return nil
	}
	return &unverifiedError{cause}
}

// Error implements error.
func (e *unverifiedError) Error() string { return e.cause.Error() }

// Unwrap returns the cause.
func (e *unverifiedError) Unwrap() error { return e.cause }

// listKey is the key of a list's error among those of finds, whose keys are
// projects.
const listKey = ""

// executeBulk makes the list or the finds of a plan, and returns the error of each.
func (o *Observer) executeBulk(ctx context.Context, a *costTally, p plan) (failed map[string]error) {
	failed = map[string]error{}
	if p.list {
		failed[listKey] = o.execute(ctx, a, plan{list: true})
	}
	for _, project := range p.finds {
		failed[project] = o.execute(ctx, a, plan{finds: []string{project}})
	}
	return failed
}

// remainingGets returns the machines of a scope that are to be observed one by one after
// the list or the finds of a plan, because no observation since then has confirmed what
// is known of them, and the errors of those calls that would have shown the scope.
func (o *Observer) remainingGets(scope metal.Scope, p plan, since observationTime, failed map[string]error) (gets []string, err error) {
	concern := map[string]bool{}
	answered := func(key string) bool {
		_, verifications := errors.AsType[*unverifiedError](failed[key])
		return verifications || failed[key] == nil
	}
	for key := range failed {
		discovers := scope.Fleet || scope.Capacities || scope.Project != "" && (p.list || key == scope.Project)
		concern[key] = discovers && !answered(key)
	}
	// What is decided here has been handed over: update waits for that.
	o.facts.update(func() {
		for _, id := range scope.Machines {
			h := o.facts.machines.entries[id]
			key := listKey
			if !p.list && h != nil && h.fact != nil {
				key = h.fact.Project()
			}
			switch {
			case h != nil && h.observedSince(since):
			case !answered(key), failed[key] != nil && h != nil && h.pendingSeq != 0:
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

// observedSince reports whether an observation that began after m has shown what is known. The
// answer of a write is no observation.
func (e *entry[T]) observedSince(m observationTime) bool {
	return e.pendingSeq == 0 && e.seq > m.seq && (e.fact == nil || e.fact != e.lastWrite)
}
