// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

const (
	// interestTime is for how long after a read of networks or addresses sweeps observe them,
	// too.
	interestTime = 10 * time.Minute
	// interestShare is the part of the budget that sweeps may spend on finds of them, and as
	// much again on lists of all networks.
	interestShare = 0.05
)

// interestKey is the networks or the addresses of a project, or of all.
type interestKey struct {
	kind    metal.RefKind
	project string
}

// interestState is how long they are of interest.
type interestState struct {
	until    time.Time
	watching int
	// lastAttempt is when a sweep last observed them, whatever came of it.
	lastAttempt time.Time
}

// interest is which networks and addresses are read, or watched. The others are observed only
// as far as records reference them.
type interest struct {
	mu sync.Mutex
	of map[interestKey]*interestState
	// nextDue and nextList are when a sweep may next find something of it, and list all networks.
	nextDue, nextList time.Time
}

// isOver reports whether it has ended.
func (s *interestState) isOver(now time.Time) bool { return s.watching == 0 && now.After(s.until) }

func (i *interest) state(key interestKey) *interestState {
	s := i.of[key]
	if s == nil {
		s = &interestState{}
		i.of[key] = s
	}
	return s
}

// record records a read.
func (i *interest) record(scope metal.Scope, now time.Time) {
	if !scope.AllNetworks && !scope.AllIPs && scope.ProjectNetworks == "" && scope.ProjectIPs == "" {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, read := range []struct {
		all     bool
		project string
		kind    metal.RefKind
	}{{scope.AllNetworks, scope.ProjectNetworks, metal.KindNetwork}, {scope.AllIPs, scope.ProjectIPs, metal.KindIP}} {
		switch {
		case read.all:
			i.state(interestKey{kind: read.kind}).until = now.Add(interestTime)
		case read.project != "":
			i.state(interestKey{read.kind, read.project}).until = now.Add(interestTime)
		}
	}
}

// Watching has sweeps observe the networks (metal.KindNetwork) or addresses (metal.KindIP) of a
// project, or of all if it is empty, until stop is called.
func (o *Observer) Watching(kind metal.RefKind, project string) (stop func()) {
	if kind != metal.KindNetwork && kind != metal.KindIP {
		return func() {}
	}
	key := interestKey{kind, project}
	o.interest.mu.Lock()
	defer o.interest.mu.Unlock()
	o.interest.state(key).watching++
	return sync.OnceFunc(func() {
		o.interest.mu.Lock()
		defer o.interest.mu.Unlock()
		s := o.interest.state(key)
		s.watching--
		s.until = o.opts.Clock.Now().Add(interestTime)
	})
}

// due returns what is of interest and what a sweep may observe now, the longest unobserved
// first.
func (o *Observer) dueInterest(now time.Time) (due []interestKey) {
	i := &o.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.of) == 0 || now.Before(i.nextDue) {
		return nil
	}
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	last := map[interestKey]time.Time{}
	for key, s := range i.of {
		if s.isOver(now) {
			delete(i.of, key)
			continue
		}
		if key.project != "" && !o.facts.relevant(key.project) {
			continue
		}
		if last[key] = o.facts.networking.observedAt(key); now.Sub(last[key]) < o.opts.SweepInterval/2 {
			continue
		}
		if s.lastAttempt.After(last[key]) {
			last[key] = s.lastAttempt
		}
		due = append(due, key)
	}
	slices.SortFunc(due, func(a, b interestKey) int {
		return cmp.Or(last[a].Compare(last[b]), cmp.Compare(a.kind, b.kind), cmp.Compare(a.project, b.project))
	})
	return due
}

func (n *networking) observedAt(key interestKey) time.Time {
	c := &n.networks
	if key.kind == metal.KindIP {
		c = &n.ips
	}
	if key.project == "" {
		return c.allAt
	}
	return c.observed(key.project)
}

// networkListDue reports whether a sweep lists all networks now: because these are of interest,
// or those of a project are, which shared ones of others belong to; they hardly ever change.
func (o *Observer) networkListDue(now time.Time) bool {
	i := &o.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.of) == 0 || now.Before(i.nextList) {
		return false
	}
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	n := &o.facts.networking
	if !n.listAllowed(now) {
		return false
	}
	for key, s := range i.of {
		least := publicNetworksTTL
		switch {
		case key.kind != metal.KindNetwork || s.isOver(now) || key.project != "" && !o.facts.relevant(key.project):
			continue
		case n.listError != nil:
			least = 0
		case key.project == "":
			least = o.opts.SweepInterval / 2
		}
		if now.Sub(n.networks.allAt) >= least {
			return true
		}
	}
	return false
}

// observeInterest observes networks and addresses that are read or watched, as a part of a
// sweep. What a list of all networks costs delays the next one only.
func (o *Observer) observeInterest(ctx context.Context, a *costTally) {
	began := o.opts.Clock.Now()
	pause := func(due *time.Time, before time.Duration) {
		o.interest.mu.Lock()
		defer o.interest.mu.Unlock()
		*due = began.Add(scale(a.total-before, 1/(o.budget.part()*interestShare)))
	}
	if o.networkListDue(began) {
		before := a.total
		_ = o.listNetworks(ctx, a)
		pause(&o.interest.nextList, before)
	}
	due := o.dueInterest(began)
	if len(due) == 0 {
		return
	}
	before := a.total
	defer func() { pause(&o.interest.nextDue, before) }()
	for _, key := range due {
		if o.breaker.isOpen() || a.total-before > minSweepExtraCost {
			return
		}
		p, wanted := o.planInterest(key, began)
		if !wanted {
			continue
		}
		o.interest.mu.Lock()
		if s := o.interest.of[key]; s != nil {
			s.lastAttempt = began
		}
		o.interest.mu.Unlock()
		_ = o.executeNetworking(ctx, a, p)
	}
}

// planInterest returns which finds a sweep makes of what is of interest; false if what it did
// before has shown it, or only a list of all networks does.
func (o *Observer) planInterest(key interestKey, began time.Time) (p networkingPlan, wanted bool) {
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	n := &o.facts.networking
	if !n.observedAt(key).Before(began) {
		return p, false
	}
	switch {
	case key.kind == metal.KindIP && key.project == "":
		p.listIPs = true
	case key.kind == metal.KindIP:
		p.ipsOf = key.project
	case key.project != "":
		if n.networks.findAllowed(key.project, began) {
			p.networksOf = []string{key.project}
		}
		o.planPublic(&p, began)
	case n.listError != nil:
		o.planPublic(&p, began)
		o.planFindsOfProjects(&p, began, limits{limited: true, duration: o.opts.SweepInterval, funds: minSweepExtraCost})
	default:
		return p, false
	}
	return p, true
}
