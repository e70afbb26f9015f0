// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

func (s *Simulator) networkUpdate(c *call) (int, any, error) {
	req, err := decode[wire.NetworkUpdateRequest](c)
	if err != nil {
		return 0, nil, err
	}
	force := c.query("force") == "true"
	s.lock()
	old, err := s.findNetwork(c, req.ID)
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
	if req.Labels != nil {
		next.labels = req.Labels
	}
	if req.Shared != nil {
		next.shared = *req.Shared
	}
	if old.shared && !next.shared {
		return 0, nil, badRequest(errors.New("once a network is marked as shared it is not possible to unshare it"))
	}
	s.lock()
	err = s.updatePrefixes(&req, old, &next)
	s.unlock()
	if err != nil {
		return 0, nil, err
	}
	for _, cidr := range old.announcable {
		if !force && !slices.Contains(req.AdditionalAnnouncableCIDRs, cidr) {
			return 0, nil, badRequest(fmt.Errorf("you cannot remove %q from additionalannouncablecidrs without force flag set", cidr))
		}
	}
	next.announcable = req.AdditionalAnnouncableCIDRs
	c.phase("update", flatCost(c.name))
	s.lock()
	defer s.unlock()
	updated, err := s.updateNetwork(old, &next)
	if err != nil {
		return 0, nil, err
	}
	s.record(Operation{Verb: "update", Kind: "network", ID: updated.id, Project: updated.project, Labels: updated.labels, By: c.user.name})
	return s.answerNetwork(c, http.StatusOK, updated)
}

// updatePrefixes checks and makes the changes that only an operator makes. As
// in life the ipam has its share before the last checks.
func (s *Simulator) updatePrefixes(req *wire.NetworkUpdateRequest, old, next *network) error {
	if len(req.DefaultChildPrefixLength) > 0 && !old.super {
		return errors.New("defaultchildprefixlength can only be set on privatesuper")
	}
	for _, p := range slices.Concat(req.Prefixes, req.DestinationPrefixes) {
		if _, err := netip.ParsePrefix(p); err != nil {
			return err
		}
	}
	if len(req.Prefixes) > 0 {
		next.prefixes = req.Prefixes
	}
	gone := subtract(old.prefixes, next.prefixes)
	if err := s.prefixesInUse("update", gone); err != nil {
		return err
	}
	if len(req.DestinationPrefixes) > 0 {
		next.destinations = req.DestinationPrefixes
		for _, af := range families(next.destinations) {
			if !slices.Contains(families(next.prefixes), af) {
				return badRequest(fmt.Errorf("addressfamily:%s of destination prefixes is not present in existing prefixes", af))
			}
		}
	}
	if len(req.DefaultChildPrefixLength) > 0 {
		for af, l := range req.DefaultChildPrefixLength {
			if !slices.Contains(families(next.prefixes), af) {
				return fmt.Errorf("no addressfamily %q present for defaultchildprefixlength: %d", af, l)
			}
		}
		next.childLengths = req.DefaultChildPrefixLength
	}
	for _, p := range gone {
		if err := s.ipam.delete(p); err != nil {
			return err
		}
	}
	for _, p := range subtract(next.prefixes, old.prefixes) {
		if err := s.ipam.create(p, ""); err != nil {
			return err
		}
	}
	return checkAnnouncable(req.AdditionalAnnouncableCIDRs, old.super)
}

func checkAnnouncable(cidrs []string, super bool) error {
	if len(cidrs) > 0 && !super {
		return errors.New("additionalannouncablecidrs can only be set in a private super network")
	}
	for _, cidr := range cidrs {
		if _, err := netip.ParsePrefix(cidr); err != nil {
			return fmt.Errorf("given cidr:%q in additionalannouncablecidrs is malformed:%w", cidr, err)
		}
	}
	return nil
}

// subtract is what of a is not in b.
func subtract(a, b []string) (left []string) {
	for _, p := range a {
		if !slices.Contains(b, p) {
			left = append(left, p)
		}
	}
	return left
}

// prefixesInUse refuses to do something to prefixes in which an address is.
func (s *Simulator) prefixesInUse(verb string, prefixes []string) error {
	for _, address := range s.ipOrder {
		if i := s.ips[address]; slices.Contains(prefixes, i.prefix) {
			return fmt.Errorf("unable to %s network: prefix %s has ip %s in use", verb, i.prefix, i.address)
		}
	}
	return nil
}

func (s *Simulator) networkDelete(c *call) (int, any, error) {
	s.lock()
	defer s.unlock()
	n, err := s.findNetwork(c, c.param(0))
	if err != nil {
		return 0, nil, err
	}
	for _, o := range s.networks {
		if o.parent == n.id {
			return 0, nil, errors.New("network cannot be deleted because there are children of this network")
		}
	}
	if err := s.prefixesInUse("delete", n.prefixes); err != nil {
		return 0, nil, err
	}
	for _, p := range n.prefixes {
		if err := s.ipam.delete(p); err != nil {
			return 0, nil, err
		}
	}
	if n.vrf != 0 {
		s.vrfs.release(n.vrf)
	}
	s.deleteNetwork(n.id)
	return http.StatusOK, bareNetwork(n), nil
}

// networkCreate is how an operator makes super and external networks.
func (s *Simulator) networkCreate(c *call) (int, any, error) {
	req, err := decode[wire.NetworkCreateRequest](c)
	if err != nil {
		return 0, nil, err
	}
	if len(req.Prefixes) == 0 {
		return 0, nil, badRequest(errors.New("no prefixes given"))
	}
	s.lock()
	defer s.unlock()
	if _, taken := s.networks[deref(req.ID)]; taken {
		return 0, nil, withStatus(http.StatusConflict, errors.New("entity already exists"))
	}
	if p := req.PartitionID; p != nil {
		if _, ok := s.cat.partitions[*p]; !ok {
			return 0, nil, notFound("no partition with id %q found", *p)
		}
	}
	n, err := s.addNetwork(Network{
		ID: deref(req.ID), Name: deref(req.Name), Description: deref(req.Description),
		Partition: deref(req.PartitionID), Project: deref(req.ProjectID), Labels: req.Labels,
		Prefixes: req.Prefixes, DestinationPrefixes: req.DestinationPrefixes,
		DefaultChildPrefixLength: req.DefaultChildPrefixLength, NAT: req.Nat,
		PrivateSuper: req.PrivateSuper, Underlay: req.Underlay, VRF: deref(req.Vrf),
		AdditionalAnnouncableCIDRs: req.AdditionalAnnouncableCIDRs,
	})
	if err != nil {
		return 0, nil, withStatus(http.StatusUnprocessableEntity, err)
	}
	return s.answerNetwork(c, http.StatusCreated, n)
}

// addNetwork puts a network of the inventory into ipam and store.
func (s *Simulator) addNetwork(d Network) (*network, error) {
	n := &network{
		id: d.ID, name: d.Name, description: d.Description, partition: d.Partition, project: d.Project, parent: d.Parent,
		labels: maps.Clone(d.Labels), prefixes: d.Prefixes, destinations: d.DestinationPrefixes,
		announcable: d.AdditionalAnnouncableCIDRs, vrf: d.VRF, nat: d.NAT, shared: d.Shared,
		super: d.PrivateSuper, underlay: d.Underlay, networkType: "external", nat2: natType(d.NAT),
		childLengths: map[string]int{},
	}
	maps.Copy(n.childLengths, d.DefaultChildPrefixLength)
	switch {
	case d.Parent != "":
		n.networkType, n.childLengths = childType(d.Shared), nil
	case d.PrivateSuper:
		n.networkType = "super"
	case d.Underlay:
		n.networkType = "underlay"
	}
	for _, p := range d.Prefixes {
		np, err := netip.ParsePrefix(p)
		if err != nil {
			return nil, err
		}
		for existing, e := range s.ipam.prefixes {
			if e.cidr.Overlaps(np) && existing != d.Parent && d.Parent == "" {
				return nil, fmt.Errorf("%s overlaps %s", np, e.cidr)
			}
		}
		if err := s.ipam.create(p, s.parentPrefix(d.Parent, np)); err != nil {
			return nil, err
		}
	}
	if d.VRF != 0 {
		s.vrfs.take(d.VRF)
	}
	return s.createNetwork(n), nil
}

// parentPrefix marks a child prefix of the inventory as taken in its parent.
func (s *Simulator) parentPrefix(parent string, child netip.Prefix) string {
	n, ok := s.networks[parent]
	if !ok {
		return ""
	}
	for _, p := range n.prefixes {
		if pp := s.ipam.prefixes[p]; pp != nil && pp.cidr.Overlaps(child) {
			pp.isParent, pp.free = true, nil
			pp.children[child] = true
			return p
		}
	}
	return ""
}
