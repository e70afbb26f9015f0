// SPDX-License-Identifier: Apache-2.0

package firewallcontroller

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// States of a policy.
const (
	stateDeployed = "deployed"
	stateIgnored  = "ignored"
	outside       = "ingress/egress does not match allowed networks"
)

// render returns the rules for what a workload cluster wants, one a line.
func render(f *Firewall, policies []*Policy, services []corev1.Service) ([]string, error) {
	private := f.privateNetwork()
	if private == nil || private.Vrf == nil {
		return nil, errors.New("no primary private network found")
	}
	var rules []string
	for _, p := range policies {
		if p.Spec.validate() == nil {
			rules = append(rules, policyRules(p)...)
		}
	}
	var allowed prefixes
	if len(f.Spec.AllowedNetworks.Ingress) > 0 {
		var err error
		if allowed, err = parsePrefixes(f.Spec.AllowedNetworks.Ingress); err != nil {
			return nil, err
		}
	}
	for i := range services {
		rules = append(rules, serviceRules(&services[i], allowed)...)
	}
	if f.Spec.LogAcceptedConnections {
		for i := range rules {
			rules[i] += ", logged"
		}
	}
	snat, err := snatRules(f, private)
	if err != nil {
		return nil, err
	}
	rules = append(append(rules, rateLimits(f)...), snat...)
	if len(f.Spec.InternalPrefixes) > 0 {
		rules = append(rules, "count as internal: "+strings.Join(f.Spec.InternalPrefixes, ", "))
	}
	slices.Sort(rules)
	return slices.Compact(rules), nil
}

// policyRules allow what a policy does. A rule of it without ports allows nothing, and
// neither does one for connections out without destinations.
func policyRules(p *Policy) []string {
	var rules []string
	for _, ingress := range p.Spec.Ingress {
		for protocol, ports := range portsOf(ingress.Ports) {
			rules = append(rules, fmt.Sprintf("policy %s: allow from %s to %s ports %s", p.Name, blocks(ingress.From), protocol, ports))
		}
	}
	for _, egress := range p.Spec.Egress {
		for protocol, ports := range portsOf(egress.Ports) {
			if len(egress.To) > 0 {
				rules = append(rules, fmt.Sprintf("policy %s: allow to %s %s ports %s", p.Name, blocks(egress.To), protocol, ports))
				continue
			}
			for _, name := range egress.ToFQDNs {
				rules = append(rules, fmt.Sprintf("policy %s: allow to name %s %s ports %s", p.Name, name.MatchName+name.MatchPattern, protocol, ports))
			}
		}
	}
	return rules
}

// portsOf are ports by protocol.
func portsOf(ports []Port) map[string]string {
	found := map[string][]string{}
	for _, p := range ports {
		protocol := "tcp"
		if p.Protocol != nil && *p.Protocol == corev1.ProtocolUDP {
			protocol = "udp"
		}
		text := fmt.Sprint(p.Port)
		if p.EndPort != nil {
			text = fmt.Sprintf("%d-%d", p.Port, *p.EndPort)
		}
		found[protocol] = append(found[protocol], text)
	}
	return joined(found)
}

func joined(found map[string][]string) map[string]string {
	all := map[string]string{}
	for protocol, ports := range found {
		all[protocol] = strings.Join(ports, ", ")
	}
	return all
}

func blocks(list []IPBlock) string {
	var allow, except []string
	for _, b := range list {
		allow, except = append(allow, b.CIDR), append(except, b.Except...)
	}
	text := "anywhere"
	if len(allow) > 0 {
		text = strings.Join(allow, ", ")
	}
	if len(except) > 0 {
		text += " but " + strings.Join(except, ", ")
	}
	return text
}

// serviceRules allow connections to the addresses of a Service, if these are allowed.
func serviceRules(s *corev1.Service, allowed prefixes) []string {
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer && s.Spec.Type != corev1.ServiceTypeNodePort {
		return nil
	}
	var to []string
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		addresses := []string{s.Spec.LoadBalancerIP}
		for _, ingress := range s.Status.LoadBalancer.Ingress {
			addresses = append(addresses, ingress.IP)
		}
		for _, address := range addresses {
			ip, err := netip.ParseAddr(address)
			if err != nil || allowed != nil && !allowed.contains(netip.PrefixFrom(ip, ip.BitLen())) || slices.Contains(to, address) {
				continue
			}
			to = append(to, address)
		}
	}
	from := s.Spec.LoadBalancerSourceRanges
	if len(from) == 0 && len(to) == 0 {
		return nil
	}
	text := func(list []string) string {
		if len(list) == 0 {
			return "anywhere"
		}
		return strings.Join(list, ", ")
	}
	found := map[string][]string{}
	for _, p := range s.Spec.Ports {
		if p.Protocol == corev1.ProtocolTCP || p.Protocol == corev1.ProtocolUDP {
			protocol := strings.ToLower(string(p.Protocol))
			found[protocol] = append(found[protocol], fmt.Sprint(p.Port))
		}
	}
	var rules []string
	for protocol, ports := range joined(found) {
		rules = append(rules, fmt.Sprintf("service %s/%s: allow from %s to %s %s ports %s", s.Namespace, s.Name, text(from), text(to), protocol, ports))
	}
	return rules
}

func rateLimits(f *Firewall) []string {
	var rules []string
	for _, limit := range f.Spec.RateLimits {
		if n, found := f.network(limit.NetworkID); found && *n.NetworkType != underlay {
			rules = append(rules, fmt.Sprintf("limit %s: %d MiB/s", limit.NetworkID, limit.Rate))
		}
	}
	return rules
}

// snatRules translate the source addresses of connections. One that cannot be made keeps
// all other rules from being made, too.
func snatRules(f *Firewall, private *Network) ([]string, error) {
	var rules []string
	for _, rule := range f.Spec.EgressRules {
		n, found := f.network(rule.NetworkID)
		if !found {
			return nil, errors.New("network not found")
		}
		if *n.NetworkType != external {
			continue
		}
		if len(rule.IPs) == 0 {
			return nil, errors.New("need to specify at least one address for SNAT")
		}
		for _, prefix := range private.Prefixes {
			if strings.Contains(prefix, ":") {
				return nil, fmt.Errorf("nftables file is invalid: ip saddr { %s }", prefix)
			}
		}
		known, err := parsePrefixes(n.Prefixes)
		if err != nil {
			return nil, err
		}
		for _, address := range rule.IPs {
			ip, err := netip.ParseAddr(address)
			if err != nil {
				return nil, fmt.Errorf("could not parse ip %s", address)
			}
			if !known.contains(netip.PrefixFrom(ip, ip.BitLen())) {
				return nil, fmt.Errorf("ip %s is not in any prefix of network %s", address, rule.NetworkID)
			}
		}
		rules = append(rules, fmt.Sprintf("snat %s: from %s as %s", rule.NetworkID, strings.Join(private.Prefixes, ", "), strings.Join(rule.IPs, ", ")))
	}
	return rules, nil
}

// divide returns the policies that allow nothing outside of what is allowed, and the others.
// If one list of networks is given, and the other is empty, the empty one allows nothing.
func divide(policies []*Policy, allowed AllowedNetworks) (valid, ignored []*Policy, err error) {
	if len(allowed.Egress) == 0 && len(allowed.Ingress) == 0 {
		return policies, nil, nil
	}
	egress, err := parsePrefixes(allowed.Egress)
	if err != nil {
		return nil, nil, err
	}
	ingress, err := parsePrefixes(allowed.Ingress)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range policies {
		within := true
		for _, rule := range p.Spec.Egress {
			ok, err := egress.containsAll(rule.To)
			if err != nil {
				return nil, nil, err
			}
			within = within && ok
		}
		for _, rule := range p.Spec.Ingress {
			ok, err := ingress.containsAll(rule.From)
			if err != nil {
				return nil, nil, err
			}
			within = within && ok
		}
		if within {
			valid = append(valid, p)
		} else {
			ignored = append(ignored, p)
		}
	}
	return valid, ignored, nil
}

func (s *PolicySpec) validate() error {
	var errs []error
	check := func(ports []Port, blocks []IPBlock) {
		for _, p := range ports {
			if p.Port <= 0 || p.Port > 65535 {
				errs = append(errs, fmt.Errorf("port %d", p.Port))
			}
			if p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP && *p.Protocol != corev1.ProtocolUDP {
				errs = append(errs, fmt.Errorf("protocol %s", *p.Protocol))
			}
		}
		for _, b := range blocks {
			if _, err := netip.ParsePrefix(b.CIDR); err != nil {
				errs = append(errs, err)
			}
		}
	}
	for _, rule := range s.Egress {
		check(rule.Ports, rule.To)
	}
	for _, rule := range s.Ingress {
		check(rule.Ports, rule.From)
	}
	return errors.Join(errs...)
}

// prefixes are a set of addresses.
type prefixes []netip.Prefix

func parsePrefixes(list []string) (prefixes, error) {
	set := prefixes{}
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("failed to parse prefix: %w", err)
		}
		set = append(set, p)
	}
	return set, nil
}

func (s prefixes) contains(p netip.Prefix) bool {
	return slices.ContainsFunc(s, func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) })
}

func (s prefixes) containsAll(list []IPBlock) (bool, error) {
	for _, b := range list {
		p, err := netip.ParsePrefix(b.CIDR)
		if err != nil {
			return false, fmt.Errorf("failed to parse to address: %w", err)
		}
		if !s.contains(p) {
			return false, nil
		}
	}
	return true, nil
}
