// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// manyRules have n ports and prefixes in each direction, each prefix as long as
// one can be, and a rule for each 50 of them.
func manyRules(n int) *infrastructure.FirewallRules {
	rules := &infrastructure.FirewallRules{}
	for i := 0; i < n; i += 50 {
		var prefixes []string
		for j := range min(50, n-i) - 1 {
			prefixes = append(prefixes, fmt.Sprintf("aaaa:aaaa:aaaa:aaaa:aaaa:aaaa:203.113.%d.%d/128", 100+i/100, 100+j))
		}
		comment := strings.Repeat("x", maxCommentLength)
		rules.Egress = append(rules.Egress, infrastructure.FirewallEgressRule{Protocol: "tcp", Ports: []int32{65535}, To: prefixes, Comment: comment})
		rules.Ingress = append(rules.Ingress, infrastructure.FirewallIngressRule{Protocol: "tcp", Ports: []int32{65535}, From: prefixes, Comment: comment})
	}
	return rules
}

func TestLimits_RulesFitIntoAServerSideApply(t *testing.T) {
	t.Parallel()
	const maxYAML = 256 << 10 // of a body, in pkg/apiserver
	largest := firewall(func(f *infrastructure.MetalStackFirewall) { f.Spec.Rules = manyRules(maxRuleEntries) })
	says(t, ValidateFirewall(largest))
	body, err := json.Marshal(largest)
	require.NoError(t, err)
	assert.Less(t, len(body), maxYAML)
	says(t, ValidateFirewall(firewall(func(f *infrastructure.MetalStackFirewall) { f.Spec.Rules = manyRules(maxRuleEntries + 2) })),
		"spec.rules.egress: Too many: 2002: must have at most 2000 items, counting the ports and prefixes of all rules",
		"spec.rules.ingress: Too many: 2002: must have at most 2000 items",
	)
}

func TestLimits_UnchangedListsAreAccepted(t *testing.T) {
	t.Parallel()
	lists := func(f *infrastructure.MetalStackFirewallSpec) {
		f.Rules = manyRules(maxRuleEntries + 2)
		f.SSHKeys = slices.Repeat([]string{sshKey}, maxSSHKeys+1)
		f.Networks = slices.Repeat([]string{"mpls"}, maxNetworks+1)
	}
	large := func(f *infrastructure.MetalStackFirewall) { lists(&f.Spec) }
	says(t, ValidateFirewallUpdate(firewall(large, func(f *infrastructure.MetalStackFirewall) { f.Spec.Image = "firewall-ubuntu-3.1" }), firewall(large)))
	says(t, ValidateFirewallUpdate(firewall(large), firewall()),
		"spec.sshKeys: Too many", "spec.networks: Too many", "spec.rules.egress: Too many", "spec.rules.ingress: Too many")
	says(t, ValidateFirewallUpdate(firewall(large, func(f *infrastructure.MetalStackFirewall) {
		f.Spec.Rules.Egress[0].Comment = "other"
		f.Spec.Image = ""
	}), firewall(large)), "spec.image: Required value", "spec.rules.egress: Too many")

	largeCluster := func(c *infrastructure.MetalStackCluster) { lists(c.Spec.FirewallSpec) }
	says(t, ValidateClusterUpdate(cluster(largeCluster, func(c *infrastructure.MetalStackCluster) { c.Spec.PublicNetworkID = "mpls-2" }), cluster(largeCluster)))
	says(t, ValidateClusterUpdate(cluster(largeCluster), cluster(func(c *infrastructure.MetalStackCluster) { c.Spec.FirewallSpec = nil })),
		"sshKeys: Too many", "networks: Too many", "egress: Too many", "ingress: Too many")

	tags := func(m *infrastructure.MetalStackMachine) {
		m.Spec.SSHKeys = slices.Repeat([]string{sshKey}, maxSSHKeys+1)
		for i := range maxTags + 1 {
			m.Spec.Tags = append(m.Spec.Tags, fmt.Sprintf("tag-%d", i))
		}
	}
	says(t, ValidateMachineUpdate(machine(tags, func(m *infrastructure.MetalStackMachine) { m.Spec.Image = "ubuntu-24.10" }), machine(tags)))
	says(t, ValidateMachineUpdate(machine(tags, func(m *infrastructure.MetalStackMachine) { m.Spec.Tags[0] = "other" }), machine(tags)), "spec.tags: Too many")
}
