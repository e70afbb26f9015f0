// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

// Entities in the store are never changed, only replaced. An update names
// the entity that it began with, and fails with 409 if that is no longer the
// stored one (docs/metal-api.md, Q61).

// machine is a server as the database has it.
type machine struct {
	id, partition, size, rack string
	chassis                   string
	hardware                  *wire.Hardware
	bios                      wire.BIOS
	ipmi                      wire.IPMI
	state                     wire.State
	led                       wire.LEDState
	tags                      []string
	alloc                     *allocation
	waiting, preallocated     bool
	created, changed          time.Time
}

// allocation is what a machine has while it is allocated.
type allocation struct {
	uuid, creator, name, description, project, hostname, image, userData, role string

	created         time.Time
	sshKeys         []string
	layout          *wire.FilesystemLayout
	networks        []wire.MachineNetwork
	rules           *wire.FirewallRules
	dns             []wire.DNSServer
	ntp             []wire.NTPServer
	reinstall       bool
	boot            *wire.BootInfo
	consolePassword string
}

const (
	roleMachine  = "machine"
	roleFirewall = "firewall"

	stateLocked   = "LOCKED"
	stateReserved = "RESERVED"
	// stateTainted is what a reserved machine is searched by, and can be set with
	// (2/304, 2/662).
	stateTainted = "TAINTED"

	typeEphemeral = "ephemeral"
	typeStatic    = "static"

	ipv4 = "IPv4"
	ipv6 = "IPv6"
)

// network is a network as the database has it.
type network struct {
	id, name, description, partition, project, parent string

	labels            map[string]string
	prefixes          []string
	destinations      []string
	childLengths      map[string]int
	announcable       []string
	vrf               uint
	nat, shared       bool
	super, underlay   bool
	networkType, nat2 string
	created, changed  time.Time
}

// ip is an address as the database has it.
type ip struct {
	address, prefix, network, project, name, description, typ, uuid string

	tags             []string
	created, changed time.Time
}

// stored is a time as RethinkDB keeps it: rounded to milliseconds, so that
// what a write answers never equals what later reads answer (docs/metal-api.md, Q10).
func stored(t time.Time) time.Time { return t.Round(time.Millisecond).UTC() }

// instant is the time now as the server's process has it, with nanoseconds.
func (s *Simulator) instant() time.Time { return s.clock.Now().UTC() }

// newUUID is a random UUID from the seed.
func (s *Simulator) newUUID() string {
	var b [16]byte
	for i := range b {
		b[i] = byte(s.rng.Uint32())
	}
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return uuid.UUID(b).String()
}

func (s *Simulator) findMachine(c *call, id string) (*node, *machine, error) {
	if c.down(backendRethinkDB) {
		return nil, nil, fmt.Errorf("cannot find machine with id %q in database: %s", id, rethinkdbDown)
	}
	n, ok := s.machines[id]
	if !ok || n.m == nil {
		return nil, nil, notFound("no machine with id %q found", id)
	}
	return n, n.m, nil
}

// updateMachine replaces old by next and returns next as the writer sees it.
func (s *Simulator) updateMachine(old, next *machine) (*machine, error) {
	n, ok := s.machines[old.id]
	if !ok || n.m != old {
		return nil, conflict("cannot update machine (%s): %s", old.id, changedByAnother)
	}
	next.changed = s.instant()
	kept := *next
	kept.changed = stored(kept.changed)
	if kept.alloc != nil {
		a := *kept.alloc
		a.created = stored(a.created)
		if a.sshKeys == nil {
			a.sshKeys = []string{}
		}
		kept.alloc = &a
	}
	n.m = &kept
	return next, nil
}

func (s *Simulator) findNetwork(c *call, id string) (*network, error) {
	if c.down(backendRethinkDB) {
		return nil, fmt.Errorf("cannot find network with id %q in database: %s", id, rethinkdbDown)
	}
	n, ok := s.networks[id]
	if !ok {
		return nil, notFound("no network with id %q found", id)
	}
	return n, nil
}

func (s *Simulator) createNetwork(n *network) *network {
	if n.id == "" {
		n.id = s.newUUID()
	}
	n.created = s.instant()
	n.changed = n.created
	kept := *n
	kept.created, kept.changed = stored(n.created), stored(n.changed)
	s.networks[n.id] = &kept
	s.netOrder = append(s.netOrder, n.id)
	return n
}

func (s *Simulator) updateNetwork(old, next *network) (*network, error) {
	if s.networks[old.id] != old {
		return nil, conflict("cannot update network (%s): %s", old.id, changedByAnother)
	}
	next.changed = s.instant()
	kept := *next
	kept.changed = stored(next.changed)
	s.networks[old.id] = &kept
	return next, nil
}

func (s *Simulator) deleteNetwork(id string) {
	delete(s.networks, id)
	s.netOrder = slices.DeleteFunc(s.netOrder, func(o string) bool { return o == id })
}

func (s *Simulator) findIP(c *call, address string) (*ip, error) {
	if c.down(backendRethinkDB) {
		return nil, fmt.Errorf("cannot find ip with id %q in database: %s", address, rethinkdbDown)
	}
	i, ok := s.ips[address]
	if !ok {
		return nil, notFound("no ip with id %q found", address)
	}
	return i, nil
}

func (s *Simulator) createIP(i *ip) (*ip, error) {
	if _, taken := s.ips[i.address]; taken {
		return nil, conflict("cannot create ip in database, entity already exists: %s", i.address)
	}
	i.uuid = s.newUUID()
	i.created = s.instant()
	i.changed = i.created
	kept := *i
	kept.created, kept.changed = stored(i.created), stored(i.changed)
	s.ips[i.address] = &kept
	s.index(nil, &kept)
	s.ipOrder = append(s.ipOrder, i.address)
	return i, nil
}

func (s *Simulator) updateIP(old, next *ip) (*ip, error) {
	if s.ips[old.address] != old {
		return nil, conflict("cannot update ip (%s): %s", old.address, changedByAnother)
	}
	next.changed = s.instant()
	kept := *next
	kept.changed = stored(next.changed)
	s.ips[old.address] = &kept
	s.index(old, &kept)
	return next, nil
}

// index keeps the addresses of each machine.
func (s *Simulator) index(old, next *ip) {
	if old != nil {
		for _, m := range old.machinesOf() {
			delete(s.ipsOf[m], old.address)
		}
	}
	if next != nil {
		for _, m := range next.machinesOf() {
			if s.ipsOf[m] == nil {
				s.ipsOf[m] = map[string]struct{}{}
			}
			s.ipsOf[m][next.address] = struct{}{}
		}
	}
}

func (s *Simulator) deleteIP(address string) {
	s.index(s.ips[address], nil)
	delete(s.ips, address)
	s.ipOrder = slices.DeleteFunc(s.ipOrder, func(o string) bool { return o == address })
}

// pool hands out unique integers in a fixed order, as the real one seems to:
// the same machine freed and allocated again gets its ASN again (243, 252).
type pool struct {
	taken map[uint]bool
	order []uint
}

func newPool() *pool {
	p := &pool{taken: map[uint]bool{}, order: []uint{20, 30, 35, 42, 44, 46, 50}}
	for i := uint(51); i < 60000; i++ {
		p.order = append(p.order, i)
	}
	return p
}

func (p *pool) acquire() (uint, bool) {
	for _, i := range p.order {
		if !p.taken[i] {
			p.taken[i] = true
			return i, true
		}
	}
	return 0, false
}

func (p *pool) take(i uint)    { p.taken[i] = true }
func (p *pool) release(i uint) { delete(p.taken, i) }
