// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

const (
	// publicNetworksTTL is for how long reads of a project's networks take what was last
	// observed of the networks of no project, which hardly ever change. Shared ones of other
	// projects are observed by sweeps.
	publicNetworksTTL = 5 * time.Minute
	// failedListInterval is how long after a list of all networks that failed the next one is
	// made: one network that was freed halfway makes each fail (docs/metal-api.md, Q50).
	failedListInterval = time.Minute
	// maxProjectFinds is of how many projects at most one observation of all networks finds those,
	// where the list is refused. The next one begins with the others.
	maxProjectFinds = 50
)

// errNetworksNotListed is why reads are stale while the list of all networks fails. What the
// metal-api answers can be of any project, so it is logged, and no client is told.
var errNetworksNotListed = errors.New("shared networks of other projects could not be listed")

// errHalfFreed is why reads of the networks of a project are stale of which one was freed halfway.
var errHalfFreed = errors.New("a network of the project was freed halfway, so that the metal-api does not list them: an operator of metal-stack has to remove it")

// errTooManyUnverifiedNetworks is why networks or addresses that are missing stay shown.
var errTooManyUnverifiedNetworks = errors.New("too many networks or addresses missing from one observation: verifying the rest later")

// networkingPlan is a way to observe all networks and addresses, or those of a project, apart
// from gets, which are in the scope.
type networkingPlan struct {
	// listNetworks and listIPs: those of all projects, in one call. networksOf and ipsOf: those of
	// some projects, and of one; of networks only unless the list of all has succeeded.
	listNetworks, listIPs bool
	networksOf            []string
	ipsOf                 string
	// public: the networks of no project. shared: a list of all networks, for shared ones of
	// other projects; any that is in flight will do. unlisted: these are not observed, because
	// the list is refused. halfFreed: nor are those of the project.
	public, shared, unlisted, halfFreed bool
	cost, duration                      time.Duration
}

func (p *networkingPlan) add(o *Observer, k callKind, hits int) {
	p.cost += o.costs.cost(k, hits)
	p.duration += o.costs.latency(k, hits)
}

// preferBulk reports whether a find is made, and not a get of each that is known: what discovers,
// unless it takes too long.
func (o *Observer) preferBulk(find, get callKind, hits, known int, everObserved bool, m limits) bool {
	if !everObserved || known == 0 {
		return true
	}
	parallel := max(1, o.getLimiter.limit())
	bulk := plan{cost: o.costs.cost(find, hits), duration: o.costs.latency(find, hits)}
	gets := plan{cost: time.Duration(known) * o.costs.cost(get, 1), duration: time.Duration((known+parallel-1)/parallel) * o.costs.latency(get, 1)}
	return m.allow(bulk) || !m.allow(gets)
}

// planNetworking plans the observation of the networks and addresses of a scope that does not
// name them. What a get is planned of is added to the scope, and what is observed without one is
// taken out of it.
func (o *Observer) planNetworking(scope metal.Scope, m limits) (metal.Scope, networkingPlan) {
	var p networkingPlan
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	n, now := &o.facts.networking, o.opts.Clock.Now()
	switch project := scope.ProjectNetworks; {
	case scope.AllNetworks:
		known := presentIDs(&o.facts.networks)
		if n.listError != nil {
			p.unlisted = true
			p.listNetworks = o.planList(&p, now, m)
			o.planPublic(&p, now)
			o.planFindsOfProjects(&p, now, m)
		} else if o.preferBulk(callNetworkFind, callNetworkGet, n.networksListed, len(known), !n.networks.allAt.IsZero(), m) {
			p.listNetworks = true
			p.add(o, callNetworkFind, n.networksListed)
			scope.Networks = without(scope.Networks, known)
		} else {
			scope.Networks = union(scope.Networks, known)
		}
	case project != "":
		known := slices.Collect(maps.Keys(n.networksOf[project]))
		if p.halfFreed = !n.networks.findAllowed(project, now); p.halfFreed {
			scope.Networks = without(scope.Networks, known)
		} else if o.preferBulk(callNetworkFind, callNetworkGet, len(known), len(known), !n.networks.observed(project).IsZero(), m) {
			p.networksOf = []string{project}
			p.add(o, callNetworkFind, len(known))
			scope.Networks = without(scope.Networks, known)
		} else {
			scope.Networks = union(scope.Networks, known)
		}
		scope.Networks = without(scope.Networks, slices.Collect(maps.Keys(n.public)), known...)
		o.planPublic(&p, now)
		p.shared = o.planList(&p, now, m)
		p.unlisted = !p.shared && n.listError != nil
	}
	switch project := scope.ProjectIPs; {
	case scope.AllIPs:
		known := presentIDs(&o.facts.ips)
		if o.preferBulk(callIPFind, callIPGet, n.ipsListed, len(known), !n.ips.allAt.IsZero(), m) {
			p.listIPs = true
			p.add(o, callIPFind, n.ipsListed)
			scope.IPs = without(scope.IPs, known)
		} else {
			scope.IPs = union(scope.IPs, known)
		}
	case project != "":
		known := slices.Collect(maps.Keys(n.ipsOf[project]))
		if o.preferBulk(callIPFind, callIPGet, len(known), len(known), !n.ips.observed(project).IsZero(), m) {
			p.ipsOf = project
			p.add(o, callIPFind, len(known))
			scope.IPs = without(scope.IPs, known)
		} else {
			scope.IPs = union(scope.IPs, known)
		}
	}
	return scope, p
}

// planPublic plans to find the networks of no project, unless that was done lately.
func (o *Observer) planPublic(p *networkingPlan, now time.Time) {
	if now.Sub(o.facts.networking.publicObservedAt()) >= publicNetworksTTL {
		p.public = true
		p.add(o, callNetworkFind, len(o.facts.networking.public))
	}
}

// planList plans a list of all networks if one is due; after one that was refused only within the
// limits: what can be shown without is not to wait for it, and sweeps make one.
func (o *Observer) planList(p *networkingPlan, now time.Time, m limits) bool {
	n, next := &o.facts.networking, *p
	next.add(o, callNetworkFind, n.networksListed)
	if !n.listDue(now) || n.listError != nil && !m.allow(plan{cost: next.cost, duration: next.duration}) {
		return false
	}
	*p = next
	return true
}

// planFindsOfProjects plans to find the networks of the projects that are bound, as far as the
// limits go: those first that were not observed for longest, and none that was since before.
func (o *Observer) planFindsOfProjects(p *networkingPlan, before time.Time, m limits) {
	n := &o.facts.networking
	projects := slices.DeleteFunc(o.boundProjects(), func(project string) bool {
		return n.networks.observed(project).After(before) || !n.networks.findAllowed(project, before)
	})
	slices.SortStableFunc(projects, func(a, b string) int { return n.networks.answered(a).Compare(n.networks.answered(b)) })
	for i, project := range projects {
		next := *p
		next.add(o, callNetworkFind, len(n.networksOf[project]))
		if i >= maxProjectFinds || i > 0 && !m.allow(plan{cost: next.cost, duration: next.duration}) {
			return
		}
		next.networksOf = append(next.networksOf, project)
		*p = next
	}
}

// boundProjects returns the projects whose networks are shown, by id: those that can be listed,
// and those that anything is known of. The facts' mu is held.
func (o *Observer) boundProjects() []string {
	known := o.knownProjects()
	if o.opts.BoundProjects == nil {
		return known
	}
	return slices.Compact(slices.Sorted(slices.Values(append(known, o.opts.BoundProjects()...))))
}

func presentIDs[T any](c *cache[T]) (ids []string) {
	for id, h := range c.entries {
		if h.fact != nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// without returns the ids that are not among others, unless they are among except.
func without(ids, others []string, except ...string) []string {
	if len(ids) == 0 || len(others) == 0 {
		return ids
	}
	drop := map[string]bool{}
	for _, id := range others {
		drop[id] = true
	}
	for _, id := range except {
		delete(drop, id)
	}
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return drop[id] })
}

// executeNetworking observes networks and addresses as planned, and verifies what is missing.
func (o *Observer) executeNetworking(ctx context.Context, a *costTally, p networkingPlan) error {
	var errs []error
	if p.listNetworks {
		err := o.listNetworks(ctx, a)
		if p.unlisted = p.unlisted && err != nil; !p.unlisted {
			errs = append(errs, err)
			p.networksOf, p.public = nil, false
		}
	}
	for _, project := range p.networksOf {
		errs = append(errs, o.findNetworks(ctx, a, metal.NetworkQuery{Project: project}))
	}
	if p.public {
		errs = append(errs, o.findNetworks(ctx, a, metal.NetworkQuery{NoProject: true}))
	}
	if p.shared {
		errs = append(errs, o.lists.join(func() error { return o.listNetworks(ctx, a) }))
	}
	if p.unlisted {
		errs = append(errs, errNetworksNotListed)
	}
	if p.halfFreed {
		errs = append(errs, errHalfFreed)
	}
	if p.listIPs {
		errs = append(errs, o.findIPs(ctx, a, metal.IPQuery{}))
	}
	if p.ipsOf != "" {
		errs = append(errs, o.findIPs(ctx, a, metal.IPQuery{Project: p.ipsOf}))
	}
	return errors.Join(errs...)
}

// networkLists is the list of all networks that is in flight.
type networkLists struct {
	mu       sync.Mutex
	inFlight *networkList
}

type networkList struct {
	done chan struct{}
	err  error
}

// join makes a list, or waits for the one that is in flight.
func (l *networkLists) join(list func() error) error {
	l.mu.Lock()
	if running := l.inFlight; running != nil {
		l.mu.Unlock()
		<-running.done
		return running.err
	}
	mine := &networkList{done: make(chan struct{})}
	l.inFlight = mine
	l.mu.Unlock()
	mine.err = list()
	l.mu.Lock()
	l.inFlight = nil
	l.mu.Unlock()
	close(mine.done)
	return mine.err
}

// isListRefused reports whether the metal-api answered, but with an error.
func isListRefused(err error) bool {
	e, ok := errors.AsType[*metal.Error](err)
	return ok && !e.Unanswered()
}

// knownProjects returns the relevant projects that anything is known of. The facts' mu is held.
func (o *Observer) knownProjects() []string {
	projects := map[string]struct{}{}
	for project := range o.facts.byProject {
		projects[project] = struct{}{}
	}
	for project := range o.facts.networking.networksOf {
		projects[project] = struct{}{}
	}
	for project := range o.facts.networking.ipsOf {
		projects[project] = struct{}{}
	}
	for project := range o.facts.networking.networks.projects {
		projects[project] = struct{}{}
	}
	maps.DeleteFunc(projects, func(project string, _ struct{}) bool { return !o.facts.relevant(project) })
	return slices.Sorted(maps.Keys(projects))
}

// listNetworks observes all networks with one call. The error tells nothing of them.
func (o *Observer) listNetworks(ctx context.Context, a *costTally) error {
	err := o.findNetworks(ctx, a, metal.NetworkQuery{})
	for _, told := range []error{metal.ErrTimeout, errTooManyUnverifiedNetworks} {
		if errors.Is(err, told) {
			return told
		}
	}
	if err != nil {
		return errNetworksNotListed
	}
	return nil
}

// recordRefusedList records that the list of all networks was answered with an error, and logs
// it unless it is the one as before.
func (o *Observer) recordRefusedList(ctx context.Context, err error, at time.Time) {
	var before error
	o.facts.observe(func() { before = o.facts.networking.listError }, func(n *coverages) { n.listError, n.listFailedAt = err, at })
	if before == nil || before.Error() != err.Error() {
		klog.FromContext(ctx).Error(err, "Failed to list the networks of all projects: shared ones of other projects are not observed", "retryAfter", failedListInterval.String())
	}
}

// findNetworks observes all networks, those of a project, or those of none.
func (o *Observer) findNetworks(ctx context.Context, a *costTally, q metal.NetworkQuery) error {
	all := q.Project == "" && !q.NoProject
	found, m, err := timedCall(ctx, o, a, callNetworkFind, countAll, func(ctx context.Context) ([]*metal.Network, error) {
		return o.backend.FindNetworks(ctx, q)
	})
	if err != nil {
		if all && isListRefused(err) {
			o.recordRefusedList(ctx, err, m.start)
		}
		if q.Project != "" && errors.Is(err, metal.ErrHalfFreedNetwork) {
			o.facts.observe(func() {}, func(n *coverages) { n.networks.recordRefused(q.Project, m.start) })
			return errHalfFreed
		}
		return err
	}
	var pending []string
	var skipped map[string]struct{}
	o.facts.observe(func() {
		f := o.facts
		n := &f.networking
		keep := f.relevant
		if q.Project != "" {
			keep = func(string) bool { return true }
		}
		var listed map[string]bool
		listed, skipped = f.applyNetworks(found, m, keep, &pending)
		switch {
		case all:
			absentAmong(&f.networks, maps.Keys(f.networks.entries), listed, m, &pending)
			n.networksListed = len(found)
		case q.NoProject:
			absentAmong(&f.networks, func(yield func(string) bool) {
				for id := range maps.Clone(n.public) {
					if h := f.networks.entries[id]; h.fact != nil && h.fact.Project == "" && !yield(id) {
						return
					}
				}
			}, listed, m, &pending)
		default:
			absentAmong(&f.networks, maps.Keys(maps.Clone(n.networksOf[q.Project])), listed, m, &pending)
		}
	}, func(n *coverages) {
		switch {
		case all:
			n.networks.recordAll(m.start, skipped)
			n.listError = nil
		case q.NoProject:
			n.publicAt = m.start
		default:
			n.networks.recordProject(q.Project, m.start)
		}
	})
	return verifyNetworking(ctx, o, a, &o.facts.networks, pending, []callKind{callNetworkGet, callNetworkFind}, o.observeNetwork)
}

// findIPs observes all addresses, or those of a project.
func (o *Observer) findIPs(ctx context.Context, a *costTally, q metal.IPQuery) error {
	found, m, err := timedCall(ctx, o, a, callIPFind, countAll, func(ctx context.Context) ([]*metal.IP, error) {
		return o.backend.FindIPs(ctx, q)
	})
	if err != nil {
		return err
	}
	var pending []string
	var skipped map[string]struct{}
	o.facts.observe(func() {
		f := o.facts
		n := &f.networking
		if q.Project == "" {
			var listed map[string]bool
			listed, skipped = f.applyIPs(found, m, f.relevant, &pending)
			absentAmong(&f.ips, maps.Keys(f.ips.entries), listed, m, &pending)
			n.ipsListed = len(found)
			return
		}
		listed, _ := f.applyIPs(found, m, func(string) bool { return true }, &pending)
		absentAmong(&f.ips, maps.Keys(maps.Clone(n.ipsOf[q.Project])), listed, m, &pending)
	}, func(n *coverages) {
		if q.Project == "" {
			n.ips.recordAll(m.start, skipped)
			return
		}
		n.ips.recordProject(q.Project, m.start)
	})
	return verifyNetworking(ctx, o, a, &o.facts.ips, pending, []callKind{callIPGet, callIPFind}, o.observeIP)
}

// verifyNetworking takes second observations of networks or addresses, as many as may be paid
// for. Those that are left stay pending verification until the next observation.
func verifyNetworking[T any](ctx context.Context, o *Observer, a *costTally, c *cache[T], ids []string, calls []callKind, observe observeFunc) error {
	if len(ids) == 0 {
		return nil
	}
	err := o.observeInBatches(ctx, &fixedFunds{maxVerificationCost, a}, ids, calls, observe)
	if err != nil {
		return err
	}
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	if slices.ContainsFunc(ids, func(id string) bool { e := c.entries[id]; return e != nil && e.pendingSeq != 0 }) {
		return errTooManyUnverifiedNetworks
	}
	return nil
}

// maxVerificationCost is what second observations of networks and addresses may cost that one
// list or find did not show. More than that is verified by several reads or sweeps: it can be
// the answer that is unreliable.
const maxVerificationCost = 250 * time.Millisecond
