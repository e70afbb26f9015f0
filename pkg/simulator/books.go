// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Books are the simulator's own accounts, for invariants in tests: not what
// an endpoint answers, but what is so.
type Books struct {
	Machines []MachineAccount
	Networks []NetworkAccount
	IPs      []IPAccount
	// History is every allocation and free ever made, and every change of what
	// is there, in order.
	History []Deed
}

// MachineAccount is one machine with its allocation, if it has one.
type MachineAccount struct {
	ID, Partition, Rack, Size string
	// Liveliness is Alive, Dead or Unknown; State is LOCKED, RESERVED or empty.
	Liveliness, State string
	// LastEvent is the newest event in the log, of whatever allocation.
	LastEvent string
	Waiting   bool

	Allocated               bool
	AllocationUUID          string
	Project, Name, Hostname string
	Role, Image, UserData   string
	Tags, IPs, Networks     []string
	Created                 time.Time
}

// NetworkAccount is one network.
type NetworkAccount struct {
	ID, Name, Project, Partition, Parent string
	Prefixes                             []string
	Labels                               map[string]string
	// HalfFreed: some of its prefixes are gone from the ipam, which breaks
	// every list that shows it (511-520).
	HalfFreed bool
}

// IPAccount is one address entity.
type IPAccount struct {
	Address, Network, Project, Type, Name, AllocationUUID string
	Tags                                                  []string
	// Taken: the ipam, too, thinks that it is taken.
	Taken bool
}

// Deed is one allocation, free or change that took effect.
type Deed struct {
	Time time.Time
	// Verb is allocate, free or update; Kind is machine, firewall, network or
	// ip. Addresses that come and go with a machine are not told apart.
	Verb, Kind string
	// ID is the machine's or network's id or the address. A free of a machine
	// that was not allocated, which takes it out of the pool, names no
	// allocation.
	ID, AllocationUUID, Project string
	Tags                        []string
	Labels                      map[string]string
	// By is the technical user, or "simulator" for deeds without a request.
	By string
}

// carries says whether a deed or account has a tag, or a label as key=value.
func carries(tags []string, labels map[string]string, tag string) bool {
	if slices.Contains(tags, tag) {
		return true
	}
	k, v, ok := strings.Cut(tag, "=")
	if !ok {
		return false
	}
	l, has := labels[k]
	return has && l == v
}

func (s *Simulator) record(d Deed) {
	d.Time = s.clock.Now()
	d.Tags, d.Labels = slices.Clone(d.Tags), maps.Clone(d.Labels)
	s.history = append(s.history, d)
}

// Books returns a copy of the accounts.
func (s *Simulator) Books() Books {
	s.enter()
	defer s.leave()
	b := Books{History: slices.Clone(s.history)}
	for _, n := range s.order {
		if n.m == nil {
			continue
		}
		m := n.m
		acc := MachineAccount{
			ID: m.id, Partition: m.partition, Rack: m.rack, Size: m.size, State: m.state.Value,
			LastEvent: n.ec.newest(), Waiting: m.waiting, Tags: slices.Clone(m.tags),
		}
		if n.ec != nil {
			acc.Liveliness = n.ec.liveliness
		}
		if a := m.alloc; a != nil {
			acc.Allocated, acc.AllocationUUID, acc.Project, acc.Name, acc.Hostname = true, a.uuid, a.project, a.name, a.hostname
			acc.Role, acc.Image, acc.UserData, acc.Created = a.role, a.image, a.userData, a.created
			for _, nw := range a.networks {
				acc.Networks = append(acc.Networks, nw.NetworkID)
				acc.IPs = append(acc.IPs, nw.IPs...)
			}
		}
		b.Machines = append(b.Machines, acc)
	}
	for _, id := range s.netOrder {
		n := s.networks[id]
		acc := NetworkAccount{
			ID: n.id, Name: n.name, Project: n.project, Partition: n.partition, Parent: n.parent,
			Prefixes: slices.Clone(n.prefixes), Labels: maps.Clone(n.labels),
		}
		for _, p := range n.prefixes {
			if _, ok := s.ipam.prefixes[p]; !ok {
				acc.HalfFreed = true
			}
		}
		b.Networks = append(b.Networks, acc)
	}
	for _, address := range s.ipOrder {
		i := s.ips[address]
		b.IPs = append(b.IPs, IPAccount{
			Address: i.address, Network: i.network, Project: i.project, Type: i.typ, Name: i.name,
			AllocationUUID: i.uuid, Tags: slices.Clone(i.tags), Taken: s.ipam.taken(i.prefix, i.address),
		})
	}
	return b
}

// Allocations counts the allocations ever made that carry a tag, or a label
// as key=value.
func (b Books) Allocations(tag string) int { return b.deeds("allocate", tag) }

// Frees counts the frees ever made likewise.
func (b Books) Frees(tag string) int { return b.deeds("free", tag) }

func (b Books) deeds(verb, tag string) int {
	n := 0
	for _, d := range b.History {
		if d.Verb == verb && carries(d.Tags, d.Labels, tag) {
			n++
		}
	}
	return n
}

// Holding returns the machines that are allocated now and carry a tag.
func (b Books) Holding(tag string) []MachineAccount {
	var l []MachineAccount
	for _, m := range b.Machines {
		if m.Allocated && carries(m.Tags, nil, tag) {
			l = append(l, m)
		}
	}
	return l
}

// Machine returns the account of one machine; ok is false if there is none.
func (b Books) Machine(id string) (m MachineAccount, ok bool) {
	for _, m := range b.Machines {
		if m.ID == id {
			return m, true
		}
	}
	return MachineAccount{}, false
}

// Of returns the allocated machines of a project.
func (b Books) Of(project string) []MachineAccount {
	var l []MachineAccount
	for _, m := range b.Machines {
		if m.Allocated && m.Project == project {
			l = append(l, m)
		}
	}
	return l
}

// changed records a change of a machine.
func (s *Simulator) changed(c *call, m *machine) {
	d := Deed{Verb: "update", Kind: roleMachine, ID: m.id, Tags: m.tags, By: c.user.name}
	if a := m.alloc; a != nil {
		d.Kind, d.AllocationUUID, d.Project = a.role, a.uuid, a.project
	}
	s.record(d)
}
