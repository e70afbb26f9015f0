// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"cmp"
	"slices"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

func compare[T cmp.Ordered](a, b T) int { return cmp.Compare(a, b) }

// matchMachine says whether a machine passes all of a query's filters
// (docs/metal-api.md, Q13).
func matchMachine(q *wire.MachineSearchQuery, m *machine) bool {
	if !is(q.ID, m.id) || !is(q.PartitionID, m.partition) || !is(q.SizeID, m.size) || !is(q.RackID, m.rack) ||
		!is(q.StateValue, searchedState(m.state.Value)) || !is(q.IpmiAddress, m.ipmi.Address) || !is(q.IpmiMacAddress, m.ipmi.MAC) || !is(q.Name, "") {
		return false
	}
	for _, t := range q.Tags {
		if !slices.Contains(m.tags, t) {
			return false
		}
	}
	for _, mac := range q.NicsMacAddresses {
		if !slices.ContainsFunc(m.hardware.Nics, func(n wire.Nic) bool { return n.MAC == mac }) {
			return false
		}
	}
	return matchAllocation(q, m.alloc)
}

func matchAllocation(q *wire.MachineSearchQuery, a *allocation) bool {
	asks := q.AllocationName != nil || q.AllocationProject != nil || q.AllocationImageID != nil || q.AllocationHostname != nil ||
		q.AllocationRole != nil || q.AllocationSucceeded != nil || len(q.NetworkIDs) > 0 || len(q.NetworkPrefixes) > 0 ||
		len(q.NetworkIPs) > 0 || len(q.NetworkDestinationPrefixes) > 0 || len(q.NetworkVrfs) > 0 || len(q.NetworkASNs) > 0
	if !asks {
		return true
	}
	if a == nil {
		return false
	}
	if !is(q.AllocationName, a.name) || !is(q.AllocationProject, a.project) || !is(q.AllocationImageID, a.image) ||
		!is(q.AllocationHostname, a.hostname) || !is(q.AllocationRole, a.role) || !is(q.AllocationSucceeded, false) {
		return false
	}
	return allIn(q.NetworkIDs, a.networks, func(n wire.MachineNetwork) []string { return []string{n.NetworkID} }) &&
		allIn(q.NetworkPrefixes, a.networks, func(n wire.MachineNetwork) []string { return n.Prefixes }) &&
		allIn(q.NetworkIPs, a.networks, func(n wire.MachineNetwork) []string { return n.IPs }) &&
		allIn(q.NetworkDestinationPrefixes, a.networks, func(n wire.MachineNetwork) []string { return n.DestinationPrefixes }) &&
		allIn(q.NetworkVrfs, a.networks, func(n wire.MachineNetwork) []int64 { return []int64{int64(n.Vrf)} }) &&
		allIn(q.NetworkASNs, a.networks, func(n wire.MachineNetwork) []int64 { return []int64{n.ASN} })
}

// allIn says whether each wanted value is a value of some network.
func allIn[T comparable](wanted []T, networks []wire.MachineNetwork, of func(wire.MachineNetwork) []T) bool {
	for _, w := range wanted {
		if !slices.ContainsFunc(networks, func(n wire.MachineNetwork) bool { return slices.Contains(of(n), w) }) {
			return false
		}
	}
	return true
}

// shuffled is a list in no order (docs/metal-api.md, Q9).
func (s *Simulator) shuffled(ids []string) []string {
	l := slices.Clone(ids)
	s.rng.Shuffle(len(l), func(i, j int) { l[i], l[j] = l[j], l[i] })
	return l
}

// searchedState is the state by which a machine is found (2/304, 2/664).
func searchedState(shown string) string {
	if shown == stateReserved {
		return stateTainted
	}
	return shown
}
