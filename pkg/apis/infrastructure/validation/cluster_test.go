// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"strings"
	"testing"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

type clusterEdit = func(*infrastructure.MetalStackCluster)

// hosted is a cluster whose control plane's provider brings the endpoint, and has not yet.
func hosted(c *infrastructure.MetalStackCluster) {
	c.Spec.ControlPlaneEndpointProvider = infrastructure.EndpointOfControlPlane
	c.Spec.ControlPlaneEndpoint = infrastructure.APIEndpoint{}
}

func TestValidateCluster(t *testing.T) {
	t.Parallel()

	for name, test := range map[string]struct {
		edit clusterEdit
		want []string
	}{
		"of the provider's documentation": {edit: func(*infrastructure.MetalStackCluster) {}},
		"may leave the address, the network and the firewall to the server": {
			edit: func(c *infrastructure.MetalStackCluster) {
				c.Spec = infrastructure.MetalStackClusterSpec{Partition: "vagrant", PublicNetworkID: "internet-vagrant-lab"}
			},
		},
		"needs no public network if it has an address and no firewall": {
			edit: func(c *infrastructure.MetalStackCluster) { c.Spec.PublicNetworkID, c.Spec.FirewallSpec = "", nil },
		},
		"needs a public network to allocate an address in": {
			edit: func(c *infrastructure.MetalStackCluster) {
				c.Spec.PublicNetworkID, c.Spec.FirewallSpec, c.Spec.ControlPlaneEndpoint.Host = "", nil, ""
			},
			want: []string{"spec.publicNetworkID: Required value: must be the network to allocate the control plane's address in"},
		},
		"needs no public network if the control plane's provider brings the endpoint": {
			edit: func(c *infrastructure.MetalStackCluster) {
				hosted(c)
				c.Spec.PublicNetworkID, c.Spec.FirewallSpec = "", nil
			},
		},
		"needs a public network for its firewall, whoever provides the endpoint": {
			edit: func(c *infrastructure.MetalStackCluster) {
				hosted(c)
				c.Spec.PublicNetworkID = ""
			},
			want: []string{"spec.publicNetworkID: Required value: must be the network that the firewall connects the cluster to"},
		},
		"provider of the endpoint is one of two": {
			edit: func(c *infrastructure.MetalStackCluster) { c.Spec.ControlPlaneEndpointProvider = "Kamaji" },
			want: []string{`spec.controlPlaneEndpointProvider: Unsupported value: "Kamaji": supported values: "Infrastructure", "ControlPlane"`},
		},
		"provider of the endpoint is not long": {
			edit: func(c *infrastructure.MetalStackCluster) {
				c.Spec.ControlPlaneEndpointProvider = infrastructure.EndpointProvider(strings.Repeat("x", 64))
			},
			want: []string{"spec.controlPlaneEndpointProvider: Too long: may not be more than 63 bytes"},
		},
		"needs a public network for its firewall": {
			edit: func(c *infrastructure.MetalStackCluster) { c.Spec.PublicNetworkID = "" },
			want: []string{"spec.publicNetworkID: Required value: must be the network that the firewall connects the cluster to"},
		},
		"needs a partition": {
			edit: func(c *infrastructure.MetalStackCluster) { c.Spec.Partition = "" },
			want: []string{"spec.partition: Required value"},
		},
		"host may be a name": {
			edit: func(c *infrastructure.MetalStackCluster) { c.Spec.ControlPlaneEndpoint.Host = "api.example.org" },
		},
		"host may be an IPv6 address": {
			edit: func(c *infrastructure.MetalStackCluster) { c.Spec.ControlPlaneEndpoint.Host = "2001:db8::7" },
		},
		"host has no port": {
			edit: func(c *infrastructure.MetalStackCluster) { c.Spec.ControlPlaneEndpoint.Host = "203.0.113.7:6443" },
			want: []string{`spec.controlPlaneEndpoint.host: Invalid value: "203.0.113.7:6443": must be an IP address`},
		},
		"host is no address with a slip": {
			edit: func(c *infrastructure.MetalStackCluster) { c.Spec.ControlPlaneEndpoint.Host = "203.0.113.777" },
			want: []string{`spec.controlPlaneEndpoint.host: Invalid value: "203.0.113.777"`},
		},
		"host can be reached": {
			edit: func(c *infrastructure.MetalStackCluster) { c.Spec.ControlPlaneEndpoint.Host = "0.0.0.0" },
			want: []string{"must be an address that clients can reach"},
		},
		"host has one spelling": {
			edit: func(c *infrastructure.MetalStackCluster) { c.Spec.ControlPlaneEndpoint.Host = "::ffff:203.0.113.7" },
			want: []string{"must be an address that clients can reach"},
		},
		"host localhost": {
			edit: func(c *infrastructure.MetalStackCluster) { c.Spec.ControlPlaneEndpoint.Host = "localhost" },
			want: []string{`spec.controlPlaneEndpoint.host: Invalid value: "localhost": must not be a loopback name; must be an IP address`},
		},
		"port is one": {
			edit: func(c *infrastructure.MetalStackCluster) { c.Spec.ControlPlaneEndpoint.Port = 65536 },
			want: []string{"spec.controlPlaneEndpoint.port: Invalid value: 65536: must be between 1 and 65535"},
		},
		"project is a UUID": {
			edit: func(c *infrastructure.MetalStackCluster) { c.Spec.ProjectID = "my-project" },
			want: []string{`spec.projectID: Invalid value: "my-project": must be the id of a metal-stack project`},
		},
		"private network is not the public one": {
			edit: func(c *infrastructure.MetalStackCluster) { c.Spec.PrivateNetworkID = c.Spec.PublicNetworkID },
			want: []string{"spec.privateNetworkID: Invalid value"},
		},
		"cluster id is a label value": {
			edit: func(c *infrastructure.MetalStackCluster) { c.Spec.ClusterID = "team a/web" },
			want: []string{`spec.clusterID: Invalid value: "team a/web": must be a valid label value, since it becomes a label of Nodes`},
		},
		"access to the metal-api may name nothing": {
			edit: func(c *infrastructure.MetalStackCluster) { c.Spec.MetalAPIAccess = &infrastructure.MetalAPIAccess{} },
		},
		"access to the metal-api names networks, each once": {
			edit: func(c *infrastructure.MetalStackCluster) {
				c.Spec.MetalAPIAccess = &infrastructure.MetalAPIAccess{AdditionalNetworkIDs: []string{"mpls", "", "a/b", "mpls"}}
			},
			want: []string{
				"spec.metalAPIAccess.additionalNetworkIDs[1]: Required value",
				`spec.metalAPIAccess.additionalNetworkIDs[2]: Invalid value: "a/b"`,
				`spec.metalAPIAccess.additionalNetworkIDs[3]: Duplicate value: "mpls"`,
			},
		},
		"access to the metal-api names a bounded number of networks": {
			edit: func(c *infrastructure.MetalStackCluster) {
				c.Spec.MetalAPIAccess = &infrastructure.MetalAPIAccess{AdditionalNetworkIDs: make([]string, maxNetworks+1)}
			},
			want: []string{"spec.metalAPIAccess.additionalNetworkIDs: Too many: 13: must have at most 12 items"},
		},
		"firewall is looked at like any other": {
			edit: func(c *infrastructure.MetalStackCluster) {
				c.Spec.FirewallSpec = &infrastructure.MetalStackFirewallSpec{ProviderID: "metal://fra-equ01/" + machineID}
			},
			want: []string{
				"spec.firewallSpec.image: Required value",
				"spec.firewallSpec.machineType: Required value",
				"spec.firewallSpec.providerID: Invalid value",
			},
		},
		"firewall stands in the cluster's partition": {
			edit: func(c *infrastructure.MetalStackCluster) { c.Spec.FirewallSpec.Partition = "fra-equ01" },
			want: []string{`spec.firewallSpec.partition: Invalid value: "fra-equ01": must be the cluster's partition, "vagrant"`},
		},
		"firewall is in the cluster's networks anyway": {
			edit: func(c *infrastructure.MetalStackCluster) {
				c.Spec.FirewallSpec.Networks = []string{"mpls", "internet-vagrant-lab"}
			},
			want: []string{`spec.firewallSpec.networks[1]: Duplicate value: "internet-vagrant-lab"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			says(t, ValidateCluster(cluster(test.edit)), test.want...)
		})
	}
}

func TestValidateClusterUpdate_PlacementIsImmutable(t *testing.T) {
	t.Parallel()

	empty := func(c *infrastructure.MetalStackCluster) {
		c.Spec.ProjectID, c.Spec.PrivateNetworkID, c.Spec.ControlPlaneEndpoint.Host = "", "", ""
	}
	set := func(id, host string) clusterEdit {
		return func(c *infrastructure.MetalStackCluster) {
			c.Spec.ProjectID, c.Spec.PrivateNetworkID, c.Spec.ControlPlaneEndpoint.Host = id, id, host
		}
	}
	allocated := func(c *infrastructure.MetalStackCluster) {
		c.Status.Allocation = &infrastructure.ClusterAllocation{AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocated}}
	}

	says(t, ValidateClusterUpdate(cluster(set(machineID, "100.255.254.1")), cluster(empty)))
	says(t, ValidateClusterUpdate(cluster(set(otherID, "100.255.254.2")), cluster(set(machineID, "100.255.254.1"))),
		"spec.projectID: Invalid value",
		`spec.privateNetworkID: Invalid value: "`+otherID+`": field is immutable once set, and is "`+machineID+`": create another cluster for another network`)
	says(t, ValidateClusterUpdate(cluster(allocated, set(otherID, "100.255.254.2")), cluster(allocated, set(otherID, "100.255.254.1"))),
		`spec.controlPlaneEndpoint.host: Invalid value: "100.255.254.2": field is immutable once set, and is "100.255.254.1": the allocation of the cluster's infrastructure has begun`)
	says(t, ValidateClusterUpdate(cluster(allocated, set(otherID, "100.255.254.2")), cluster(allocated, empty)))

	withID := func(id string) clusterEdit {
		return func(c *infrastructure.MetalStackCluster) { c.Spec.ClusterID = id }
	}
	says(t, ValidateClusterUpdate(cluster(withID("web")), cluster()))
	says(t, ValidateClusterUpdate(cluster(withID("shop")), cluster(withID("web"))),
		`spec.clusterID: Invalid value: "shop": field is immutable once set, and is "web": metal of the cluster carries it`)
	recorded := func(c *infrastructure.MetalStackCluster) {
		allocated(c)
		c.Status.Allocation.UID = "uid"
	}
	says(t, ValidateClusterUpdate(cluster(recorded, withID("web")), cluster(recorded)), `spec.clusterID: Invalid value: "web": field is immutable`)
	says(t, ValidateClusterUpdate(cluster(recorded, withID("uid")), cluster(recorded)))

	move := func(c *infrastructure.MetalStackCluster) {
		c.Spec.PublicNetworkID, c.Spec.ControlPlaneEndpoint.Port = "internet-2", 443
	}
	says(t, ValidateClusterUpdate(cluster(move), cluster()))
	says(t, ValidateClusterUpdate(cluster(allocated, move), cluster(allocated)),
		"spec.controlPlaneEndpoint.port: Invalid value", "spec.publicNetworkID: Invalid value")

	says(t, ValidateClusterUpdate(cluster(func(c *infrastructure.MetalStackCluster) { c.Spec.Partition = "fra-equ01" }), cluster()),
		`spec.partition: Invalid value: "fra-equ01": field is immutable`)
}

func TestValidateClusterUpdate_MetalAPIAccessMayChange(t *testing.T) {
	t.Parallel()

	allocated := func(c *infrastructure.MetalStackCluster) {
		c.Status.Allocation = &infrastructure.ClusterAllocation{AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocated}}
	}
	with := func(networks ...string) clusterEdit {
		return func(c *infrastructure.MetalStackCluster) {
			c.Spec.MetalAPIAccess = &infrastructure.MetalAPIAccess{AdditionalNetworkIDs: networks}
		}
	}
	says(t, ValidateClusterUpdate(cluster(allocated, with()), cluster(allocated)))
	says(t, ValidateClusterUpdate(cluster(allocated, with("mpls")), cluster(allocated, with("internet-2"))))
	says(t, ValidateClusterUpdate(cluster(allocated), cluster(allocated, with("mpls"))))
	says(t, ValidateClusterUpdate(cluster(allocated, with("..")), cluster(allocated)), `spec.metalAPIAccess.additionalNetworkIDs[0]: Invalid value: ".."`)
}

func TestValidateClusterUpdate_FirewallSpecMayChange(t *testing.T) {
	t.Parallel()

	allocated := func(c *infrastructure.MetalStackCluster) {
		c.Status.Allocation = &infrastructure.ClusterAllocation{AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocated}}
	}
	says(t, ValidateClusterUpdate(cluster(allocated, func(c *infrastructure.MetalStackCluster) {
		c.Spec.FirewallSpec.Image = "firewall-ubuntu-4.0"
	}), cluster(allocated)))
	says(t, ValidateClusterUpdate(cluster(allocated, func(c *infrastructure.MetalStackCluster) { c.Spec.FirewallSpec = nil }), cluster(allocated)))
}

func TestValidateClusterUpdate_EndpointOfHostedControlPlaneMayChange(t *testing.T) {
	t.Parallel()

	allocated := func(c *infrastructure.MetalStackCluster) {
		c.Status.Allocation = &infrastructure.ClusterAllocation{AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocated}}
	}
	at := func(host string, port int32) clusterEdit {
		return func(c *infrastructure.MetalStackCluster) {
			hosted(c)
			c.Spec.ControlPlaneEndpoint = infrastructure.APIEndpoint{Host: host, Port: port}
		}
	}
	says(t, ValidateClusterUpdate(cluster(allocated, at("api.example.org", 443)), cluster(allocated, hosted)))
	says(t, ValidateClusterUpdate(cluster(allocated, at("203.0.113.7", 6443)), cluster(allocated, at("api.example.org", 443))))
	says(t, ValidateClusterUpdate(cluster(allocated, at("127.0.0.1", 6443)), cluster(allocated, hosted)),
		`spec.controlPlaneEndpoint.host: Invalid value: "127.0.0.1"`)

	// What is allocated follows from it.
	explicit := func(c *infrastructure.MetalStackCluster) {
		c.Spec.ControlPlaneEndpointProvider = infrastructure.EndpointOfInfrastructure
	}
	says(t, ValidateClusterUpdate(cluster(hosted), cluster()))
	says(t, ValidateClusterUpdate(cluster(allocated, explicit), cluster(allocated)))
	says(t, ValidateClusterUpdate(cluster(allocated, hosted), cluster(allocated)),
		`spec.controlPlaneEndpointProvider: Invalid value: "ControlPlane": field is immutable: the allocation of the cluster's infrastructure has begun`,
		"spec.controlPlaneEndpoint.host: Invalid value", "spec.controlPlaneEndpoint.port: Invalid value")
	says(t, ValidateClusterUpdate(cluster(allocated), cluster(allocated, at("100.255.254.1", 6443))),
		`spec.controlPlaneEndpointProvider: Invalid value: "": field is immutable: the allocation of the cluster's infrastructure has begun`)
}

func TestValidateClusterStatusUpdate(t *testing.T) {
	t.Parallel()

	says(t, ValidateClusterStatusUpdate(cluster(func(c *infrastructure.MetalStackCluster) {
		c.Status.FailureDomains = []infrastructure.FailureDomain{{Name: "a"}, {Name: "a"}, {}}
	}), cluster()),
		`status.failureDomains[1].name: Duplicate value: "a"`, "status.failureDomains[2].name: Required value")
}

func TestValidateCluster_RefusesUnreachableEndpoint(t *testing.T) {
	t.Parallel()
	for _, host := range []string{
		"127.0.0.1", "127.1.2.3", "::1", "169.254.169.254", "fe80::1", "fe80::1%eth0", "0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "ff02::1",
		"255.255.255.255", "::ffff:169.254.169.254", "localhost", "api.localhost", "127.1", "2130706433", "0x7f000001", "LOCALHOST",
	} {
		says(t, ValidateCluster(cluster(func(c *infrastructure.MetalStackCluster) { c.Spec.ControlPlaneEndpoint.Host = host })),
			"spec.controlPlaneEndpoint.host: Invalid value: \""+host+"\"")
	}
	for _, host := range []string{"10.0.0.7", "192.168.1.7", "fd00::7", "203.0.113.7", "api.example.org", "localhost.example.org"} {
		says(t, ValidateCluster(cluster(func(c *infrastructure.MetalStackCluster) { c.Spec.ControlPlaneEndpoint.Host = host })))
	}
}
