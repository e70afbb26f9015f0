// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

func privateNetwork(ipv4, ipv6 int32, families ...string) *infrastructure.PrivateNetwork {
	return &infrastructure.PrivateNetwork{AddressFamilies: families, PrefixLengths: infrastructure.PrefixLengths{IPv4: ipv4, IPv6: ipv6}}
}

func TestValidateCluster_PrivateNetwork(t *testing.T) {
	t.Parallel()

	for name, test := range map[string]struct {
		network *infrastructure.PrivateNetwork
		want    []string
	}{
		"all of it":                {network: privateNetwork(22, 64, "IPv4", "IPv6")},
		"nothing of it":            {network: privateNetwork(0, 0)},
		"lengths alone":            {network: privateNetwork(1, 126)},
		"a family alone":           {network: privateNetwork(0, 0, "IPv6")},
		"a family that is none":    {network: privateNetwork(0, 0, "ipv4"), want: []string{`privateNetwork.addressFamilies[0]: Unsupported value: "ipv4": supported values: "IPv4", "IPv6"`}},
		"a family of many letters": {network: privateNetwork(0, 0, "IPv4andIPv6"), want: []string{"privateNetwork.addressFamilies[0]: Too long: may not be more than 4 bytes"}},
		"a family twice":           {network: privateNetwork(0, 0, "IPv4", "IPv4"), want: []string{`privateNetwork.addressFamilies[1]: Duplicate value: "IPv4"`}},
		"more families than two":   {network: privateNetwork(0, 0, "IPv4", "IPv6", "IPv4"), want: []string{"privateNetwork.addressFamilies: Too many: 3: must have at most 2 items"}},
		"lengths without a machine": {network: privateNetwork(31, 127), want: []string{
			"privateNetwork.prefixLengths.ipv4: Invalid value: 31: must be between 1 and 30, inclusive",
			"privateNetwork.prefixLengths.ipv6: Invalid value: 127: must be between 1 and 126, inclusive",
		}},
		"a length below zero":             {network: privateNetwork(-1, 0), want: []string{"privateNetwork.prefixLengths.ipv4: Invalid value: -1"}},
		"a length of the other family":    {network: privateNetwork(22, 0, "IPv6"), want: []string{"privateNetwork.prefixLengths.ipv4: Invalid value: 22: must be omitted, since addressFamilies lacks IPv4"}},
		"a length of no family that is 1": {network: privateNetwork(0, 64, "IPv4"), want: []string{"privateNetwork.prefixLengths.ipv6: Invalid value: 64: must be omitted, since addressFamilies lacks IPv6"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			edit := func(c *infrastructure.MetalStackCluster) { c.Spec.PrivateNetwork = test.network }
			says(t, ValidateCluster(cluster(edit)), test.want...)
			says(t, ValidateClusterUpdate(cluster(edit), cluster()), test.want...)
			template := &infrastructure.MetalStackClusterTemplate{ObjectMeta: cluster().ObjectMeta}
			template.Spec.Template.Spec.PrivateNetwork = test.network
			says(t, ValidateClusterTemplate(template), test.want...)
		})
	}
}

func TestValidatePrivateNetworkIn_NamesWhatThePartitionHas(t *testing.T) {
	t.Parallel()

	v4, dual := []string{"10.0.0.0/16", "10.4.0.0/14"}, []string{"10.0.0.0/16", "2001:db8::/64", "no prefix"}
	defaults := map[string]int64{"IPv4": 22}
	for name, test := range map[string]struct {
		network  *infrastructure.PrivateNetwork
		prefixes []string
		want     []string
	}{
		"nothing":                          {network: privateNetwork(0, 0), prefixes: v4},
		"a family that it has":             {network: privateNetwork(0, 0, "IPv4"), prefixes: v4},
		"lengths that fit":                 {network: privateNetwork(17, 96), prefixes: dual},
		"a length that fits in another":    {network: privateNetwork(15, 0), prefixes: v4},
		"both, with the length it lacks":   {network: privateNetwork(0, 96, "IPv4", "IPv6"), prefixes: dual},
		"a family that it does not have":   {network: privateNetwork(0, 96, "IPv4", "IPv6"), prefixes: v4, want: []string{`n.addressFamilies[1]: Unsupported value: "IPv6": supported values: "IPv4"`}},
		"a length of a family it has not":  {network: privateNetwork(0, 96), prefixes: v4, want: []string{"n.prefixLengths.ipv6: Invalid value: 96: must be omitted, since private networks of the partition have no IPv6 addresses"}},
		"a length that does not fit":       {network: privateNetwork(16, 64), prefixes: dual, want: []string{"n.prefixLengths.ipv4: Invalid value: 16: must be between 17 and 30, inclusive, since private networks of the partition are parts of a prefix of the length 16", "n.prefixLengths.ipv6: Invalid value: 64: must be between 65 and 126, inclusive"}},
		"a family without default length":  {network: privateNetwork(0, 0, "IPv4", "IPv6"), prefixes: dual, want: []string{"n.prefixLengths.ipv6: Required value: must be set, since the partition has no default"}},
		"a family, where there is nothing": {network: privateNetwork(0, 0, "IPv4"), want: []string{`n.addressFamilies[0]: Unsupported value: "IPv4"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			says(t, ValidatePrivateNetworkIn(test.network, test.prefixes, defaults, field.NewPath("n")), test.want...)
		})
	}
}

func TestValidateCluster_NamesItsPrivateNetworkOrSaysHowToAllocateIt(t *testing.T) {
	t.Parallel()

	const forbidden = "privateNetwork: Forbidden: must be omitted, since privateNetworkID names the network"
	named := func(c *infrastructure.MetalStackCluster) { c.Spec.PrivateNetworkID = otherID }
	described := func(c *infrastructure.MetalStackCluster) { c.Spec.PrivateNetwork = privateNetwork(22, 0) }
	other := func(c *infrastructure.MetalStackCluster) { c.Spec.PrivateNetwork = privateNetwork(24, 0) }
	allocating := func(c *infrastructure.MetalStackCluster) {
		c.Status.Allocation = &infrastructure.ClusterAllocation{AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocating}}
	}
	says(t, ValidateOneNetwork(cluster(named, described)), "spec."+forbidden)
	says(t, ValidateOneNetwork(cluster(named)))
	says(t, ValidateOneNetwork(cluster(described)))
	says(t, ValidateCluster(cluster(named, described)))
	template := &infrastructure.MetalStackClusterTemplate{ObjectMeta: cluster().ObjectMeta}
	template.Spec.Template.Spec = cluster(named, described).Spec
	says(t, ValidateClusterTemplate(template), "spec.template.spec."+forbidden)

	says(t, ValidateClusterUpdate(cluster(named, described), cluster(described)), "spec."+forbidden)
	says(t, ValidateClusterUpdate(cluster(named, described), cluster(named)), "spec.privateNetwork: Invalid value")
	says(t, ValidateClusterUpdate(cluster(other), cluster(described)))
	says(t, ValidateClusterUpdate(cluster(other, allocating), cluster(described, allocating)), "spec.privateNetwork: Invalid value")
	says(t, ValidateClusterUpdate(cluster(allocating), cluster(described, allocating)), "spec.privateNetwork: Invalid value")
	// The server writes which network was allocated, also if the address is refused.
	says(t, ValidateClusterUpdate(cluster(named, other), cluster(named, described)), "field is immutable: the allocation of the cluster's infrastructure has begun")
	says(t, ValidateClusterUpdate(cluster(named, described, func(c *infrastructure.MetalStackCluster) { c.Spec.FirewallSpec = nil }), cluster(named, described)))
}
