// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/metal-stack/metal-lib/pkg/tag"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

func ipWire(i *ip) *wire.IP {
	return &wire.IP{
		Name: i.name, Description: i.description, ProjectID: i.project, NetworkID: i.network, Type: i.typ,
		Tags: orNone(i.tags), IPAddress: i.address, AllocationUUID: i.uuid, Created: i.created, Changed: i.changed,
	}
}

// machineTag is how an address carries the machine that has it (234).
func machineTag(machine string) string { return tag.MachineID + "=" + machine }

// machinesOf are the machines that an address carries.
func (i *ip) machinesOf() []string {
	var ids []string
	for _, t := range i.tags {
		if id, ok := strings.CutPrefix(t, tag.MachineID+"="); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// machineScope says whether an address belongs to a machine rather than to a
// project (154, 236).
func (i *ip) machineScope() bool {
	return i.project != "" && slices.ContainsFunc(i.tags, func(t string) bool { return strings.HasPrefix(t, tag.MachineID) })
}

// uniqueSorted is what becomes of an address' tags (114, 147).
func uniqueSorted(tags []string) []string {
	t := slices.Clone(tags)
	slices.Sort(t)
	return slices.Compact(t)
}

func (s *Simulator) ipGet(c *call) (int, any, error) {
	s.lock()
	defer s.unlock()
	i, err := s.findIP(c, c.param(0))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, ipWire(i), nil
}

func (s *Simulator) ipList(c *call) (int, any, error) {
	return s.ipsMatching(c, "cannot list ips from database: ", func(*ip) bool { return true })
}

func (s *Simulator) ipFind(c *call) (int, any, error) {
	q, err := decode[wire.IPSearchQuery](c)
	if err != nil {
		return 0, nil, err
	}
	if q.AddressFamily != nil {
		af, err := addressFamily(*q.AddressFamily)
		if err != nil {
			return 0, nil, err
		}
		q.AddressFamily = &af
	}
	return s.ipsMatching(c, "cannot search ips in database: ", func(i *ip) bool { return matchIP(&q, i) })
}

func (s *Simulator) ipsMatching(c *call, outage string, match func(*ip) bool) (int, any, error) {
	s.lock()
	all := len(s.ipOrder)
	down := c.down(backendRethinkDB)
	list := []*wire.IP{}
	for _, a := range s.shuffled(s.ipOrder) {
		if i := s.ips[a]; match(i) {
			list = append(list, ipWire(i))
		}
	}
	s.unlock()
	c.spend(costIPFindBase + time.Duration(all)*costIPFindPer)
	if down {
		return 0, nil, errors.New(outage + rethinkdbDown)
	}
	return http.StatusOK, list, nil
}

func matchIP(q *wire.IPSearchQuery, i *ip) bool {
	for _, t := range q.Tags {
		if !slices.Contains(i.tags, t) {
			return false
		}
	}
	if q.MachineID != nil && !slices.Contains(i.tags, machineTag(*q.MachineID)) {
		return false
	}
	if q.AddressFamily != nil && familyOf(i.prefix) != *q.AddressFamily {
		return false
	}
	return is(q.IPAddress, i.address) && is(q.AllocationUUID, i.uuid) && is(q.Name, i.name) &&
		is(q.ParentPrefixCidr, i.prefix) && is(q.NetworkID, i.network) && is(q.ProjectID, i.project) && is(q.Type, i.typ)
}

func (s *Simulator) ipAllocate(c *call) (int, any, error) {
	specific := c.param(0)
	req, err := decode[wire.IPAllocateRequest](c)
	if err != nil {
		return 0, nil, err
	}
	n, err := s.ipNetwork(c, &req, specific)
	if err != nil {
		return 0, nil, err
	}
	c.phase("project", costIPProject)
	if _, err := s.masterdataProject(c, req.ProjectID); err != nil {
		return 0, nil, err
	}
	// external networks serve every project
	if !n.shared && n.parent != "" && req.ProjectID != n.project {
		return 0, nil, fmt.Errorf("can not allocate ip for project %q because network belongs to %q and the network is not shared", req.ProjectID, n.project)
	}
	tags := req.Tags
	if req.MachineID != nil {
		tags = append(tags, machineTag(*req.MachineID))
	}
	c.phase("ipam", costIPAcquire)
	s.lock()
	var address, cidr string
	if specific == "" {
		address, cidr, err = s.randomIP(c, n, req.AddressFamily)
	} else {
		address, cidr, err = s.specificIP(c, n, specific)
	}
	s.unlock()
	if err != nil {
		return 0, nil, err
	}
	typ := typeEphemeral
	if req.Type == typeStatic {
		typ = typeStatic
	}
	c.phase("store", costIPStore)
	s.lock()
	defer s.unlock()
	i, err := s.createIP(&ip{
		address: address, prefix: cidr, network: n.id, project: req.ProjectID,
		name: deref(req.Name), description: deref(req.Description), typ: typ, tags: uniqueSorted(tags),
	})
	if err != nil {
		return 0, nil, err
	}
	s.record(Operation{Verb: "allocate", Kind: "ip", ID: i.address, AllocationUUID: i.uuid, Project: i.project, Tags: i.tags, By: c.user.name})
	return http.StatusCreated, ipWire(i), nil
}

// ipNetwork checks what an address is asked for from.
func (s *Simulator) ipNetwork(c *call, req *wire.IPAllocateRequest, specific string) (*network, error) {
	if req.NetworkID == "" {
		return nil, badRequest(errors.New("networkid should not be empty"))
	}
	if req.ProjectID == "" {
		return nil, badRequest(errors.New("projectid should not be empty"))
	}
	s.lock()
	defer s.unlock()
	n, err := s.findNetwork(c, req.NetworkID)
	if err != nil {
		return nil, err
	}
	if name := req.AddressFamily; name != nil {
		af, err := addressFamily(*name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(families(n.prefixes), af) {
			return nil, badRequest(fmt.Errorf("there is no prefix for the given addressfamily:%s present in network:%s", *name, n.id))
		}
		req.AddressFamily = &af
		if specific != "" {
			return nil, badRequest(errors.New("it is not possible to specify specificIP and addressfamily"))
		}
	}
	return n, nil
}

// randomIP takes the lowest free address of a network: IPv4 unless asked
// otherwise or there is none (113).
func (s *Simulator) randomIP(c *call, n *network, af *string) (address, cidr string, err error) {
	family := ipv4
	if af != nil {
		family = *af
	} else if f := families(n.prefixes); len(f) == 1 {
		family = f[0]
	}
	for _, p := range n.prefixes {
		if familyOf(p) != family {
			continue
		}
		if err := c.ipamFails(p); err != nil {
			return "", "", err
		}
		a, err := s.ipam.acquire(p)
		if err == nil {
			return a, p, nil
		}
		if ie := (*ipamError)(nil); errors.As(err, &ie) && ie.code == ipamNotFound {
			continue
		}
		return "", "", fmt.Errorf("cannot allocate ip in prefix %s in ipam: %w", p, err)
	}
	return "", "", internal("cannot allocate free ip in ipam, no ips left")
}

func (s *Simulator) specificIP(c *call, n *network, specific string) (address, cidr string, err error) {
	addr, err := netip.ParseAddr(specific)
	if err != nil {
		return "", "", fmt.Errorf("unable to parse specific ip: %w", err)
	}
	for _, p := range n.prefixes {
		if parsed, err := netip.ParsePrefix(p); err != nil || !parsed.Contains(addr) {
			continue
		}
		if err := c.ipamFails(p); err != nil {
			return "", "", err
		}
		a, err := s.ipam.acquireSpecific(p, specific)
		if ie := (*ipamError)(nil); errors.As(err, &ie) && ie.code == ipamAlreadyExists {
			return "", "", conflict("ip already allocated")
		}
		if err != nil {
			return "", "", fmt.Errorf("cannot allocate ip in prefix %s in ipam: %w", p, err)
		}
		return a, p, nil
	}
	return "", "", errors.New("specific ip not contained in any of the defined prefixes")
}

// ipamFails is the error of a call to the ipam that does not get through.
func (c *call) ipamFails(prefix string) error {
	switch {
	case c.gone():
		return fmt.Errorf("cannot allocate ip in prefix %s in ipam: canceled: %w", prefix, errCanceled)
	case c.down(backendIPAM):
		return fmt.Errorf("cannot allocate ip in prefix %s in ipam: %s", prefix, ipamDown)
	}
	return nil
}

func (s *Simulator) ipFree(c *call) (int, any, error) {
	c.phase("read", time.Millisecond)
	s.lock()
	i, err := s.findIP(c, c.param(0))
	s.unlock()
	if err != nil {
		return 0, nil, err
	}
	if i.machineScope() {
		return 0, nil, badRequest(errors.New("ip with machine scope can not be deleted"))
	}
	c.phase("store", 6*time.Millisecond)
	s.lock()
	defer s.unlock()
	if c.down(backendIPAM) {
		s.deleteIP(i.address)
		s.record(Operation{Verb: "free", Kind: "ip", ID: i.address, AllocationUUID: i.uuid, Project: i.project, Tags: i.tags, By: c.user.name})
		return 0, nil, fmt.Errorf("cannot release IP: error release ip %s in prefix %s: %s", i.address, i.prefix, ipamDown)
	}
	s.releaseIP(i, c.user.name)
	return http.StatusOK, ipWire(i), nil
}

// releaseIP lets an address go unless it has come to a machine meanwhile.
func (s *Simulator) releaseIP(i *ip, by string) {
	if current, ok := s.ips[i.address]; ok {
		if len(current.machinesOf()) > 0 {
			return
		}
		s.deleteIP(i.address)
		s.record(Operation{Verb: "free", Kind: "ip", ID: i.address, AllocationUUID: current.uuid, Project: i.project, Tags: current.tags, By: by})
	}
	s.ipam.release(i.prefix, i.address)
}

func (s *Simulator) ipUpdate(c *call) (int, any, error) {
	req, err := decode[wire.IPUpdateRequest](c)
	if err != nil {
		return 0, nil, err
	}
	s.lock()
	old, err := s.findIP(c, req.IPAddress)
	s.unlock()
	if err != nil {
		return 0, nil, err
	}
	next := *old
	if req.Name != nil {
		next.name = *req.Name
	}
	if req.Description != nil {
		next.description = *req.Description
	}
	if req.Tags != nil {
		next.tags = req.Tags
	}
	if req.Type == typeStatic || req.Type == typeEphemeral {
		next.typ = req.Type
	}
	if old.typ == typeStatic && next.typ == typeEphemeral {
		return 0, nil, badRequest(errors.New("cannot change type of ip address from static to ephemeral"))
	}
	next.tags = uniqueSorted(next.tags)
	c.phase("update", flatCost(c.name))
	s.lock()
	defer s.unlock()
	updated, err := s.updateIP(old, &next)
	if err != nil {
		return 0, nil, err
	}
	s.record(Operation{Verb: "update", Kind: "ip", ID: updated.address, AllocationUUID: updated.uuid, Project: updated.project, Tags: updated.tags, By: c.user.name})
	return http.StatusOK, ipWire(updated), nil
}
