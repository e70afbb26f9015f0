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

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

func (s *Simulator) networkGet(c *call) (int, any, error) {
	s.lock()
	defer s.unlock()
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
	var mistakes []error
	for _, p := range slices.Concat(q.Prefixes, q.DestinationPrefixes) {
		if _, err := netip.ParsePrefix(p); err != nil {
			mistakes = append(mistakes, err)
		}
	}
	if len(mistakes) > 0 {
		return 0, nil, badRequest(errors.Join(mistakes...))
	}
	if q.AddressFamily != nil {
		af, err := addressFamily(*q.AddressFamily)
		if err != nil {
			return 0, nil, err
		}
		q.AddressFamily = &af
	}
	return s.networksMatching(c, "cannot search networks in database: ", func(n *network) bool { return matchNetwork(&q, n) })
}

// networksMatching answers a list. One half-freed network in it fails it as a
// whole (515, 516).
func (s *Simulator) networksMatching(c *call, outage string, match func(*network) bool) (int, any, error) {
	list, err := func() ([]*wire.Network, error) {
		s.lock()
		defer s.unlock()
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

// addressFamily reads the name of an address family, in any case.
func addressFamily(name string) (string, error) {
	for _, af := range []string{ipv4, ipv6} {
		if strings.EqualFold(name, af) {
			return af, nil
		}
	}
	return "", fmt.Errorf("given addressfamily:%q is invalid", name)
}

func familyOf(cidr string) string {
	p, err := netip.ParsePrefix(cidr)
	if err != nil || p.Addr().Is4() {
		return ipv4
	}
	return ipv6
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
