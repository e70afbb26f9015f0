// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"iter"
	"maps"
	"slices"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// coverage is of which projects all networks, or all addresses, were observed, and when.
type coverage struct {
	projects map[string]time.Time
	// refused is when a find of a project's was last answered with an error that stays, unless they
	// were observed since.
	refused map[string]time.Time
	// allAt is when those of all projects were last observed, but for those of projects that
	// were not kept: they are skipped.
	allAt   time.Time
	skipped map[string]struct{}
}

// observed is when those of a project were last observed; zero: never.
func (c *coverage) observed(project string) time.Time {
	at := c.projects[project]
	if _, skipped := c.skipped[project]; !skipped && c.allAt.After(at) {
		return c.allAt
	}
	return at
}

// answered is when those of a project were last observed, or a find of them refused; zero: never.
func (c *coverage) answered(project string) time.Time {
	if at := c.refused[project]; !at.IsZero() {
		return at
	}
	return c.observed(project)
}

// coversAll reports whether those of every relevant project were observed once.
func (c *coverage) coversAll(relevant func(project string) bool) bool {
	if c.allAt.IsZero() {
		return false
	}
	for project := range c.skipped {
		if relevant(project) && c.projects[project].IsZero() {
			return false
		}
	}
	return true
}

func (c *coverage) recordProject(project string, at time.Time) {
	if at.After(c.projects[project]) {
		c.projects[project] = at
	}
	delete(c.refused, project)
}

func (c *coverage) recordRefused(project string, at time.Time) { c.refused[project] = at }

// findAllowed reports whether enough time has passed since a find that was refused.
func (c *coverage) findAllowed(project string, now time.Time) bool {
	at, refused := c.refused[project]
	return !refused || now.Sub(at) >= failedListInterval
}

func (c *coverage) recordAll(at time.Time, skipped map[string]struct{}) {
	if at.After(c.allAt) {
		c.allAt, c.skipped = at, skipped
		clear(c.refused)
	}
}

// forget records that those of a project are not all kept any more.
func (c *coverage) forget(project string) {
	delete(c.projects, project)
	delete(c.refused, project)
	if !c.allAt.IsZero() {
		c.skipped[project] = struct{}{}
	}
}

// networking is what is known of networks and addresses besides the facts. It is used while the
// facts' mu is held.
type networking struct {
	// networksOf and ipsOf are the ids of a project's.
	networksOf, ipsOf map[string]map[string]struct{}
	// public are the ids of networks of no project, or shared.
	public map[string]struct{}
	coverages
	// handedOver is what was observed, and handed over: what is known of it is shown.
	handedOver coverages
	// networksListed and ipsListed are how many there were in the last list of all.
	networksListed, ipsListed int
}

// coverages are which networks and addresses were observed.
type coverages struct {
	networks, ips coverage
	// publicAt is when the networks of no project were last observed.
	publicAt time.Time
	// listError is what the last list of all networks was answered with, at listFailedAt, nil if
	// that has succeeded.
	listError    error
	listFailedAt time.Time
}

func newNetworking() networking {
	return networking{
		networksOf: map[string]map[string]struct{}{}, ipsOf: map[string]map[string]struct{}{}, public: map[string]struct{}{},
		coverages: newCoverages(), handedOver: newCoverages(),
	}
}

func newCoverages() coverages { return coverages{networks: newCoverage(), ips: newCoverage()} }

func newCoverage() coverage {
	return coverage{projects: map[string]time.Time{}, refused: map[string]time.Time{}}
}

// isPublic reports whether projects can use a network that is not theirs.
func isPublic(n *metal.Network) bool {
	return (n.Project == "" || n.Shared) && !n.Underlay && !n.PrivateSuper
}

func (n *networking) indexNetwork(id string, before, after *metal.Network) {
	if before != nil {
		removeFrom(n.networksOf, before.Project, id)
		delete(n.public, id)
	}
	if after != nil {
		addTo(n.networksOf, after.Project, id)
		if isPublic(after) {
			n.public[id] = struct{}{}
		}
	}
}

func (n *networking) indexIP(id string, before, after *metal.IP) {
	if before != nil {
		removeFrom(n.ipsOf, before.Project, id)
	}
	if after != nil {
		addTo(n.ipsOf, after.Project, id)
	}
}

func addTo(index map[string]map[string]struct{}, project, id string) {
	switch {
	case project == "":
	case index[project] == nil:
		index[project] = map[string]struct{}{id: {}}
	default:
		index[project][id] = struct{}{}
	}
}

func removeFrom(index map[string]map[string]struct{}, project, id string) {
	if delete(index[project], id); len(index[project]) == 0 {
		delete(index, project)
	}
}

// listDue reports whether shared networks of other projects have to be observed, which only a
// list of all networks shows: for the first time, or again after the last list was refused.
func (n *networking) listDue(now time.Time) bool {
	return (n.networks.allAt.IsZero() || n.listError != nil) && n.listAllowed(now)
}

// listAllowed reports whether enough time has passed since a list that was refused.
func (n *networking) listAllowed(now time.Time) bool {
	return n.listFailedAt.IsZero() || now.Sub(n.listFailedAt) >= failedListInterval
}

// publicObservedAt is when the networks of no project were last observed.
func (n *coverages) publicObservedAt() time.Time {
	if n.networks.allAt.After(n.publicAt) {
		return n.networks.allAt
	}
	return n.publicAt
}

// applyNetworks records the networks that a list or a find shows. Of those that are not known
// yet, it keeps those that are public, or of a project that keep wants; the projects of the
// others are skipped.
func (f *facts) applyNetworks(found []*metal.Network, m observationTime, keep func(project string) bool, pending *[]string) (listed map[string]bool, skipped map[string]struct{}) {
	listed, skipped = make(map[string]bool, len(found)), map[string]struct{}{}
	for _, n := range found {
		listed[n.ID] = true
		kept := isPublic(n) || n.Project != "" && keep(n.Project)
		if n.Project != "" && !keep(n.Project) {
			skipped[n.Project] = struct{}{}
		}
		if _, known := f.networks.entries[n.ID]; !known && !kept {
			continue
		}
		if f.networks.apply(n.ID, n, m, sourceList) {
			*pending = append(*pending, n.ID)
		}
	}
	return listed, skipped
}

// applyIPs is applyNetworks for addresses.
func (f *facts) applyIPs(found []*metal.IP, m observationTime, keep func(project string) bool, pending *[]string) (listed map[string]bool, skipped map[string]struct{}) {
	listed, skipped = make(map[string]bool, len(found)), map[string]struct{}{}
	for _, i := range found {
		listed[i.Address] = true
		kept := i.Project != "" && keep(i.Project)
		if i.Project != "" && !kept {
			skipped[i.Project] = struct{}{}
		}
		if _, known := f.ips.entries[i.Address]; !known && !kept {
			continue
		}
		if f.ips.apply(i.Address, i, m, sourceList) {
			*pending = append(*pending, i.Address)
		}
	}
	return listed, skipped
}

// absentAmong records that a list or a find, which would have shown the ids, has not shown those
// that are not among listed.
func absentAmong[T any](c *cache[T], ids iter.Seq[string], listed map[string]bool, m observationTime, pending *[]string) {
	for id := range ids {
		if !listed[id] && c.applyAbsence(id, m) {
			*pending = append(*pending, id)
		}
	}
}

func networkRefs(id string, states ...*metal.Network) []metal.Ref {
	refs := []metal.Ref{{Kind: metal.KindNetwork, ID: id}}
	for _, n := range states {
		if n != nil && n.UID() != "" {
			refs = append(refs, metal.Ref{Kind: metal.KindUID, ID: n.UID()})
		}
	}
	return refs
}

func ipRefs(address string, states ...*metal.IP) []metal.Ref {
	refs := []metal.Ref{{Kind: metal.KindIP, ID: address}}
	for _, i := range states {
		if i != nil && i.UID() != "" {
			refs = append(refs, metal.Ref{Kind: metal.KindUID, ID: i.UID()})
		}
	}
	return refs
}

// notifyNetworking notifies of the networks and addresses of a project.
func (f *facts) notifyNetworking(project string) {
	for _, id := range slices.Sorted(maps.Keys(f.networking.networksOf[project])) {
		f.notify(networkRefs(id, f.networks.entries[id].fact)...)
	}
	for _, address := range slices.Sorted(maps.Keys(f.networking.ipsOf[project])) {
		f.notify(ipRefs(address, f.ips.entries[address].fact)...)
	}
}

// notifyPublic notifies of the networks that every project can use.
func (f *facts) notifyPublic() {
	for _, id := range slices.Sorted(maps.Keys(f.networking.public)) {
		f.notify(networkRefs(id, f.networks.entries[id].fact)...)
	}
}

// evictNetworking drops networks and addresses that are neither referenced, nor public, nor of a
// project whose metal is shown: what is shown has to be known, so that its end is noticed. What
// of it is dropped is to be observed again before it counts as observed.
func (f *facts) evictNetworking(now time.Time) {
	n := &f.networking
	networks, ips := []*coverage{&n.networks, &n.handedOver.networks}, []*coverage{&n.ips, &n.handedOver.ips}
	for _, c := range slices.Concat(networks, ips) {
		for _, projects := range []map[string]time.Time{c.projects, c.refused} {
			for project := range projects {
				if !f.relevant(project) {
					c.forget(project)
				}
			}
		}
	}
	kept := func(coverages []*coverage, project string) bool {
		if project == "" {
			return false
		}
		if f.relevant(project) {
			return true
		}
		for _, c := range coverages {
			c.forget(project)
		}
		return false
	}
	for id, h := range f.networks.entries {
		if f.isReferenced(metal.KindNetwork, id) || h.fact != nil && (kept(networks, h.fact.Project) || isPublic(h.fact)) {
			continue
		}
		if now.Sub(h.observedAt) > forgetAfter {
			n.indexNetwork(id, h.fact, nil)
			delete(f.networks.entries, id)
		}
	}
	for address, h := range f.ips.entries {
		if f.isReferenced(metal.KindIP, address) || h.fact != nil && kept(ips, h.fact.Project) {
			continue
		}
		if now.Sub(h.observedAt) > forgetAfter {
			n.indexIP(address, h.fact, nil)
			delete(f.ips.entries, address)
		}
	}
}

// NetworksObserved reports whether all networks that a spec of the project can name were
// observed once, and handed over: its own, those of no project, and shared ones of others. The
// last are left out if the metal-api answers the list of all networks with an error, and its own
// but for those that records reference, if one of them was freed halfway.
func (o *Observer) NetworksObserved(project string) bool {
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	n := &o.facts.networking.handedOver
	if n.networks.answered(project).IsZero() || n.publicObservedAt().IsZero() {
		return false
	}
	return !n.networks.allAt.IsZero() || n.listError != nil
}

// IPsObserved reports whether all addresses of the project were observed once.
func (o *Observer) IPsObserved(project string) bool {
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	return !o.facts.networking.handedOver.ips.observed(project).IsZero()
}

// AllNetworksObserved and AllIPsObserved report whether the networks and addresses of every
// relevant project were observed once. AllNetworksObserved is true, too, if the metal-api answers
// the list of all networks with an error, and those of no project and of each project that is
// bound were observed.
func (o *Observer) AllNetworksObserved() bool {
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	n := &o.facts.networking.handedOver
	return n.networks.coversAll(o.facts.relevant) || n.listError != nil && !o.oldestNetworks(n, n.networks.answered).IsZero()
}

// oldestNetworks is when those of no project and, as at says, of each project that is bound were
// last observed; zero if some never were. The facts' mu is held.
func (o *Observer) oldestNetworks(n *coverages, at func(project string) time.Time) time.Time {
	oldest := n.publicObservedAt()
	for _, project := range o.boundProjects() {
		if at := at(project); at.Before(oldest) {
			oldest = at
		}
	}
	return oldest
}

// AllIPsObserved is AllNetworksObserved for addresses.
func (o *Observer) AllIPsObserved() bool {
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	return o.facts.networking.handedOver.ips.coversAll(o.facts.relevant)
}

// Networks returns every network that is known to be there, by id: those that were observed by
// reads, and those that records reference.
func (o *Observer) Networks() iter.Seq[*metal.Network] {
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	return slices.Values(present(&o.facts.networks, maps.Keys(o.facts.networks.entries)))
}

// NetworksOf returns the networks that a spec of the project can name, as far as they are known,
// by id: its own, those of no project, and shared ones.
func (o *Observer) NetworksOf(project string) []*metal.Network {
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	n := &o.facts.networking
	ids := maps.Clone(n.public)
	maps.Copy(ids, n.networksOf[project])
	return slices.DeleteFunc(present(&o.facts.networks, maps.Keys(ids)), func(n *metal.Network) bool { return !n.UsableBy(project) })
}

// IPsOf returns the addresses of a project, as far as they are known.
func (o *Observer) IPsOf(project string) []*metal.IP {
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	return present(&o.facts.ips, maps.Keys(o.facts.networking.ipsOf[project]))
}

// present returns the facts of what is known to be there, by id.
func present[T any](c *cache[T], ids iter.Seq[string]) (found []*T) {
	for _, id := range slices.Sorted(ids) {
		if h := c.entries[id]; h != nil && h.fact != nil {
			found = append(found, h.fact)
		}
	}
	return found
}
