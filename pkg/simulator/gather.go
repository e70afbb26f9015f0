// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

// attachment is a network that an allocation is to be in.
type attachment struct {
	network *network
	auto    bool
	ips     []*ip
	kind    string
	private bool
}

const (
	netPrimaryUnshared = "privateprimaryunshared"
	netPrimaryShared   = "privateprimaryshared"
	netSecondary       = "privatesecondaryshared"
	netExternal        = "external"
	netUnderlay        = "underlay"
)

// gatherNetworks checks the networks of an allocation (182-188, 250, 251).
func (s *Simulator) gatherNetworks(c *call, sp *spec) ([]*attachment, error) {
	super := s.superOf(sp.partition.ID)
	if super == nil {
		return nil, fmt.Errorf("partition %s does not have a private super network", sp.partition.ID)
	}
	byID := map[string]*attachment{}
	var primary *attachment
	var private, shared []*attachment
	for _, want := range sp.req.Networks {
		n, err := s.findNetwork(c, want.NetworkID)
		if err != nil {
			return nil, err
		}
		if n.underlay {
			return nil, fmt.Errorf("underlay networks are not allowed to be set explicitly: %s", n.id)
		}
		if n.super {
			return nil, fmt.Errorf("private super networks are not allowed to be set explicitly: %s", n.id)
		}
		a := &attachment{network: n, auto: want.AutoAcquireIP == nil || *want.AutoAcquireIP, kind: netExternal}
		if parent, ok := s.networks[n.parent]; ok && parent.super {
			a.private = true
			if n.shared {
				a.kind = netSecondary
				shared = append(shared, a)
			} else {
				if primary != nil {
					return nil, errors.New("multiple private networks are specified but there must be only one primary private network that must not be shared")
				}
				a.kind = netPrimaryUnshared
				primary = a
			}
			private = append(private, a)
		}
		byID[n.id] = a
	}
	if len(byID) != len(sp.req.Networks) {
		return nil, errors.New("given network ids are not unique")
	}
	if len(private) == 0 {
		return nil, errors.New("no private network given")
	}
	if primary == nil {
		if len(shared) > 1 {
			return nil, errors.New("machines and firewalls are not allowed to be placed into multiple private, shared networks (firewall needs an unshared private network and machines may only reside in one private network)")
		}
		primary = shared[0]
		primary.kind = netPrimaryShared
	}
	if sp.role == roleMachine && len(private) > 1 {
		return nil, errors.New("machines are not allowed to be placed into multiple private networks")
	}
	if primary.network.project != sp.req.ProjectID {
		return nil, errors.New("the given private network does not belong to the project, which is not allowed")
	}
	if err := s.gatherIPs(c, sp, byID); err != nil {
		return nil, err
	}
	for _, a := range private {
		if a.network.partition != super.partition {
			return nil, fmt.Errorf("private network %q must be located in the partition where the machine is going to be placed", a.network.id)
		}
		if !a.auto && len(a.ips) == 0 {
			return nil, fmt.Errorf("the private network %q has no auto ip acquisition, but no suitable IPs were provided, which would lead into a machine having no ip address", a.network.id)
		}
	}
	if sp.role == roleFirewall {
		u, err := s.underlayOf(sp.partition.ID)
		if err != nil {
			return nil, err
		}
		byID[u.network.id] = u
	}
	// networks of an allocation come in random order (docs/metal-api.md, Q9)
	ids := make([]string, 0, len(byID))
	for id := range byID {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	list := make([]*attachment, 0, len(ids))
	for _, id := range s.shuffled(ids) {
		list = append(list, byID[id])
	}
	return list, nil
}

// gatherIPs attaches the addresses that were named. One that other machines
// have is welcome (254).
func (s *Simulator) gatherIPs(c *call, sp *spec, byID map[string]*attachment) error {
	for _, address := range sp.req.IPs {
		i, err := s.findIP(c, address)
		if err != nil {
			return err
		}
		if i.project != sp.req.ProjectID {
			return fmt.Errorf("given ip %q with project id %q does not belong to the project of this allocation: %s", i.address, i.project, sp.req.ProjectID)
		}
		a, ok := byID[i.network]
		if !ok {
			return fmt.Errorf("given ip %q is not in any of the given networks, which is required", i.address)
		}
		a.auto = false
		a.ips = append(a.ips, i)
	}
	return nil
}

func (s *Simulator) underlayOf(partition string) (*attachment, error) {
	for _, id := range s.netOrder {
		if n := s.networks[id]; n.underlay && n.partition == partition {
			return &attachment{network: n, auto: true, kind: netUnderlay}, nil
		}
	}
	return nil, fmt.Errorf("no underlay found in the given partition:%s", partition)
}

// makeNetworks takes addresses and writes the machine's id on them, network by
// network. What it has made so far is in the allocation for the roll-back.
func (s *Simulator) makeNetworks(c *call, sp *spec, m *machine, networks []*attachment, a *allocation) error {
	for _, at := range networks {
		if err := s.makeNetwork(c, sp, m, at, a); err != nil {
			return err
		}
	}
	s.lock()
	defer s.unlock()
	asn, ok := s.asns.acquire()
	if !ok {
		return errors.New("no asn left")
	}
	for i := range a.networks {
		a.networks[i].ASN = asnBase + int64(asn)
	}
	return nil
}

// asnBase is what the numbers of the pool are added to (205).
const asnBase = 4210000000

func (s *Simulator) makeNetwork(c *call, sp *spec, m *machine, at *attachment, a *allocation) error {
	s.lock()
	defer s.unlock()
	n := at.network
	if at.auto {
		for _, af := range families(n.prefixes) {
			address, cidr, err := s.randomIP(c, n, &af)
			if err != nil {
				return fmt.Errorf("unable to allocate an ip in network: %s %w", n.id, err)
			}
			i, err := s.createIP(&ip{
				address: address, prefix: cidr, network: n.id, project: sp.req.ProjectID, name: a.name,
				description: "autoassigned", typ: typeEphemeral, tags: []string{machineTag(m.id)},
			})
			if err != nil {
				return err
			}
			at.ips = append(at.ips, s.ips[i.address])
		}
	}
	addresses := []string{}
	for _, i := range at.ips {
		next := *i
		next.tags = uniqueSorted(append(slices.Clone(i.tags), machineTag(m.id)))
		if _, err := s.updateIP(i, &next); err != nil {
			return err
		}
		addresses = append(addresses, i.address)
	}
	a.networks = append(a.networks, wire.MachineNetwork{
		NetworkID: n.id, Prefixes: orNone(n.prefixes), IPs: addresses, DestinationPrefixes: orNone(n.destinations),
		NetworkType: at.kind, Vrf: n.vrf, Nat: n.nat, Private: at.private, Underlay: n.underlay,
		ProjectID: n.project, NetworkTypeV2: n.networkType, NATTypeV2: n.nat2,
	})
	return nil
}

const (
	commentCharacters = "abcdefghijklmnopqrstuvwxyz_- "
	commentLength     = 100
)

// checkRules validates firewall rules and fills in the protocol (286-291).
func checkRules(r *wire.FirewallRules) (*wire.FirewallRules, error) {
	if r == nil {
		return nil, nil
	}
	out := &wire.FirewallRules{}
	for _, e := range r.Egress {
		p, err := protocol(e.Protocol)
		if err != nil {
			return nil, err
		}
		e.Protocol = p
		if err := errors.Join(checkComment(e.Comment), checkPorts(e.Ports), checkCIDRs(e.To)); err != nil {
			return nil, fmt.Errorf("egress rule with error:%w", first(err))
		}
		out.Egress = append(out.Egress, e)
	}
	for _, i := range r.Ingress {
		p, err := protocol(i.Protocol)
		if err != nil {
			return nil, err
		}
		i.Protocol = p
		err = errors.Join(checkComment(i.Comment), checkPorts(i.Ports), checkCIDRs(i.To), checkCIDRs(i.From), checkCIDRs(slices.Concat(i.From, i.To)))
		if err != nil {
			return nil, fmt.Errorf("ingress rule with error:%w", first(err))
		}
		out.Ingress = append(out.Ingress, i)
	}
	return out, nil
}

func first(err error) error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()[0]
	}
	return err
}

func protocol(p string) (string, error) {
	switch l := strings.ToLower(p); l {
	case "":
		return "tcp", nil
	case "tcp", "udp":
		return l, nil
	}
	return "", fmt.Errorf("no such protocol: %s", p)
}

func checkComment(comment string) error {
	for _, c := range comment {
		if !strings.ContainsRune(commentCharacters, []rune(strings.ToLower(string(c)))[0]) {
			return fmt.Errorf("illegal character in comment found, only: %q allowed", commentCharacters)
		}
	}
	if len(comment) > commentLength {
		return fmt.Errorf("comments can not exceed %d characters", commentLength)
	}
	return nil
}

func checkPorts(ports []int) error {
	for _, p := range ports {
		if p < 0 || p > 65535 {
			return errors.New("port is out of range")
		}
	}
	return nil
}

func checkCIDRs(cidrs []string) error {
	family := ""
	for _, cidr := range cidrs {
		p, err := netip.ParsePrefix(cidr)
		if err != nil {
			return fmt.Errorf("invalid cidr: %w", err)
		}
		af := ipv4
		if p.Addr().Is6() {
			af = ipv6
		}
		if family != "" && family != af {
			return fmt.Errorf("mixed address family in one rule is not supported:%v", cidrs)
		}
		family = af
	}
	return nil
}
