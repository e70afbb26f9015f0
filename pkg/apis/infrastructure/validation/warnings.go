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
	spec, before := cluster.Spec.FirewallSpec, old.Spec.FirewallSpec
	if spec == nil {
		return nil
	}
	path := specPath.Child("firewallSpec")
	warnings := firewallSpecWarnings(spec, before, path)
	if before != nil && before.Controller == nil && spec.Controller != nil && clusterBegun(old.Status.Allocation) {
		warnings = append(warnings, fmt.Sprintf("%s: a firewall that was allocated without it has no kubeconfig for its firewall-controller, which does not run until the firewall is replaced: to have it replaced, set the annotation %s on the MetalStackFirewall",
			path.Child("controller"), infrastructure.ReplaceAnnotation))
	}
	return warnings
}

// FirewallWarnings is ClusterWarnings for a MetalStackFirewall.
func FirewallWarnings(firewall, old *infrastructure.MetalStackFirewall) []string {
	spec, before := &firewall.Spec, &old.Spec
	if old.UID == "" {
		before = nil
	}
	warnings := firewallSpecWarnings(spec, before, specPath)
	if before != nil && before.Controller == nil && spec.Controller != nil && machineBegun(old.Status.Allocation) && old.Status.ManagementAccess == nil {
		warnings = append(warnings, fmt.Sprintf("%s: the firewall was allocated without it and has no kubeconfig for its firewall-controller, which does not run: to have the firewall replaced, set the annotation %s on it",
			specPath.Child("controller"), infrastructure.ReplaceAnnotation))
	}
	return append(warnings, providerIDWarnings(&firewall.ObjectMeta, spec.ProviderID, old.Spec.ProviderID)...)
}

// MachineWarnings is ClusterWarnings for a MetalStackMachine.
func MachineWarnings(machine, old *infrastructure.MetalStackMachine) []string {
	return providerIDWarnings(&machine.ObjectMeta, machine.Spec.ProviderID, old.Spec.ProviderID)
}

func hasRules(rules *infrastructure.FirewallRules) bool {
	return rules != nil && len(rules.Egress)+len(rules.Ingress) > 0
}

// firewallSpecWarnings are those of a firewall's spec; old is nil if there was none.
func firewallSpecWarnings(spec, old *infrastructure.MetalStackFirewallSpec, path *field.Path) []string {
	switched := old == nil || (spec.Controller == nil) != (old.Controller == nil)
	var warnings []string
	if switched || hasRules(old.Rules) {
		warnings = ruleWarnings(spec, path)
	}
	if spec.Controller != nil && len(spec.SSHKeys) == 0 && (switched || len(old.SSHKeys) > 0) {
		warnings = append(warnings, fmt.Sprintf("%s: no keys: the firewall-controller replaces the authorized keys of the firewall by these, so no log-in by key is possible while it runs", path.Child("sshKeys")))
	}
	return warnings
}

// ruleWarnings warn of a firewall that forwards nothing. One that is adopted keeps the
// rules that it has.
func ruleWarnings(spec *infrastructure.MetalStackFirewallSpec, path *field.Path) []string {
	switch {
	case hasRules(spec.Rules) || spec.ProviderID != "":
		return nil
	case spec.Controller != nil:
		return []string{fmt.Sprintf("%s: no rules: the firewall forwards no connections until the firewall-controller has rules from the workload cluster, so machines behind it reach no registry and no control plane before", path.Child("rules"))}
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
