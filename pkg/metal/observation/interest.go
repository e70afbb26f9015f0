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
	// interestShare is the part of the budget that sweeps may spend on them.
	interestShare = 0.1
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
	mu      sync.Mutex
	of      map[interestKey]*interestState
	nextDue time.Time
}

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
		if s.watching == 0 && now.After(s.until) {
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

// observeInterest observes networks and addresses that are read or watched, as a part of a
// sweep.
func (o *Observer) observeInterest(ctx context.Context, a *costTally) {
	began, before := o.opts.Clock.Now(), a.total
	due := o.dueInterest(began)
	if len(due) == 0 {
		return
	}
	defer func() {
		pause := time.Duration(float64(a.total-before) / (o.opts.Budget * interestShare))
		o.interest.mu.Lock()
		defer o.interest.mu.Unlock()
		o.interest.nextDue = began.Add(pause)
	}()
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

// planInterest returns what a sweep does about what is of interest; false if what it did before
// has shown it. A list of all networks shows shared ones of other projects, and is made as seldom
// as these change.
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
	case began.Sub(n.listFailedAt) >= failedListInterval && (key.project == "" || began.Sub(n.networks.allAt) >= publicNetworksTTL):
		p.listNetworks = true
	case key.project == "":
		return p, false
	default:
		p.networksOf = key.project
		p.public = began.Sub(n.publicObservedAt()) >= publicNetworksTTL
	}
	return p, true
}
