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

func TestWarnings_FirewallController(t *testing.T) {
	t.Parallel()
	const (
		noKeys       = "sshKeys: no keys: the firewall-controller replaces the authorized keys of the firewall"
		noRules      = "rules: no rules: the firewall forwards no connections until the firewall-controller has rules"
		noKubeconfig = "has no kubeconfig for its firewall-controller"
	)
	rules := &infrastructure.FirewallRules{Egress: []infrastructure.FirewallEgressRule{{}}}
	plain := infrastructure.MetalStackFirewallSpec{SSHKeys: []string{sshKey}, Rules: rules}
	controlled := plain
	controlled.Controller = &infrastructure.FirewallController{}
	bare := infrastructure.MetalStackFirewallSpec{Controller: controlled.Controller}
	changed := bare
	changed.Controller = &infrastructure.FirewallController{LogAcceptedConnections: true}
	begun := infrastructure.AllocationState{Phase: infrastructure.AllocationAllocated}
	for name, test := range map[string]struct {
		old       *infrastructure.MetalStackFirewallSpec
		new       infrastructure.MetalStackFirewallSpec
		allocated bool
		access    *infrastructure.FirewallManagementAccess
		want      []string
	}{
		"created":                            {new: controlled},
		"created without keys and rules":     {new: bare, want: []string{noRules, noKeys}},
		"changed, without keys and rules":    {old: &bare, new: changed, allocated: true},
		"added before the allocation":        {old: &plain, new: controlled},
		"added after the allocation":         {old: &plain, new: controlled, allocated: true, want: []string{noKubeconfig}},
		"added again after the allocation":   {old: &plain, new: controlled, allocated: true, access: &infrastructure.FirewallManagementAccess{}},
		"changed after the allocation":       {old: &controlled, new: controlled, allocated: true},
		"removed from one without rules":     {old: &bare, new: infrastructure.MetalStackFirewallSpec{}, allocated: true, want: []string{"forwards no connections, so machines"}},
		"keys removed before the allocation": {old: &controlled, new: infrastructure.MetalStackFirewallSpec{Controller: controlled.Controller, Rules: rules}, want: []string{noKeys}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require := func(got []string, where string, want ...string) {
				if !assert.Len(t, got, len(want), "%v", got) {
					return
				}
				for i := range want {
					assert.Contains(t, got[i], where)
					assert.Contains(t, got[i], want[i])
				}
			}
			old, fw := &infrastructure.MetalStackFirewall{}, firewall()
			oldCluster, c := &infrastructure.MetalStackCluster{}, cluster()
			fw.Spec, c.Spec.FirewallSpec = test.new, &test.new
			if test.old != nil {
				old.UID, old.Spec, oldCluster.Spec.FirewallSpec = "uid", *test.old, test.old
			}
			if test.allocated {
				old.Status.Allocation = &infrastructure.MachineAllocation{AllocationState: begun}
				oldCluster.Status.Allocation = &infrastructure.ClusterAllocation{AllocationState: begun}
				old.Status.ManagementAccess = test.access
			}
			require(FirewallWarnings(fw, old), "spec.", test.want...)
			if test.access == nil { // A cluster does not know.
				require(ClusterWarnings(c, oldCluster), "spec.firewallSpec.", test.want...)
			}
		})
	}
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
