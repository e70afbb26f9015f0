package simulator

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

func (s *Simulator) networkGet(c *call) (int, any, error) {
	s.enter()
	defer s.leave()
	n, err := s.findNetwork(c, c.param(0))
	if err != nil {
		return 0, nil, err
	}
	return s.answerNetwork(c, http.StatusOK, n)
}

func (s *Simulator) answerNetwork(c *call, status int, n *network) (int, any, error) {
	w, err := s.networkWire(c, n)
	if err != nil {
		return 0, nil, err
	}
	return status, w, nil
}

func (s *Simulator) networkList(c *call) (int, any, error) {
	return s.networksMatching(c, "cannot list networks from database: ", func(*network) bool { return true })
}

func (s *Simulator) networkFind(c *call) (int, any, error) {
	q, err := decode[wire.NetworkSearchQuery](c)
	if err != nil {
		return 0, nil, err
	}
	for _, p := range slices.Concat(q.Prefixes, q.DestinationPrefixes) {
		if _, err := netip.ParsePrefix(p); err != nil {
			return 0, nil, badRequest(err)
		}
	}
	return s.networksMatching(c, "cannot search networks in database: ", func(n *network) bool { return matchNetwork(&q, n) })
}

// networksMatching answers a list. One half-freed network in it fails it as a
// whole (515, 516).
func (s *Simulator) networksMatching(c *call, outage string, match func(*network) bool) (int, any, error) {
	list, err := func() ([]*wire.Network, error) {
		s.enter()
		defer s.leave()
		if c.down(backendRethinkDB) {
			return nil, errors.New(outage + rethinkdbDown)
		}
		list := []*wire.Network{}
		for _, id := range s.shuffled(s.netOrder) {
			n := s.networks[id]
			if !match(n) {
				continue
			}
			w, err := s.networkWire(c, n)
			if err != nil {
				return nil, err
			}
			list = append(list, w)
		}
		return list, nil
	}()
	c.spend(costNetworkBase + time.Duration(len(list))*costNetworkPerHit)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, list, nil
}

func matchNetwork(q *wire.NetworkSearchQuery, n *network) bool {
	for k, v := range q.Labels {
		if l, ok := n.labels[k]; !ok || l != v {
			return false
		}
	}
	for _, p := range q.Prefixes {
		if !slices.Contains(n.prefixes, p) {
			return false
		}
	}
	for _, p := range q.DestinationPrefixes {
		if !slices.Contains(n.destinations, p) {
			return false
		}
	}
	if q.AddressFamily != nil && !slices.Contains(families(n.prefixes), *q.AddressFamily) {
		return false
	}
	return is(q.ID, n.id) && is(q.Name, n.name) && is(q.PartitionID, n.partition) &&
		is(q.ProjectID, n.project) && is(q.ParentNetworkID, n.parent) &&
		is(q.Nat, n.nat) && is(q.PrivateSuper, n.super) && is(q.Underlay, n.underlay) &&
		is(q.Vrf, int64(n.vrf))
}

// is says whether an optional filter lets a value pass.
func is[T comparable](want *T, got T) bool { return want == nil || *want == got }

// families are the address families of prefixes, IPv4 first.
func families(prefixes []string) []string {
	var f []string
	for _, af := range []string{ipv4, ipv6} {
		if slices.ContainsFunc(prefixes, func(p string) bool { return familyOf(p) == af }) {
			f = append(f, af)
		}
	}
	return f
}

func familyOf(cidr string) string {
	p, err := netip.ParsePrefix(cidr)
	if err != nil || p.Addr().Is4() {
		return ipv4
	}
	return ipv6
}

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
	c.phase("project", 2*time.Millisecond)
	if _, err := s.masterdataProject(c, projectID); err != nil {
		return 0, nil, err
	}
	super, lengths, err := s.childSpec(c, partitionID, &req)
	if err != nil {
		return 0, nil, err
	}
	c.spend(3 * time.Millisecond)

	// From here on whatever was taken stays taken when a later step fails:
	// the VRF, and the prefix of the first address family.
	s.enter()
	vrf, ok := s.vrfs.acquire()
	s.leave()
	if !ok {
		return 0, nil, errors.New("could not acquire a vrf: no integer left")
	}
	var prefixes []string
	for _, af := range []string{ipv4, ipv6} {
		length, ok := lengths[af]
		if !ok {
			continue
		}
		c.phase("prefix", 2*time.Millisecond)
		p, err := s.childPrefix(c, super, af, length)
		if err != nil {
			return 0, nil, err
		}
		prefixes = append(prefixes, p)
	}
	c.phase("store", 3*time.Millisecond)
	s.enter()
	n := s.createNetwork(&network{
		name: deref(req.Name), description: deref(req.Description),
		partition: partitionID, project: projectID, parent: super.id,
		labels: maps.Clone(req.Labels), prefixes: prefixes, destinations: req.DestinationPrefixes,
		vrf: vrf, nat: deref(req.Nat), shared: deref(req.Shared),
		networkType: childType(deref(req.Shared)), nat2: natType(deref(req.Nat)),
	})
	s.record(Deed{Verb: "allocate", Kind: "network", ID: n.id, Project: n.project, Labels: n.labels, By: c.user.name})
	s.leave()

	c.phase("usage", 3*time.Millisecond)
	if c.gone() {
		return 0, nil, fmt.Errorf("prefix usage for cidr:%s not found canceled: %w", prefixes[0], errCanceled)
	}
	s.enter()
	defer s.leave()
	return s.answerNetwork(c, http.StatusCreated, n)
}

// childSpec finds the super network of a partition and which prefix lengths a
// child of it is to get.
func (s *Simulator) childSpec(c *call, partitionID string, req *wire.NetworkAllocateRequest) (*network, map[string]int, error) {
	s.enter()
	defer s.leave()
	if c.down(backendRethinkDB) {
		return nil, nil, fmt.Errorf("cannot find partition with id %q in database: %s", partitionID, rethinkdbDown)
	}
	if _, ok := s.cat.partitions[partitionID]; !ok {
		return nil, nil, notFound("no partition with id %q found", partitionID)
	}
	for _, p := range req.DestinationPrefixes {
		if _, err := netip.ParsePrefix(p); err != nil {
			return nil, nil, badRequest(fmt.Errorf("given prefix %v is not a valid ip with mask: %w", p, err))
		}
	}
	super := s.superOf(partitionID)
	if super == nil {
		return nil, nil, notFound("no network found")
	}
	lengths := maps.Clone(super.childLengths)
	for af, l := range req.Length {
		if af != ipv4 && af != ipv6 {
			return nil, nil, badRequest(fmt.Errorf("addressfamily of length is invalid invalid addressfamily:%s", af))
		}
		lengths[af] = l
	}
	if req.AddressFamily != nil {
		af := *req.AddressFamily
		if af != ipv4 && af != ipv6 {
			return nil, nil, badRequest(fmt.Errorf("addressfamily is invalid invalid addressfamily:%s", af))
		}
		l, ok := lengths[af]
		if !ok {
			return nil, nil, badRequest(fmt.Errorf("addressfamily %s specified, but no childprefixlength for this addressfamily", af))
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
	s.enter()
	defer s.leave()
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

// networkFree frees prefix by prefix, each for good (README, "Not
// transactional" 8).
func (s *Simulator) networkFree(c *call) (int, any, error) {
	c.phase("read", time.Millisecond)
	s.enter()
	n, err := s.findNetwork(c, c.param(0))
	s.leave()
	if err != nil {
		return 0, nil, err
	}
	for _, p := range n.prefixes {
		c.phase("prefix", 3*time.Millisecond)
		s.enter()
		err := s.releasePrefix(c, p)
		s.leave()
		if err != nil {
			return 0, nil, err
		}
	}
	c.phase("store", 3*time.Millisecond)
	s.enter()
	defer s.leave()
	if n.vrf != 0 {
		s.vrfs.release(n.vrf)
	}
	s.deleteNetwork(n.id)
	s.record(Deed{Verb: "free", Kind: "network", ID: n.id, Project: n.project, Labels: n.labels, By: c.user.name})
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

func (s *Simulator) networkUpdate(c *call) (int, any, error) {
	req, err := decode[wire.NetworkUpdateRequest](c)
	if err != nil {
		return 0, nil, err
	}
	force := c.query("force") == "true"
	s.enter()
	old, err := s.findNetwork(c, req.ID)
	s.leave()
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
	if len(req.DestinationPrefixes) > 0 {
		next.destinations = req.DestinationPrefixes
	}
	for _, cidr := range old.announcable {
		if !force && !slices.Contains(req.AdditionalAnnouncableCIDRs, cidr) {
			return 0, nil, badRequest(fmt.Errorf("you cannot remove %q from additionalannouncablecidrs without force flag set", cidr))
		}
	}
	next.announcable = req.AdditionalAnnouncableCIDRs
	c.phase("update", flatCost(c.name))
	s.enter()
	defer s.leave()
	updated, err := s.updateNetwork(old, &next)
	if err != nil {
		return 0, nil, err
	}
	return s.answerNetwork(c, http.StatusOK, updated)
}

func (s *Simulator) networkDelete(c *call) (int, any, error) {
	s.enter()
	defer s.leave()
	n, err := s.findNetwork(c, c.param(0))
	if err != nil {
		return 0, nil, err
	}
	for _, o := range s.networks {
		if o.parent == n.id {
			return 0, nil, errors.New("network cannot be deleted because there are children of this network")
		}
	}
	for _, address := range s.ipOrder {
		if i := s.ips[address]; slices.Contains(n.prefixes, i.prefix) {
			return 0, nil, fmt.Errorf("unable to delete network: prefix %s has ip %s in use", i.prefix, i.address)
		}
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
	s.enter()
	defer s.leave()
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

func bareNetwork(n *network) *wire.Network {
	w := &wire.Network{
		ID: n.id, Name: n.name, Description: n.description, PartitionID: n.partition, ProjectID: n.project,
		Labels: orEmpty(n.labels), Shared: n.shared, Prefixes: orNone(n.prefixes), DestinationPrefixes: orNone(n.destinations),
		DefaultChildPrefixLength: n.childLengths, Nat: n.nat, PrivateSuper: n.super, Underlay: n.underlay, Vrf: n.vrf,
		AdditionalAnnouncableCIDRs: n.announcable, NetworkType: n.networkType, NATType: n.nat2,
		Created: n.created, Changed: n.changed,
	}
	if n.parent != "" {
		w.ParentNetworkID = &n.parent
	}
	return w
}

// networkWire is a network with the ipam's counts.
func (s *Simulator) networkWire(c *call, n *network) (*wire.Network, error) {
	w := bareNetwork(n)
	for _, p := range n.prefixes {
		var u wire.Usage
		err := errors.New(ipamDown)
		if !c.down(backendIPAM) {
			u, err = s.ipam.usage(p)
		}
		if err != nil {
			return nil, fmt.Errorf("prefix usage for cidr:%s not found %w", p, err)
		}
		sum := &w.Consumption.IPv4
		if familyOf(p) == ipv6 {
			sum = &w.Consumption.IPv6
		}
		if *sum == nil {
			*sum = &wire.Usage{}
		}
		(*sum).AvailableIPs += u.AvailableIPs
		(*sum).UsedIPs += u.UsedIPs
		(*sum).AvailablePrefixes += u.AvailablePrefixes
		(*sum).UsedPrefixes += u.UsedPrefixes
	}
	if w.Consumption.IPv4 != nil {
		w.Usage = *w.Consumption.IPv4
	}
	return w, nil
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func orNone(l []string) []string {
	if l == nil {
		return []string{}
	}
	return l
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
