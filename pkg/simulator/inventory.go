// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Inventory is the state of the data centre, for invariants in tests: not what
// an endpoint answers, but what is so.
type Inventory struct {
	Machines []MachineState
	Networks []NetworkState
	IPs      []IPState
	// History is every allocation and free ever made, and every change of what
	// is there, in order.
	History []Operation
}

// MachineState is one machine with its allocation, if it has one.
type MachineState struct {
	ID, Partition, Rack, Size string
	// Liveliness is Alive, Dead or Unknown; State is LOCKED, RESERVED or empty.
	Liveliness, State string
	// LastEvent is the newest event in the log, of whatever allocation.
	LastEvent string
	Waiting   bool
	// Power is ON or OFF, whatever was reported; Hung: it has power, and does nothing. LED
	// is that of the chassis, as it was asked for last.
	Power, LED string
	Hung       bool

	Allocated               bool
	AllocationUUID          string
	Project, Name, Hostname string
	Role, Image, UserData   string
	Tags, IPs, Networks     []string
	DNSServers, NTPServers  []string
	FilesystemLayout        string
	Created                 time.Time
}

// NetworkState is one network.
type NetworkState struct {
	ID, Name, Project, Partition, Parent string
	Prefixes                             []string
	Labels                               map[string]string
	// HalfFreed: some of its prefixes are gone from the ipam, which breaks
	// every list that shows it (511-520).
	HalfFreed bool
}

// IPState is one address entity.
type IPState struct {
	Address, Network, Project, Type, Name, AllocationUUID string
	Tags                                                  []string
	// Taken: the ipam, too, thinks that it is taken.
	Taken bool
}

// Operation is one allocation, free or change that took effect.
type Operation struct {
	Time time.Time
	// Verb is allocate, free or update; Kind is machine, firewall, network or
	// ip. Addresses that come and go with a machine are not distinguished.
	Verb, Kind string
	// ID is the machine's or network's id or the address. A free of a machine
	// that was not allocated, which takes it out of the pool, names no
	// allocation.
	ID, AllocationUUID, Project string
	Tags                        []string
	Labels                      map[string]string
	// By is the technical user, or "simulator" for operations without a request.
	By string
}

// carries says whether an operation or resource has a tag, or a label as key=value.
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

func (s *Simulator) record(d Operation) {
	d.Time = s.clock.Now()
	d.Tags, d.Labels = slices.Clone(d.Tags), maps.Clone(d.Labels)
	s.history = append(s.history, d)
}

// Inventory returns a copy of the state.
func (s *Simulator) Inventory() Inventory {
	s.lock()
	defer s.unlock()
	inventory := Inventory{History: slices.Clone(s.history)}
	for _, n := range s.order {
		if n.m == nil {
			continue
		}
		m := n.m
		state := MachineState{
			ID: m.id, Partition: m.partition, Rack: m.rack, Size: m.size, State: m.state.Value,
			LastEvent: n.ec.newest(), Waiting: m.waiting, Tags: slices.Clone(m.tags),
			Power: n.power.String(), Hung: n.power.hung, LED: m.led.Value,
		}
		if n.ec != nil {
			state.Liveliness = n.ec.liveliness
		}
		if a := m.alloc; a != nil {
			state.Allocated, state.AllocationUUID, state.Project, state.Name, state.Hostname = true, a.uuid, a.project, a.name, a.hostname
			state.Role, state.Image, state.UserData, state.Created = a.role, a.image, a.userData, a.created
			for _, d := range a.dns {
				state.DNSServers = append(state.DNSServers, d.IP)
			}
			for _, n := range a.ntp {
				state.NTPServers = append(state.NTPServers, n.Address)
			}
			if a.layout != nil {
				state.FilesystemLayout = a.layout.ID
			}
			for _, nw := range a.networks {
				state.Networks = append(state.Networks, nw.NetworkID)
				state.IPs = append(state.IPs, nw.IPs...)
			}
		}
		inventory.Machines = append(inventory.Machines, state)
	}
	for _, id := range s.netOrder {
		n := s.networks[id]
		state := NetworkState{
			ID: n.id, Name: n.name, Project: n.project, Partition: n.partition, Parent: n.parent,
			Prefixes: slices.Clone(n.prefixes), Labels: maps.Clone(n.labels),
		}
		for _, p := range n.prefixes {
			if _, ok := s.ipam.prefixes[p]; !ok {
				state.HalfFreed = true
			}
		}
		inventory.Networks = append(inventory.Networks, state)
	}
	for _, address := range s.ipOrder {
		i := s.ips[address]
		inventory.IPs = append(inventory.IPs, IPState{
			Address: i.address, Network: i.network, Project: i.project, Type: i.typ, Name: i.name,
			AllocationUUID: i.uuid, Tags: slices.Clone(i.tags), Taken: s.ipam.taken(i.prefix, i.address),
		})
	}
	return inventory
}

// Allocations counts the allocations ever made that carry a tag, or a label
// as key=value.
func (i Inventory) Allocations(tag string) int { return i.operations("allocate", tag) }

// Frees counts the frees ever made likewise.
func (i Inventory) Frees(tag string) int { return i.operations("free", tag) }

func (i Inventory) operations(verb, tag string) int {
	n := 0
	for _, d := range i.History {
		if d.Verb == verb && carries(d.Tags, d.Labels, tag) {
			n++
		}
	}
	return n
}

// AllocatedWith returns the machines that are allocated now and carry a tag.
func (i Inventory) AllocatedWith(tag string) []MachineState {
	var l []MachineState
	for _, m := range i.Machines {
		if m.Allocated && carries(m.Tags, nil, tag) {
			l = append(l, m)
		}
	}
	return l
}

// Machine returns the state of one machine; ok is false if there is none.
func (i Inventory) Machine(id string) (m MachineState, ok bool) {
	for _, m := range i.Machines {
		if m.ID == id {
			return m, true
		}
	}
	return MachineState{}, false
}

// AllocatedIn returns the allocated machines of a project.
func (i Inventory) AllocatedIn(project string) []MachineState {
	var l []MachineState
	for _, m := range i.Machines {
		if m.Allocated && m.Project == project {
			l = append(l, m)
		}
	}
	return l
}

// changed records a change of a machine.
func (s *Simulator) changed(c *call, m *machine) {
	d := Operation{Verb: "update", Kind: roleMachine, ID: m.id, Tags: m.tags, By: c.user.name}
	if a := m.alloc; a != nil {
		d.Kind, d.AllocationUUID, d.Project = a.role, a.uuid, a.project
	}
	s.record(d)
}
