// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"strings"
	"testing"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

func TestValidateFirewall_Rules(t *testing.T) {
	t.Parallel()

	egress := func(r infrastructure.FirewallEgressRule) *infrastructure.FirewallRules {
		return &infrastructure.FirewallRules{Egress: []infrastructure.FirewallEgressRule{r}}
	}
	ingress := func(r infrastructure.FirewallIngressRule) *infrastructure.FirewallRules {
		return &infrastructure.FirewallRules{Ingress: []infrastructure.FirewallIngressRule{r}}
	}
	for name, test := range map[string]struct {
		rules *infrastructure.FirewallRules
		want  []string
	}{
		"may be left out": {},
		"are taken as the metal-api takes them": {
			rules: &infrastructure.FirewallRules{
				Egress: []infrastructure.FirewallEgressRule{
					{Protocol: "tcp", Ports: []int32{443, 0, 65535}, To: []string{"0.0.0.0/0"}, Comment: "Allow https"},
					{Ports: []int32{53}, To: []string{"9.9.9.9/32", "10.0.0.1/8"}},
				},
				Ingress: []infrastructure.FirewallIngressRule{
					{Protocol: "udp", Ports: []int32{51820}, From: []string{"2001:db8::/32"}, To: []string{"2001:db8:1::/48"}, Comment: "vpn_a-b"},
					{Protocol: "tcp", Ports: []int32{22}, From: []string{"203.0.113.0/24"}},
				},
			},
		},
		"protocol is tcp or udp": {
			rules: egress(infrastructure.FirewallEgressRule{Protocol: "icmp", Ports: []int32{1}, To: []string{"0.0.0.0/0"}}),
			want:  []string{`spec.rules.egress[0].protocol: Unsupported value: "icmp": supported values: "tcp", "udp"`},
		},
		"ports are ports": {
			rules: egress(infrastructure.FirewallEgressRule{Ports: []int32{70000, -1}, To: []string{"0.0.0.0/0"}}),
			want: []string{
				"spec.rules.egress[0].ports[0]: Invalid value: 70000: must be between 0 and 65535, inclusive",
				"spec.rules.egress[0].ports[1]: Invalid value: -1",
			},
		},
		"a rule out says where to and which ports": {
			rules: egress(infrastructure.FirewallEgressRule{}),
			want:  []string{"spec.rules.egress[0].ports: Required value", "spec.rules.egress[0].to: Required value"},
		},
		"a rule in says where from and which ports": {
			rules: ingress(infrastructure.FirewallIngressRule{}),
			want:  []string{"spec.rules.ingress[0].ports: Required value", "spec.rules.ingress[0].from: Required value"},
		},
		"prefixes are prefixes": {
			rules: egress(infrastructure.FirewallEgressRule{Ports: []int32{1}, To: []string{"bogus", "10.0.0.1"}}),
			want: []string{
				`spec.rules.egress[0].to[0]: Invalid value: "bogus": must be a prefix, such as 10.0.0.0/8`,
				`spec.rules.egress[0].to[1]: Invalid value: "10.0.0.1": must be a prefix`,
			},
		},
		"families cannot be mixed in a list": {
			rules: egress(infrastructure.FirewallEgressRule{Ports: []int32{1}, To: []string{"0.0.0.0/0", "::/0"}}),
			want:  []string{`spec.rules.egress[0].to[1]: Invalid value: "::/0": must be IPv4, as the prefixes before it`},
		},
		"families cannot be mixed between from and to": {
			rules: ingress(infrastructure.FirewallIngressRule{Ports: []int32{1}, From: []string{"::/0"}, To: []string{"10.0.0.0/8"}}),
			want:  []string{`spec.rules.ingress[0].to[0]: Invalid value: "10.0.0.0/8": must be IPv6, as the prefixes before it`},
		},
		"comments cannot break out of the configuration that they are written into": {
			rules: egress(infrastructure.FirewallEgressRule{Ports: []int32{1}, To: []string{"::/0"}, Comment: "a\nb\"c"}),
			want:  []string{"spec.rules.egress[0].comment: Invalid value"},
		},
		"comments are short": {
			rules: egress(infrastructure.FirewallEgressRule{Ports: []int32{1}, To: []string{"::/0"}, Comment: strings.Repeat("x", 101)}),
			want:  []string{"spec.rules.egress[0].comment: Too long: may not be more than 100 bytes"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			says(t, ValidateFirewall(firewall(func(f *infrastructure.MetalStackFirewall) { f.Spec.Rules = test.rules })), test.want...)
		})
	}
}

func TestValidateFirewall_RequiresImageAndSize(t *testing.T) {
	t.Parallel()

	says(t, ValidateFirewall(firewall(func(f *infrastructure.MetalStackFirewall) { f.Spec = infrastructure.MetalStackFirewallSpec{} })),
		"spec.image: Required value: must be a firewall image or its alias, such as firewall-ubuntu-3.0",
		"spec.machineType: Required value",
	)
}

func TestValidateFirewallUpdate_AllocatedIsImmutable(t *testing.T) {
	t.Parallel()

	allocated := func(f *infrastructure.MetalStackFirewall) {
		f.Status.Allocation = &infrastructure.MachineAllocation{AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocating}}
	}
	edit := func(f *infrastructure.MetalStackFirewall) {
		f.Spec = infrastructure.MetalStackFirewallSpec{
			Image: "firewall-debian-12", MachineType: "c1-large-x86", Partition: "fra-equ01",
			ProviderID: "metal:///" + machineID, SSHKeys: []string{sshKey}, Networks: []string{"mpls"}, Rules: &infrastructure.FirewallRules{},
			UserData: &infrastructure.SecretReference{Name: "firewall"},
		}
	}
	says(t, ValidateFirewallUpdate(firewall(edit), firewall()))
	says(t, ValidateFirewallUpdate(firewall(allocated, edit), firewall(allocated)),
		"spec.image", "spec.machineType", "spec.partition", "spec.sshKeys", "spec.userData", "spec.networks", "spec.rules")
	says(t, ValidateFirewallUpdate(firewall(), firewall(func(f *infrastructure.MetalStackFirewall) { f.Spec.ProviderID = "metal:///" + machineID })),
		"spec.providerID: Invalid value")
}

func TestValidateFirewall_UserDataIsASecretOfItsNamespace(t *testing.T) {
	t.Parallel()

	const stolen = `userData.namespace: Invalid value: "victim": must be the object's own namespace, which is "metal-stack", or left out`
	for name, test := range map[string]struct {
		ref  infrastructure.SecretReference
		want []string
	}{
		"by name":                    {ref: infrastructure.SecretReference{Name: "firewall"}},
		"of its own namespace":       {ref: infrastructure.SecretReference{Name: "firewall", Namespace: "metal-stack"}},
		"without a name":             {ref: infrastructure.SecretReference{}, want: []string{"userData.name: Required value: must be the name of a Secret"}},
		"by a name that is none":     {ref: infrastructure.SecretReference{Name: "fire/wall"}, want: []string{`userData.name: Invalid value: "fire/wall"`}},
		"of another namespace":       {ref: infrastructure.SecretReference{Name: "firewall", Namespace: "victim"}, want: []string{stolen}},
		"by a name that is too long": {ref: infrastructure.SecretReference{Name: strings.Repeat("x", 254)}, want: []string{"userData.name: Too long: may not be more than 253 bytes"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			says(t, ValidateFirewall(firewall(func(f *infrastructure.MetalStackFirewall) { f.Spec.UserData = &test.ref })), test.want...)
			says(t, ValidateCluster(cluster(func(c *infrastructure.MetalStackCluster) { c.Spec.FirewallSpec.UserData = &test.ref })), test.want...)
			template := &infrastructure.MetalStackClusterTemplate{ObjectMeta: cluster().ObjectMeta}
			template.Spec.Template.Spec.FirewallSpec = firewall(func(f *infrastructure.MetalStackFirewall) { f.Spec.UserData = &test.ref }).Spec.DeepCopy()
			says(t, ValidateClusterTemplate(template), test.want...)
		})
	}
}
