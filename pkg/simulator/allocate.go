// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"time"

	"golang.org/x/crypto/ssh"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

// spec is an allocation request whose names have been looked up.
type spec struct {
	req       wire.MachineAllocateRequest
	role      string
	creator   string
	image     *wire.Image
	size      *wire.Size
	partition *wire.Partition
	machine   *machine // named by its id
	rules     *wire.FirewallRules
	dns       []wire.DNSServer
	ntp       []wire.NTPServer
}

func (s *Simulator) machineAllocate(c *call) (int, any, error) {
	req, err := decode[wire.MachineAllocateRequest](c)
	if err != nil {
		return 0, nil, err
	}
	return s.allocate(c, req, roleMachine, nil)
}

func (s *Simulator) firewallAllocate(c *call) (int, any, error) {
	req, err := decode[wire.FirewallCreateRequest](c)
	if err != nil {
		return 0, nil, err
	}
	rules := req.FirewallRules
	if rules == nil {
		rules = &wire.FirewallRules{}
	}
	return s.allocate(c, req.MachineAllocateRequest, roleFirewall, rules)
}

// allocate goes through the phases of an allocation. Nothing makes them one
// transaction: the lock, the candidate, the addresses and the machine are
// taken one after the other, a caller who goes away is noticed in some phases
// only, and the clean-up of what failed comes later (docs/metal-api.md, Q33, Q35 and Q36).
func (s *Simulator) allocate(c *call, req wire.MachineAllocateRequest, role string, rules *wire.FirewallRules) (int, any, error) {
	c.phase("spec", costAllocateSpec)
	s.lock()
	sp, err := s.specOf(c, req, role, rules)
	s.unlock()
	if err != nil {
		return 0, nil, badRequest(err)
	}
	if err := sp.validate(); err != nil {
		return 0, nil, err
	}
	s.lock()
	err = s.cat.checkConstraint(sp.size.ID, sp.image.ID)
	s.unlock()
	if err != nil {
		return 0, nil, err
	}
	c.phase("project", costAllocateProject)
	p, err := s.masterdataProject(c, req.ProjectID)
	if err != nil {
		return 0, nil, err
	}
	if err := s.checkQuota(p); err != nil {
		return 0, nil, err
	}
	layout, err := s.chooseLayout(sp)
	if err != nil {
		return 0, nil, err
	}
	c.spend(costAllocateLayout)

	candidate, err := s.candidate(c, sp)
	if err != nil {
		return 0, nil, err
	}
	a := &allocation{
		uuid: "", creator: sp.creator, created: s.instant(), name: deref(req.Name), description: deref(req.Description),
		hostname: "metal", project: req.ProjectID, image: sp.image.ID, userData: deref(req.UserData), role: role,
		sshKeys: req.SSHPubKeys, layout: layout, dns: sp.dns, ntp: sp.ntp,
	}
	if req.Hostname != nil {
		a.hostname = *req.Hostname
	}
	if r := sp.rules; r != nil && len(r.Egress)+len(r.Ingress) > 0 {
		a.rules = r
	}
	m, err := s.furnish(c, sp, candidate, a)
	if err != nil {
		s.rollBack(candidate, a)
		return 0, nil, err
	}
	c.phase("answer", costAllocateAnswer)
	s.lock()
	defer s.unlock()
	return s.answerMachine(c, s.machines[m.id], m)
}

// furnish gives the candidate networks, addresses and the allocation.
func (s *Simulator) furnish(c *call, sp *spec, candidate *machine, a *allocation) (*machine, error) {
	s.lock()
	a.uuid = s.newUUID()
	s.unlock()
	if err := fits(a.layout, candidate.hardware); err != nil {
		return nil, fmt.Errorf("unable to check for fsl match:%w", err)
	}
	c.phase("gather", costAllocateGather)
	s.lock()
	networks, err := s.gatherNetworks(c, sp)
	s.unlock()
	if err != nil {
		return nil, fmt.Errorf("unable to gather networks:%w", err)
	}
	c.phase("networks", costAllocateNetworks)
	if err := s.makeNetworks(c, sp, candidate, networks, a); err != nil {
		return nil, fmt.Errorf("unable to make networks:%w", err)
	}

	s.lock()
	_, current, err := s.findMachine(c, candidate.id)
	s.unlock()
	if err != nil {
		return nil, fmt.Errorf("unable to find machine:%w", err)
	}
	if current.alloc != nil {
		return nil, fmt.Errorf("machine %q already allocated", current.id)
	}
	c.phase("commit", costAllocateCommit)
	s.lock()
	defer s.unlock()
	next := *current
	next.alloc, next.preallocated = a, false
	next.tags = s.machineTags(&next, sp.req.Tags)
	m, err := s.updateMachine(current, &next)
	if err != nil {
		return nil, fmt.Errorf("error when allocating machine %q, %w", current.id, err)
	}
	s.record(Operation{Verb: "allocate", Kind: a.role, ID: m.id, AllocationUUID: a.uuid, Project: a.project, Tags: m.tags, By: c.user.name})
	n := s.machines[m.id]
	n.crashes = false
	s.at(s.clock.Now().Add(s.noticeDelay()), func(now time.Time) { s.noticed(n, a.uuid, now) })
	return m, nil
}

// dnsName is what an NTP server may be called.
var dnsName = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_-]{0,62}(\.[a-zA-Z0-9_][a-zA-Z0-9_-]{0,62})*[._]?$`)

// specOf looks up what a request names. All its errors are 400 (170-181).
func (s *Simulator) specOf(c *call, req wire.MachineAllocateRequest, role string, rules *wire.FirewallRules) (*spec, error) {
	sp := &spec{req: req, role: role, creator: c.user.email}
	if req.Networks == nil {
		return nil, errors.New("network ids cannot be nil")
	}
	if len(req.Networks) == 0 {
		return nil, errors.New("network ids cannot be empty")
	}
	var err error
	if sp.image, err = s.resolveImage(c, req.ImageID); err != nil {
		return nil, err
	}
	if sp.rules, err = checkRules(rules); err != nil {
		return nil, err
	}
	if !hasFeature(sp.image, role) {
		return nil, fmt.Errorf("given image is not usable for a %s, features: %s", role, featureString(sp.image))
	}
	id, partition, size := deref(req.UUID), req.PartitionID, req.SizeID
	if id == "" && partition == "" {
		return nil, errors.New("when no machine id is given, a partition id must be specified")
	}
	if id == "" && size == "" {
		return nil, errors.New("when no machine id is given, a size id must be specified")
	}
	if id != "" {
		_, m, err := s.findMachine(c, id)
		if err != nil {
			return nil, fmt.Errorf("uuid given but no machine found with uuid:%s err:%w", id, err)
		}
		sp.machine, partition, size = m, m.partition, m.size
	}
	var ok bool
	if sp.size, ok = s.cat.sizes[size]; !ok {
		return nil, fmt.Errorf("size:%s not found err:%w", size, notFound("no size with id %q found", size))
	}
	if sp.partition, ok = s.cat.partitions[partition]; !ok {
		return nil, fmt.Errorf("partition:%s not found err:%w", partition, notFound("no partition with id %q found", partition))
	}
	sp.dns, sp.ntp = sp.partition.DNSServers, sp.partition.NTPServers
	if len(req.DNSServers) > 0 {
		sp.dns = req.DNSServers
	}
	if len(req.NTPServers) > 0 {
		sp.ntp = req.NTPServers
	}
	if len(sp.dns) > 3 {
		return nil, errors.New("please specify a maximum of three dns servers")
	}
	for _, d := range sp.dns {
		if _, err := netip.ParseAddr(d.IP); err != nil {
			return nil, fmt.Errorf("ip: %s for dns server not correct err: %w", d, err)
		}
	}
	if len(sp.ntp) > 5 {
		return nil, errors.New("please specify a maximum of five ntp servers")
	}
	for _, n := range sp.ntp {
		if net.ParseIP(n.Address) == nil && !dnsName.MatchString(n.Address) {
			return nil, fmt.Errorf("dns name: %s for ntp server not correct", n)
		}
	}
	return sp, nil
}

// validate checks what needs no look-up. Its errors are 422 (178, 190-192).
func (sp *spec) validate() error {
	if sp.req.ProjectID == "" {
		return errors.New("project id must be specified")
	}
	for _, i := range sp.req.IPs {
		if net.ParseIP(i) == nil {
			return fmt.Errorf("%q is not a valid IP address", i)
		}
	}
	for _, k := range sp.req.SSHPubKeys {
		if _, _, _, _, err := ssh.ParseAuthorizedKey([]byte(k)); err != nil {
			return fmt.Errorf("invalid public SSH key: %s error:%w", k, err)
		}
	}
	auto, manual := 0, 0
	for _, n := range sp.req.Networks {
		if n.AutoAcquireIP == nil || *n.AutoAcquireIP {
			auto++
		} else {
			manual++
		}
	}
	if sp.role == roleFirewall && len(sp.req.IPs) == 0 && auto == 0 {
		return errors.New("when no ip is given at least one auto acquire network must be specified")
	}
	if manual > len(sp.req.IPs) {
		return errors.New("missing ip(s) for network(s) without automatic ip allocation")
	}
	return nil
}

// checkQuota compares a quota with the project's firewalls: machines are not
// counted (321-323).
func (s *Simulator) checkQuota(p *project) error {
	s.lock()
	defer s.unlock()
	quota, ok := s.machineQuota(p)
	if !ok {
		return nil
	}
	firewalls := 0
	for _, n := range s.order {
		if n.m != nil && n.m.alloc != nil && n.m.alloc.project == p.Meta.ID && n.m.alloc.role == roleFirewall {
			firewalls++
		}
	}
	if firewalls >= quota {
		return fmt.Errorf("project quota for machines reached max:%d", quota)
	}
	return nil
}

func (s *Simulator) chooseLayout(sp *spec) (*wire.FilesystemLayout, error) {
	s.lock()
	defer s.unlock()
	if sp.req.FilesystemLayoutID == nil {
		return s.layoutFor(sp.size.ID, sp.image.ID)
	}
	for _, l := range s.cat.layouts {
		if l.ID == *sp.req.FilesystemLayoutID {
			return l, nil
		}
	}
	return nil, notFound("no filesystemlayout with id %q found", *sp.req.FilesystemLayoutID)
}

// fits says whether a layout's disks are there and big enough (195).
func fits(l *wire.FilesystemLayout, h *wire.Hardware) error {
	have := map[string]uint64{}
	for _, d := range h.Disks {
		have[d.Name] = d.Size / (1 << 20)
	}
	for _, d := range l.Disks {
		var need uint64
		for _, p := range d.Partitions {
			need += p.Size
		}
		size, ok := have[d.Device]
		if !ok {
			return fmt.Errorf("device:%s does not exist on given hardware", d.Device)
		}
		if size < need {
			return fmt.Errorf("device:%s is not big enough required:%dMiB, existing:%dMiB", d.Device, need, size)
		}
	}
	return nil
}

// rollBack is what the metal-api does after a failure behind the choice of a
// machine: it has the addresses that carry the machine's id cleaned up, all of
// them and later, and puts the candidate back unless another call has changed it.
func (s *Simulator) rollBack(candidate *machine, a *allocation) {
	s.lock()
	defer s.unlock()
	s.cleanUp(candidate.id, a.networks)
	next := *candidate
	next.alloc, next.tags, next.preallocated = nil, nil, false
	_, _ = s.updateMachine(candidate, &next)
}
