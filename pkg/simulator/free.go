// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"errors"
	"maps"
	"slices"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

// machineFree takes the allocation away, or, of a machine that has none, the
// machine out of the pool (200). The addresses are on their way out before the
// machine is written: a conflict there comes too late for them (docs/metal-api.md, Q47).
func (s *Simulator) machineFree(c *call) (int, any, error) {
	c.phase("read", 2*time.Millisecond)
	s.lock()
	n, old, err := s.findMachine(c, c.param(0))
	s.unlock()
	if err != nil {
		return 0, nil, err
	}
	if old.state.Value == stateLocked {
		return 0, nil, errors.New("machine is locked")
	}
	c.phase("publish", 8*time.Millisecond)
	if c.down(backendNSQ) {
		return 0, nil, errors.New("cannot publish delete event: " + nsqDown)
	}
	s.lock()
	if old.alloc != nil {
		s.cleanUp(old.id, old.alloc.networks)
	}
	s.unlock()
	c.phase("update", 8*time.Millisecond)
	s.lock()
	defer s.unlock()
	next := *old
	next.alloc, next.tags, next.preallocated, next.waiting = nil, nil, false, false
	m, err := s.updateMachine(old, &next)
	if err != nil {
		return 0, nil, err
	}
	operation := Operation{Verb: "free", Kind: roleMachine, ID: m.id, Tags: old.tags, By: c.user.name}
	if a := old.alloc; a != nil {
		operation.Kind, operation.AllocationUUID, operation.Project = a.role, a.uuid, a.project
	}
	s.record(operation)
	status, answer, err := s.answerMachine(c, n, m)
	if err != nil {
		return 0, nil, err
	}
	s.reclaim(n)
	return status, answer, nil
}

// reclaim is what comes after the answer: the event (245), and the machine's
// way back to the pool.
func (s *Simulator) reclaim(n *node) {
	now := s.clock.Now()
	n.crashes = false
	_ = s.event(n.id, eventMachineReclaim, "free machine called", now)
	s.boot(n, now, stepReclaim)
}

// cleanupQueue is the work of the one who cleans up behind answers: one
// machine after the other, each for a lag.
type cleanupQueue struct {
	busyUntil time.Time
}

// cleanUp has the addresses of a machine cleaned up later. When its turn
// comes, it takes every address that then carries the machine's id, whoever
// put it there (docs/metal-api.md, Q35 and Q36).
func (s *Simulator) cleanUp(machineID string, networks []wire.MachineNetwork) {
	start := s.clock.Now()
	if s.cleanups.busyUntil.After(start) {
		start = s.cleanups.busyUntil
	}
	due := start.Add(s.lag())
	s.cleanups.busyUntil = due
	networks = slices.Clone(networks)
	s.at(due, func(time.Time) { s.releaseNetworks(machineID, networks) })
}

func (s *Simulator) releaseNetworks(machineID string, networks []wire.MachineNetwork) {
	for _, n := range networks {
		for _, address := range n.IPs {
			if i, ok := s.ips[address]; ok {
				s.disassociate(i, machineID)
			}
		}
		if n.ASN > asnBase {
			s.asns.release(uint(n.ASN - asnBase))
		}
	}
	for _, address := range slices.Sorted(maps.Keys(s.ipsOf[machineID])) {
		s.disassociate(s.ips[address], machineID)
	}
	delete(s.ipsOf, machineID)
}

// disassociate takes the machine's id off an address; an ephemeral address
// that no machine has any more goes, a static one stays.
func (s *Simulator) disassociate(i *ip, machineID string) {
	mark := machineTag(machineID)
	if !slices.Contains(i.tags, mark) {
		return
	}
	next := *i
	next.tags = slices.DeleteFunc(slices.Clone(i.tags), func(t string) bool { return t == mark })
	if _, err := s.updateIP(i, &next); err != nil {
		return
	}
	if i.typ == typeStatic || len(next.machinesOf()) > 0 {
		return
	}
	s.releaseIP(s.ips[i.address], "simulator")
}
