// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

const (
	// egressPolicy and ingressPolicy are the names of the policies of a workload cluster that
	// have the rules of firewallSpec.
	egressPolicy  = "metal-stack-egress"
	ingressPolicy = "metal-stack-ingress"
)

// rulesPolicies are ClusterwideNetworkPolicies that allow what the rules of a firewall do: once
// a firewall-controller makes rules, these hold no more, and without policies the firewall
// would cut the workload cluster off from its registries and from this management cluster.
// What a policy cannot say is left out, since a wider one would be worse: destinations of
// ingress rules, port 0, and IPv6, which keeps the firewall-controller from making any rules.
func rulesPolicies(rules *v1alpha4.FirewallRules) []*unstructured.Unstructured {
	if rules == nil {
		rules = &v1alpha4.FirewallRules{}
	}
	var egress, ingress []any
	for _, rule := range rules.Egress {
		egress = appendPolicyRule(egress, rule.Protocol, rule.Ports, "to", rule.To)
	}
	for _, rule := range rules.Ingress {
		if len(rule.To) == 0 {
			ingress = appendPolicyRule(ingress, rule.Protocol, rule.Ports, "from", rule.From)
		}
	}
	return []*unstructured.Unstructured{newPolicy(egressPolicy, "egress", egress), newPolicy(ingressPolicy, "ingress", ingress)}
}

func newPolicy(name, direction string, rules []any) *unstructured.Unstructured {
	spec := map[string]any{"description": "The " + direction + " rules of firewallSpec of the MetalStackCluster. Changes are undone."}
	if len(rules) > 0 {
		spec[direction] = rules
	}
	p := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	p.SetGroupVersionKind(policyKind)
	p.SetNamespace(workloadNamespace)
	p.SetName(name)
	p.SetLabels(map[string]string{managedByLabel: workloadManager})
	return p
}

// appendPolicyRule appends a rule, unless nothing is left of it.
func appendPolicyRule(rules []any, protocol string, ports []int32, key string, prefixes []string) []any {
	if protocol == "" {
		protocol = "tcp"
	}
	var allowed, blocks []any
	for _, port := range ports {
		if port > 0 {
			allowed = append(allowed, map[string]any{"protocol": strings.ToUpper(protocol), "port": int64(port)})
		}
	}
	for _, text := range prefixes {
		if p, err := netip.ParsePrefix(text); err == nil && p.Addr().Is4() {
			blocks = append(blocks, map[string]any{"cidr": text})
		}
	}
	if len(allowed) == 0 || len(blocks) == 0 {
		return rules
	}
	return append(slices.Clip(rules), map[string]any{"ports": allowed, key: blocks})
}
