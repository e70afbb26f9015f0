// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"maps"
	"slices"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// networkAddress is an address in a network: those of different networks can be the same.
type networkAddress struct{ network, address string }

// holders is which machines have what one machine should have alone. Hardly ever do two.
type holders[K comparable] struct {
	first  map[K]string
	others map[K]map[string]struct{}
}

func newHolders[K comparable]() holders[K] {
	return holders[K]{first: map[K]string{}, others: map[K]map[string]struct{}{}}
}

// add returns the machine that does not have k alone any more, if it is only one now.
func (h holders[K]) add(k K, id string) (other string) {
	first, held := h.first[k]
	switch {
	case !held:
		h.first[k] = id
	case first == id:
	case h.others[k] == nil:
		h.others[k] = map[string]struct{}{id: {}}
		return first
	default:
		h.others[k][id] = struct{}{}
	}
	return ""
}

// remove returns the machine that has k alone from now on, if it did not before.
func (h holders[K]) remove(k K, id string) (other string) {
	others := h.others[k]
	if h.first[k] == id {
		if len(others) == 0 {
			delete(h.first, k)
			return ""
		}
		for next := range others {
			h.first[k] = next
			delete(others, next)
			break
		}
	} else if _, held := others[id]; !held {
		return ""
	} else {
		delete(others, id)
	}
	if len(others) > 0 {
		return ""
	}
	delete(h.others, k)
	return h.first[k]
}

func (h holders[K]) isShared(k K) bool { return len(h.others[k]) > 0 }

// duplicates is which addresses and autonomous system numbers more than one machine has. The
// numbers are those of firewalls: the metal-api minds those only.
type duplicates struct {
	addresses holders[networkAddress]
	asns      holders[int64]
}

func newDuplicates() duplicates {
	return duplicates{newHolders[networkAddress](), newHolders[int64]()}
}

// replace takes over what a machine has, and returns the other machines whose duplicates have
// changed.
func (d duplicates) replace(id string, before, after *metal.Machine) (others []string) {
	if haveSame(before, after) {
		return nil
	}
	changed := func(other string) {
		if other != "" && !slices.Contains(others, other) {
			others = append(others, other)
		}
	}
	forEachAddress(before, func(k networkAddress) { changed(d.addresses.remove(k, id)) })
	forEachASN(before, func(k int64) { changed(d.asns.remove(k, id)) })
	forEachAddress(after, func(k networkAddress) { changed(d.addresses.add(k, id)) })
	forEachASN(after, func(k int64) { changed(d.asns.add(k, id)) })
	return others
}

func (d duplicates) of(m *metal.Machine) (shared metal.Duplicates) {
	if len(d.addresses.others) > 0 {
		forEachAddress(m, func(k networkAddress) {
			if d.addresses.isShared(k) && !slices.Contains(shared.Addresses, k.address) {
				shared.Addresses = append(shared.Addresses, k.address)
			}
		})
		slices.Sort(shared.Addresses)
	}
	if len(d.asns.others) > 0 {
		forEachASN(m, func(k int64) {
			if d.asns.isShared(k) && !slices.Contains(shared.ASNs, k) {
				shared.ASNs = append(shared.ASNs, k)
			}
		})
		slices.Sort(shared.ASNs)
	}
	return shared
}

func haveSame(a, b *metal.Machine) bool {
	if a == nil || b == nil || a.Allocation == nil || b.Allocation == nil {
		return (a == nil || a.Allocation == nil) && (b == nil || b.Allocation == nil)
	}
	return a.Allocation.Role == b.Allocation.Role && slices.EqualFunc(a.Allocation.Networks, b.Allocation.Networks, func(x, y metal.MachineNetwork) bool {
		return x.NetworkID == y.NetworkID && x.ASN == y.ASN && slices.Equal(x.IPs, y.IPs)
	})
}

func forEachAddress(m *metal.Machine, do func(networkAddress)) {
	if m == nil || m.Allocation == nil {
		return
	}
	for _, n := range m.Allocation.Networks {
		for _, address := range n.IPs {
			do(networkAddress{n.NetworkID, address})
		}
	}
}

func forEachASN(m *metal.Machine, do func(int64)) {
	if m == nil || m.Allocation == nil || m.Allocation.Role != metal.RoleFirewall {
		return
	}
	for _, n := range m.Allocation.Networks {
		if n.ASN != 0 {
			do(n.ASN)
		}
	}
}

// Duplicates returns what of a machine another one has, too, of whatever project.
func (o *Observer) Duplicates(m *metal.Machine) metal.Duplicates {
	o.facts.mu.RLock()
	defer o.facts.mu.RUnlock()
	return o.facts.duplicates.of(m)
}

// countIssues counts the machines of projects whose metal is shown, by issue.
func (o *Observer) countIssues() map[metal.IssueKind]int {
	count := make(map[metal.IssueKind]int, len(metal.IssueKinds))
	for _, kind := range metal.IssueKinds {
		count[kind] = 0
	}
	o.facts.mu.RLock()
	projects := slices.Collect(maps.Keys(o.facts.byProject))
	o.facts.mu.RUnlock()
	for _, project := range projects {
		if !o.opts.Relevant(project) {
			continue
		}
		for _, m := range o.facts.machinesInProject(project) {
			steps := m.Steps()
			for _, issue := range m.Issues(steps, m.Reinstallation(steps, time.Time{}), o.Duplicates(m)) {
				count[issue]++
			}
		}
	}
	return count
}
