// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/providerid"
)

// ClusterWarnings returns what is valid in a MetalStackCluster, and hardly meant. old is
// empty on create: what an update leaves as it was is not warned of again.
func ClusterWarnings(cluster, old *infrastructure.MetalStackCluster) []string {
	firewall, before := cluster.Spec.FirewallSpec, old.Spec.FirewallSpec
	if firewall == nil || before != nil && !hasRules(before.Rules) {
		return nil
	}
	return ruleWarnings(firewall, specPath.Child("firewallSpec"))
}

// FirewallWarnings is ClusterWarnings for a MetalStackFirewall.
func FirewallWarnings(firewall, old *infrastructure.MetalStackFirewall) []string {
	var warnings []string
	if old.UID == "" || hasRules(old.Spec.Rules) {
		warnings = ruleWarnings(&firewall.Spec, specPath)
	}
	return append(warnings, providerIDWarnings(&firewall.ObjectMeta, firewall.Spec.ProviderID, old.Spec.ProviderID)...)
}

// MachineWarnings is ClusterWarnings for a MetalStackMachine.
func MachineWarnings(machine, old *infrastructure.MetalStackMachine) []string {
	return providerIDWarnings(&machine.ObjectMeta, machine.Spec.ProviderID, old.Spec.ProviderID)
}

func hasRules(rules *infrastructure.FirewallRules) bool {
	return rules != nil && len(rules.Egress)+len(rules.Ingress) > 0
}

// ruleWarnings warn of a firewall that forwards nothing. One that is adopted keeps the
// rules that it has.
func ruleWarnings(spec *infrastructure.MetalStackFirewallSpec, path *field.Path) []string {
	if hasRules(spec.Rules) || spec.ProviderID != "" {
		return nil
	}
	return []string{fmt.Sprintf("%s: no rules: the firewall forwards no connections, so machines behind it reach no registry and no control plane", path.Child("rules"))}
}

// providerIDWarnings warn of a form that Cluster API does not find a Node by: metal-ccm
// gives Nodes the form metal://<partition>/<id>.
func providerIDWarnings(meta *metav1.ObjectMeta, id, old string) []string {
	if id == old || meta.Labels[infrastructure.ClusterNameLabel] == "" || !strings.HasPrefix(id, providerid.ArchivedScheme) {
		return nil
	}
	return []string{fmt.Sprintf("%s: %q matches the provider ID of no Node, which metal-ccm writes as metal://<partition>/<id>: Cluster API will not find the Node of the machine", specPath.Child("providerID"), id)}
}
