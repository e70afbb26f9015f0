// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

func (s *Simulator) networkAllocate(c *call) (int, any, error) {
	req, err := decode[wire.NetworkAllocateRequest](c)
	if err != nil {
		return 0, nil, err
	}
	projectID, partitionID := deref(req.ProjectID), deref(req.PartitionID)
	if projectID == "" {
		return 0, nil, badRequest(errors.New("projectid should not be empty"))
	}
	if partitionID == "" {
		return 0, nil, badRequest(errors.New("partitionid should not be empty"))
	}
	c.phase("project", costNetworkProject)
	if _, err := s.masterdataProject(c, projectID); err != nil {
		return 0, nil, err
	}
	super, lengths, err := s.childSpec(c, partitionID, &req)
	if err != nil {
		return 0, nil, err
	}
	c.spend(costNetworkSpec)

	// From here on whatever was taken stays taken when a later step fails:
	// the VRF, and the prefix of the first address family.
	s.lock()
	vrf, ok := s.vrfs.acquire()
	s.unlock()
	if !ok {
		return 0, nil, errors.New("could not acquire a vrf: no integer left")
	}
	var prefixes []string
	for _, af := range s.familyOrder() {
		length, ok := lengths[af]
		if !ok {
			continue
		}
		c.phase("prefix", costNetworkPrefix)
		p, err := s.childPrefix(c, super, af, length)
		if err != nil {
			return 0, nil, err
		}
		prefixes = append(prefixes, p)
	}
	c.phase("store", costNetworkStore)
	s.lock()
	n := s.createNetwork(&network{
		name: deref(req.Name), description: deref(req.Description),
		partition: partitionID, project: projectID, parent: super.id,
		labels: maps.Clone(req.Labels), prefixes: prefixes, destinations: req.DestinationPrefixes,
		vrf: vrf, nat: deref(req.Nat), shared: deref(req.Shared),
		networkType: childType(deref(req.Shared)), nat2: natType(deref(req.Nat)),
	})
	s.record(Operation{Verb: "allocate", Kind: "network", ID: n.id, Project: n.project, Labels: n.labels, By: c.user.name})
	s.unlock()

	c.phase("usage", costNetworkUsage)
	if c.gone() {
		return 0, nil, fmt.Errorf("prefix usage for cidr:%s not found canceled: %w", prefixes[0], errCanceled)
	}
	s.lock()
	defer s.unlock()
	return s.answerNetwork(c, http.StatusCreated, n)
}

// familyOrder is the order in which a dual-stack child gets its prefixes, and
// later gives them back. In life either comes first. Here IPv4 does unless
// Pick wants IPv6: which one is first decides what a network is like that is
// freed half way (513-520).
func (s *Simulator) familyOrder() []string {
	if s.cfg.Pick != nil && s.cfg.Pick([]string{ipv4, ipv6}) == ipv6 {
		return []string{ipv6, ipv4}
	}
	return []string{ipv4, ipv6}
}

// childSpec finds the super network of a partition and which prefix lengths a
// child of it is to get.
func (s *Simulator) childSpec(c *call, partitionID string, req *wire.NetworkAllocateRequest) (*network, map[string]int, error) {
	s.lock()
	defer s.unlock()
	if c.down(backendRethinkDB) {
		return nil, nil, fmt.Errorf("cannot find partition with id %q in database: %s", partitionID, rethinkdbDown)
	}
	if _, ok := s.cat.partitions[partitionID]; !ok {
		return nil, nil, notFound("no partition with id %q found", partitionID)
	}
	for _, p := range req.DestinationPrefixes {
		if _, err := netip.ParsePrefix(p); err != nil {
			return nil, nil, badRequest(fmt.Errorf("given prefix %v is not a valid ip with mask: given cidr %v is not a valid ip with mask: %w", p, p, err))
		}
	}
	super := s.superOf(partitionID)
	if super == nil {
		return nil, nil, notFound("no network found")
	}
	lengths := maps.Clone(super.childLengths)
	for name, l := range req.Length {
		af, err := addressFamily(name)
		if err != nil {
			return nil, nil, badRequest(fmt.Errorf("addressfamily of length is invalid %w", err))
		}
		lengths[af] = int(l)
	}
	if req.AddressFamily != nil {
		af, err := addressFamily(*req.AddressFamily)
		if err != nil {
			return nil, nil, badRequest(fmt.Errorf("addressfamily is invalid %w", err))
		}
		l, ok := lengths[af]
		if !ok {
			return nil, nil, badRequest(fmt.Errorf("addressfamily %s specified, but no childprefixlength for this addressfamily", *req.AddressFamily))
		}
		lengths = map[string]int{af: l}
	}
	return super, lengths, nil
}

func (s *Simulator) superOf(partition string) *network {
	for _, id := range s.netOrder {
		if n := s.networks[id]; n.super && n.partition == partition {
			return n
		}
	}
	return nil
}

func (s *Simulator) childPrefix(c *call, super *network, af string, length int) (string, error) {
	s.lock()
	defer s.unlock()
	var failures []error
	for _, parent := range super.prefixes {
		if familyOf(parent) != af {
			continue
		}
		var p string
		var err error
		switch {
		case c.gone():
			err = fmt.Errorf("canceled: %w", errCanceled)
		case c.down(backendIPAM):
			err = errors.New(ipamDown)
		default:
			p, err = s.ipam.acquireChild(parent, length)
		}
		if err == nil {
			return p, nil
		}
		if ie := (*ipamError)(nil); errors.As(err, &ie) && ie.code == ipamNotFound {
			continue
		}
		failures = append(failures, fmt.Errorf("error creating new prefix from:%s in ipam: %w", parent, err))
	}
	if len(failures) > 0 {
		return "", fmt.Errorf("cannot allocate free child prefix in ipam: %w", errors.Join(failures...))
	}
	return "", fmt.Errorf("cannot allocate free child prefix in one of the given parent prefixes in ipam: %v", super.prefixes)
}

func childType(shared bool) string {
	if shared {
		return "child-shared"
	}
	return "child"
}

func natType(nat bool) string {
	if nat {
		return "ipv4-masq"
	}
	return "none"
}

// networkFree frees prefix by prefix, each for good (docs/metal-api.md, Q50).
func (s *Simulator) networkFree(c *call) (int, any, error) {
	c.phase("read", time.Millisecond)
	s.lock()
	n, err := s.findNetwork(c, c.param(0))
	s.unlock()
	if err != nil {
		return 0, nil, err
	}
	for _, p := range n.prefixes {
		c.phase("prefix", 3*time.Millisecond)
		s.lock()
		err := s.releasePrefix(c, p)
		s.unlock()
		if err != nil {
			return 0, nil, err
		}
	}
	c.phase("store", 3*time.Millisecond)
	s.lock()
	defer s.unlock()
	if n.vrf != 0 {
		s.vrfs.release(n.vrf)
	}
	s.deleteNetwork(n.id)
	s.record(Operation{Verb: "free", Kind: "network", ID: n.id, Project: n.project, Labels: n.labels, By: c.user.name})
	w := bareNetwork(n)
	return http.StatusOK, w, nil
}

func (s *Simulator) releasePrefix(c *call, p string) error {
	var err error
	switch {
	case c.gone():
		err = fmt.Errorf("canceled: %w", errCanceled)
	case c.down(backendIPAM):
		err = errors.New(ipamDown)
	default:
		err = s.ipam.releaseChild(p)
	}
	if err != nil {
		return fmt.Errorf("error releasing child prefix in ipam: %w", err)
	}
	return nil
}
