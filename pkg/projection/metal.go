// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// Metal returns the live half of a machine that is allocated.
func Metal(m *metal.Machine, managed bool) *infrastructure.Metal {
	return metalOf(observe(m, time.Time{}), managed)
}

// observed is a machine as it was observed.
type observed struct {
	live  *metal.Machine
	steps []metal.Event
	// reinstallation is how far that is, and requested is when it was requested last; zero if that
	// is not known.
	reinstallation metal.Reinstallation
	requested      time.Time
}

func observe(m *metal.Machine, requested time.Time) observed {
	steps := m.Steps()
	return observed{live: m, steps: steps, reinstallation: m.Reinstallation(steps, requested), requested: requested}
}

func metalOf(o observed, managed bool) *infrastructure.Metal {
	m, steps := o.live, o.steps
	live := &infrastructure.Metal{
		MachineID:            m.ID,
		Managed:              managed,
		Partition:            m.Partition,
		Rack:                 m.Rack,
		Size:                 m.Size,
		Phase:                phaseOf(steps),
		Liveliness:           m.Liveliness,
		CrashLoop:            m.CrashLoop && o.reinstallation != metal.ReinstallInstalling,
		FailedMachineReclaim: m.FailedMachineReclaim,
		Locked:               m.State == metal.StateLocked,
		Tags:                 slices.Clone(m.Tags),
	}
	slices.Sort(live.Tags)
	if a := m.Allocation; a != nil {
		live.AllocationUUID = a.UUID
		live.Project = a.Project
		live.Image = a.Image
		live.Hostname = a.Hostname
		live.AllocationTime = toSeconds(a.Created)
		for _, n := range sortedNetworks(a.Networks) {
			live.Networks = append(live.Networks, infrastructure.MetalNetwork{
				ID: n.NetworkID, IPs: n.IPs, Prefixes: n.Prefixes, ASN: n.ASN, VRF: n.VRF, NAT: n.NAT, Private: n.Private,
			})
		}
	}
	if len(steps) > 0 {
		live.LastEvent = &infrastructure.MetalEvent{
			Event:   steps[0].Event,
			Message: oneline.Sanitize(steps[0].Message, oneline.MaxMessage),
			// Not the time of the last sign of life: that moves every minute
			// of every machine, and would be an event to every watcher.
			Time: toSeconds(steps[0].Time),
		}
	}
	return live
}

// Phase is how far the machine has got in the allocation that it is in now.
func Phase(m *metal.Machine) string { return phaseOf(m.Steps()) }

func phaseOf(steps []metal.Event) string {
	if len(steps) > 0 {
		return steps[0].Event
	}
	return infrastructure.PhaseAllocating
}

// Addresses returns a machine's addresses in Cluster API's terms: private
// networks are internal, all others external, and the underlay, which carries
// the fabric's own traffic, is none.
func Addresses(m *metal.Machine) []infrastructure.MachineAddress {
	a := m.Allocation
	if a == nil {
		return nil
	}
	var addresses []infrastructure.MachineAddress
	if a.Hostname != "" {
		addresses = append(addresses,
			infrastructure.MachineAddress{Type: infrastructure.MachineHostName, Address: a.Hostname},
			infrastructure.MachineAddress{Type: infrastructure.MachineInternalDNS, Address: a.Hostname})
	}
	for _, kind := range []infrastructure.MachineAddressType{infrastructure.MachineInternalIP, infrastructure.MachineExternalIP} {
		for _, n := range sortedNetworks(a.Networks) {
			if n.Underlay || n.Private != (kind == infrastructure.MachineInternalIP) {
				continue
			}
			for _, ip := range n.IPs {
				addresses = append(addresses, infrastructure.MachineAddress{Type: kind, Address: ip})
			}
		}
	}
	return addresses
}

// sortedNetworks returns networks by id and their addresses IPv4 first: the metal-api
// gives both in random order, and each order would be an event to every watcher.
func sortedNetworks(networks []metal.MachineNetwork) []metal.MachineNetwork {
	ordered := slices.Clone(networks)
	slices.SortFunc(ordered, func(a, b metal.MachineNetwork) int { return cmp.Compare(a.NetworkID, b.NetworkID) })
	for i := range ordered {
		ordered[i].IPs = slices.Clone(ordered[i].IPs)
		slices.SortFunc(ordered[i].IPs, compareAddresses)
		ordered[i].Prefixes = slices.Clone(ordered[i].Prefixes)
		slices.Sort(ordered[i].Prefixes)
	}
	return ordered
}

// compareAddresses orders by number; what is no address comes last, by its text.
func compareAddresses(a, b string) int {
	x, errX := netip.ParseAddr(a)
	y, errY := netip.ParseAddr(b)
	switch {
	case errX == nil && errY == nil:
		return cmp.Or(x.Compare(y), cmp.Compare(a, b))
	case errX == nil:
		return -1
	case errY == nil:
		return 1
	}
	return cmp.Compare(a, b)
}

// toSeconds is t as it is after it was written to JSON and read again.
func toSeconds(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	s := metav1.NewTime(t.UTC().Truncate(time.Second))
	return &s
}
