// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/metal-stack/metal-lib/pkg/tag"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

// answerMachine answers one machine: m as its writer or reader sees it. One
// without an event container is a 404, though it is there (327).
func (s *Simulator) answerMachine(c *call, n *node, m *machine) (int, any, error) {
	if n.ec == nil {
		return 0, nil, fmt.Errorf("error finding provisioning event container for machine %q: %w",
			n.id, notFound("no provisioningeventcontainer with id %q found", n.id))
	}
	v := s.snapshot(n)
	v.m = m
	return http.StatusOK, v.wire(strings.HasPrefix(c.name, "machine-ipmi")), nil
}

// readMachine is answerMachine for gets, which are frequent: it encodes a machine once, as
// lists do.
func (s *Simulator) readMachine(c *call, n *node, m *machine) (int, any, error) {
	if n.ec == nil || strings.HasPrefix(c.name, "machine-ipmi") {
		return s.answerMachine(c, n, m)
	}
	v := s.snapshot(n)
	v.m = m
	return http.StatusOK, rawEntity{v.entry()}, nil
}

func (s *Simulator) machineGet(c *call) (int, any, error) {
	s.lock()
	defer s.unlock()
	n, m, err := s.findMachine(c, c.param(0))
	if err != nil {
		return 0, nil, err
	}
	return s.readMachine(c, n, m)
}

func (s *Simulator) firewallGet(c *call) (int, any, error) {
	s.lock()
	defer s.unlock()
	n, m, err := s.findMachine(c, c.param(0))
	if err != nil {
		return 0, nil, err
	}
	if m.alloc == nil || m.alloc.role != roleFirewall {
		return 0, nil, withStatus(http.StatusNotFound, errors.New("machine is not a firewall"))
	}
	return s.readMachine(c, n, m)
}

func (s *Simulator) machineList(c *call) (int, any, error) {
	return s.machinesMatching(c, "cannot list machines from database: ", nil)
}

// machineFind also finds firewalls (295).
func (s *Simulator) machineFind(c *call) (int, any, error) {
	q, err := decode[wire.MachineSearchQuery](c)
	if err != nil {
		return 0, nil, err
	}
	return s.machinesMatching(c, "cannot search machines in database: ", &q)
}

func (s *Simulator) firewallList(c *call) (int, any, error) {
	role := roleFirewall
	return s.machinesMatching(c, "cannot search machines in database: ", &wire.MachineSearchQuery{AllocationRole: &role})
}

func (s *Simulator) firewallFind(c *call) (int, any, error) {
	q, err := decode[wire.MachineSearchQuery](c)
	if err != nil {
		return 0, nil, err
	}
	role := roleFirewall
	q.AllocationRole = &role
	return s.machinesMatching(c, "cannot search machines in database: ", &q)
}

// machinesMatching answers a list. What it shows is as of a moment between
// reading the fleet's events and encoding the answer.
func (s *Simulator) machinesMatching(c *call, outage string, q *wire.MachineSearchQuery) (int, any, error) {
	c.spend(costFindBase + timesN(costFindPerMachine, s.Machines()))
	s.lock()
	down := c.down(backendRethinkDB)
	var hits []view
	if q != nil && q.ID != nil {
		if n, ok := s.machines[*q.ID]; ok && n.m != nil && matchMachine(q, n.m) {
			hits = append(hits, s.snapshot(n))
		}
	} else {
		for _, n := range s.order {
			if n.m != nil && (q == nil || matchMachine(q, n.m)) {
				hits = append(hits, s.snapshot(n))
			}
		}
	}
	s.rng.Shuffle(len(hits), func(i, j int) { hits[i], hits[j] = hits[j], hits[i] })
	s.unlock()
	if down {
		return 0, nil, errors.New(outage + rethinkdbDown)
	}
	perHit := costFindPerHit
	if q == nil {
		perHit = costListPerMachine
	}
	c.spend(timesN(perHit, len(hits)))
	if c.name == "machine-ipmi-find" {
		list := make([]*wire.Machine, 0, len(hits))
		for _, v := range hits {
			list = append(list, v.wire(true))
		}
		return http.StatusOK, list, nil
	}
	list := make(rawList, 0, len(hits))
	for _, v := range hits {
		list = append(list, v.entry())
	}
	return http.StatusOK, list, nil
}

func timesN(d time.Duration, n int) time.Duration { return d * time.Duration(n) }

// machineUpdate replaces tags, description or keys of an allocated machine;
// an empty list changes nothing (228-231).
func (s *Simulator) machineUpdate(c *call) (int, any, error) {
	req, err := decode[wire.MachineUpdateRequest](c)
	if err != nil {
		return 0, nil, err
	}
	s.lock()
	n, old, err := s.findMachine(c, req.ID)
	s.unlock()
	if err != nil {
		return 0, nil, err
	}
	if old.alloc == nil {
		return 0, nil, badRequest(errors.New("only allocated machines can be updated"))
	}
	c.phase("update", flatCost(c.name))
	s.lock()
	defer s.unlock()
	next, a := *old, *old.alloc
	next.alloc = &a
	if req.Description != nil {
		a.description = *req.Description
	}
	if len(req.Tags) > 0 {
		next.tags = s.machineTags(&next, req.Tags)
	}
	if len(req.SSHPubKeys) > 0 {
		a.sshKeys = req.SSHPubKeys
	}
	m, err := s.updateMachine(old, &next)
	if err != nil {
		return 0, nil, err
	}
	s.changed(c, m)
	return s.answerMachine(c, n, m)
}

// machineTags are the tags of an allocated machine: tags with a value are
// unique by key, the server's own win, and the order is lost (228, 233).
func (s *Simulator) machineTags(m *machine, given []string) []string {
	values := map[string]string{}
	set := map[string]bool{}
	for _, t := range given {
		if k, v, ok := strings.Cut(t, "="); ok {
			values[k] = v
		} else {
			set[t] = true
		}
	}
	for _, n := range m.alloc.networks {
		if n.Private && n.ASN != 0 {
			values[tag.MachineNetworkPrimaryASN] = strconv.FormatInt(n.ASN, 10)
			break
		}
	}
	if m.rack != "" {
		values[tag.MachineRack] = m.rack
	}
	if m.ipmi.FRU.ChassisPartSerial != "" {
		values[tag.MachineChassis] = m.ipmi.FRU.ChassisPartSerial
	}
	for k, v := range values {
		set[k+"="+v] = true
	}
	tags := make([]string, 0, len(set))
	for t := range set {
		tags = append(tags, t)
	}
	slices.Sort(tags)
	return s.shuffled(tags)
}

// machineState sets LOCKED, RESERVED or nothing (259-264).
func (s *Simulator) machineState(c *call) (int, any, error) {
	req, err := decode[wire.State](c)
	if err != nil {
		return 0, nil, err
	}
	switch req.Value {
	case stateTainted:
		req.Value = stateReserved
	case "", stateLocked, stateReserved:
	default:
		return 0, nil, badRequest(fmt.Errorf("unknown MachineState:%s", req.Value))
	}
	if req.Value != "" && req.Description == "" {
		return 0, nil, badRequest(errors.New("you must supply a description"))
	}
	s.lock()
	n, old, err := s.findMachine(c, c.param(0))
	s.unlock()
	if err != nil {
		return 0, nil, err
	}
	c.phase("update", flatCost(c.name))
	next := *old
	next.state = wire.State{Value: req.Value, Description: req.Description}
	if req.Value != "" {
		next.state.Issuer = c.user.email
	}
	s.lock()
	defer s.unlock()
	m, err := s.updateMachine(old, &next)
	if err != nil {
		return 0, nil, err
	}
	s.changed(c, m)
	return s.answerMachine(c, n, m)
}

// machineReinstall has an allocated machine installed again (268). The image is
// an exact one, of any feature, expired or not; an alias is unknown. With nsqd
// away the machine is marked all the same (2/089, 2/226, 2/246, 2/250).
func (s *Simulator) machineReinstall(c *call) (int, any, error) {
	req, err := decode[wire.MachineReinstallRequest](c)
	if err != nil {
		return 0, nil, err
	}
	s.lock()
	defer s.unlock()
	n, old, err := s.findMachine(c, c.param(0))
	if err != nil {
		return 0, nil, err
	}
	invalid := badRequest(errors.New("machine either locked, not allocated yet or invalid image ID specified"))
	if old.alloc == nil || old.state.Value == stateLocked {
		return 0, nil, invalid
	}
	if l := old.alloc.layout; l != nil && !slices.ContainsFunc(l.Disks, func(d wire.Disk) bool { return d.WipeOnReinstall }) {
		return 0, nil, fmt.Errorf("filesystemlayout:%s is not reinstallable, abort reinstallation", l.ID)
	}
	if req.ImageID == "" {
		return 0, nil, invalid
	}
	if _, ok := s.cat.images[req.ImageID]; !ok {
		return 0, nil, fmt.Errorf("error finding image %q for machine %q: %w", req.ImageID, n.id, notFound("no image with id %q found", req.ImageID))
	}
	next, a := *old, *old.alloc
	next.alloc = &a
	a.reinstall, a.image = true, req.ImageID
	// the answer is made before the machine is stored and shows the old times
	status, answer, err := s.answerMachine(c, n, &next)
	if err != nil {
		return 0, nil, err
	}
	if _, err := s.updateMachine(old, &next); err != nil {
		return 0, nil, err
	}
	if c.down(backendNSQ) {
		return 0, nil, errors.New("cannot publish delete event: " + nsqDown)
	}
	// It is reset without an event, so that its next event is unexpected (2/239, 2/241).
	n.crashes, n.netBoot = false, true
	s.boot(n, s.clock.Now(), stepReclaim)
	return status, answer, nil
}

func (s *Simulator) machineConsolePassword(c *call) (int, any, error) {
	req, err := decode[wire.MachineConsolePasswordRequest](c)
	if err != nil {
		return 0, nil, err
	}
	s.lock()
	defer s.unlock()
	if len(req.Reason) < s.reasonLength {
		return 0, nil, badRequest(fmt.Errorf("reason must be at least %d characters long", s.reasonLength))
	}
	_, m, err := s.findMachine(c, req.ID)
	if err != nil {
		return 0, nil, err
	}
	if m.alloc == nil {
		return 0, nil, errors.New("machine is not allocated, no consolepassword present")
	}
	return http.StatusOK, &wire.ConsolePassword{ID: m.id, ConsolePassword: m.alloc.consolePassword}, nil
}

// machineDelete takes a dead machine out of the inventory (240, 329).
func (s *Simulator) machineDelete(c *call) (int, any, error) {
	s.lock()
	defer s.unlock()
	n, m, err := s.findMachine(c, c.param(0))
	if err != nil {
		return 0, nil, err
	}
	if m.alloc != nil {
		return 0, nil, errors.New("cannot delete machine that is allocated")
	}
	if n.ec != nil && n.ec.liveliness != livelinessDead {
		//nolint:revive,staticcheck // the metal-api's own words
		return 0, nil, errors.New("can only delete dead machines, if you power off this machine it will reach dead state.")
	}
	s.dropNode(n)
	return s.answerMachine(c, n, m)
}

func (s *Simulator) dropNode(n *node) {
	n.m = nil
	n.generation++
	delete(s.machines, n.id)
	delete(s.quiet, n)
	s.order = slices.DeleteFunc(s.order, func(o *node) bool { return o == n })
}
