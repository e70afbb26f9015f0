// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

func TestWarnings_FirewallWithoutRules(t *testing.T) {
	t.Parallel()
	rules := &infrastructure.FirewallRules{Egress: []infrastructure.FirewallEgressRule{{Protocol: "TCP"}}}
	firewall := func(rules *infrastructure.FirewallRules) *infrastructure.MetalStackFirewall {
		f := &infrastructure.MetalStackFirewall{}
		f.UID, f.Spec.Rules = "uid", rules
		return f
	}
	none := &infrastructure.MetalStackFirewall{}
	require.Len(t, FirewallWarnings(firewall(nil), none), 1)
	assert.Contains(t, FirewallWarnings(firewall(nil), none)[0], "spec.rules: no rules: the firewall forwards no connections")
	assert.Len(t, FirewallWarnings(firewall(&infrastructure.FirewallRules{}), firewall(rules)), 1)
	assert.Empty(t, FirewallWarnings(firewall(rules), none))
	assert.Empty(t, FirewallWarnings(firewall(nil), firewall(nil)), "not again with each update")
	adopted := firewall(nil)
	adopted.Spec.ProviderID = "metal:///" + machineID
	assert.Empty(t, FirewallWarnings(adopted, none))

	with := func(f *infrastructure.MetalStackFirewallSpec) *infrastructure.MetalStackCluster {
		return &infrastructure.MetalStackCluster{Spec: infrastructure.MetalStackClusterSpec{FirewallSpec: f}}
	}
	ruleless, ruled := &infrastructure.MetalStackFirewallSpec{}, &infrastructure.MetalStackFirewallSpec{Rules: rules}
	require.Len(t, ClusterWarnings(with(ruleless), with(nil)), 1)
	assert.Contains(t, ClusterWarnings(with(ruleless), with(nil))[0], "spec.firewallSpec.rules: no rules")
	assert.Len(t, ClusterWarnings(with(ruleless), with(ruled)), 1)
	assert.Empty(t, ClusterWarnings(with(ruleless), with(ruleless)))
	assert.Empty(t, ClusterWarnings(with(ruled), with(nil)))
	assert.Empty(t, ClusterWarnings(with(nil), with(nil)))
}

func TestWarnings_ProviderIDThatNoNodeHas(t *testing.T) {
	t.Parallel()
	machine := func(id, cluster string) *infrastructure.MetalStackMachine {
		m := &infrastructure.MetalStackMachine{}
		m.Labels = map[string]string{infrastructure.ClusterNameLabel: cluster}
		m.Spec.ProviderID = id
		return m
	}
	archived := "metalstack://" + machineID
	none := &infrastructure.MetalStackMachine{}
	require.Len(t, MachineWarnings(machine(archived, "web"), none), 1)
	assert.Contains(t, MachineWarnings(machine(archived, "web"), none)[0], "matches the provider ID of no Node")
	assert.Empty(t, MachineWarnings(machine(archived, ""), none), "no cluster has the machine")
	assert.Empty(t, MachineWarnings(machine("metal://fra-equ01/"+machineID, "web"), none))
	assert.Empty(t, MachineWarnings(machine(archived, "web"), machine(archived, "web")), "not again with each update")
}
