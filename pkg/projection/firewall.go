// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"encoding/json"
	"hash/fnv"
	"maps"
	"math"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	firewallv2 "metal-stack.io/infrastructure-apiserver/pkg/apis/firewall/v2"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

const (
	// defaultFirewallInterval is how often a firewall-controller computes its rules.
	defaultFirewallInterval = "10s"
	// underlayType is the type of the network that carries the fabric's own traffic.
	underlayType = "underlay"
)

// hasFirewallController is whether a firewall-controller is configured for a firewall, or was
// when the firewall was allocated. It runs for as long as the firewall does, and when it
// finds its Firewall gone, it drops its rules, and the firewall forwards everything. So
// without spec.controller it gets a Firewall with no more than what it needs.
func hasFirewallController(f *infrastructure.MetalStackFirewall) bool {
	return f.Spec.Controller != nil || f.Status.ManagementAccess != nil
}

// FirewallName returns the name of the Firewall of a MetalStackFirewall, which is the
// hostname that its machine was installed with; empty if it has none. It is the same as
// long as the allocation lasts.
func FirewallName(f *infrastructure.MetalStackFirewall) string {
	a, live := f.Status.Allocation, f.Status.Metal
	if !hasFirewallController(f) || a == nil || live == nil {
		return ""
	}
	switch a.Phase {
	case infrastructure.AllocationAllocated, infrastructure.AllocationReleasing:
		return live.Hostname
	}
	return ""
}

// IsFirewallUnknown is whether a MetalStackFirewall may have a Firewall that cannot be shown yet:
// its machine was not observed since the server started, or it names a machine, as after a
// restore or a move, that it has neither adopted nor been refused.
func IsFirewallUnknown(f *infrastructure.MetalStackFirewall) bool {
	if !hasFirewallController(f) || FirewallName(f) != "" {
		return false
	}
	a, live := ptr.Deref(f.Status.Allocation, infrastructure.MachineAllocation{}), ptr.Deref(f.Status.Metal, infrastructure.Metal{})
	switch a.Phase {
	case "":
		allocated := meta.FindStatusCondition(f.Status.Conditions, infrastructure.ConditionAllocated)
		isRefused := allocated != nil && allocated.Reason == infrastructure.ReasonAllocationRefused
		return f.Spec.ProviderID != "" && f.DeletionTimestamp == nil && !isRefused
	case infrastructure.AllocationAllocating:
		return f.Spec.ProviderID != ""
	case infrastructure.AllocationAllocated, infrastructure.AllocationReleasing:
		return live.Phase == infrastructure.PhaseUnknown
	}
	return false
}

// Firewall returns the Firewall of a MetalStackFirewall, or nil if it has none. They share
// nothing. It has no annotations: firewall-controller acts on one, and then tries to remove
// it.
func Firewall(f *infrastructure.MetalStackFirewall) *firewallv2.Firewall {
	name := FirewallName(f)
	if name == "" {
		return nil
	}
	firewall := &firewallv2.Firewall{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: f.Namespace, UID: f.UID, ResourceVersion: f.ResourceVersion, Labels: maps.Clone(f.Labels),
			CreationTimestamp: f.CreationTimestamp, DeletionTimestamp: f.DeletionTimestamp.DeepCopy(),
		},
		Spec:     firewallSpec(f),
		Status:   firewallv2.FirewallStatus{MachineStatus: firewallMachine(f.Status.Metal), ShootAccess: shootAccess(f)},
		Distance: f.Status.Distance,
	}
	for _, n := range f.Status.Metal.Networks {
		firewall.Status.FirewallNetworks = append(firewall.Status.FirewallNetworks, firewallNetwork(n))
		if n.Type != underlayType {
			firewall.Spec.Networks = append(firewall.Spec.Networks, n.ID)
		}
	}
	firewall.Generation = firewallGeneration(firewall)
	return firewall
}

// firewallSpec leaves out what is configured of networks that the firewall has not joined: with
// it, firewall-controller makes no rules at all. They may be those of a successor, whose
// configuration a firewall has, too.
func firewallSpec(f *infrastructure.MetalStackFirewall) firewallv2.FirewallSpec {
	live := f.Status.Metal
	spec := firewallv2.FirewallSpec{
		Size: live.Size, Image: live.Image, Partition: live.Partition, Project: live.Project, Networks: []string{},
		SSHPublicKeys: slices.Clone(f.Spec.SSHKeys), Interval: defaultFirewallInterval,
	}
	c := f.Spec.Controller
	if c == nil {
		return spec
	}
	if c.Interval != nil {
		spec.Interval = c.Interval.Duration.String()
	}
	isJoined := func(network string) bool {
		return slices.ContainsFunc(live.Networks, func(n infrastructure.MetalNetwork) bool { return n.ID == network })
	}
	for _, limit := range c.RateLimits {
		if !isJoined(limit.NetworkID) {
			continue
		}
		// firewall-controller has 32 bits for it, and reads no Firewall with more.
		spec.RateLimits = append(spec.RateLimits, firewallv2.RateLimit{NetworkID: limit.NetworkID, Rate: min(max(limit.Rate, 0), math.MaxUint32)})
	}
	for _, egress := range c.EgressIPs {
		if !isJoined(egress.NetworkID) {
			continue
		}
		spec.EgressRules = append(spec.EgressRules, firewallv2.EgressRuleSNAT{NetworkID: egress.NetworkID, IPs: append([]string{}, egress.IPs...)})
	}
	spec.InternalPrefixes = slices.Clone(c.InternalPrefixes)
	// Not slices.Clone: an empty list, which is none after it was recorded, must be none before.
	spec.AllowedNetworks.Ingress = append(spec.AllowedNetworks.Ingress, c.AllowedNetworks.Ingress...)
	spec.AllowedNetworks.Egress = append(spec.AllowedNetworks.Egress, c.AllowedNetworks.Egress...)
	spec.ControllerVersion, spec.ControllerURL = c.Version, c.URL
	spec.NftablesExporterVersion, spec.NftablesExporterURL = c.NftablesExporter.Version, c.NftablesExporter.URL
	spec.DNSServerAddress, spec.LogAcceptedConnections = c.DNSServer, c.LogAcceptedConnections
	return spec
}

func firewallMachine(live *infrastructure.Metal) *firewallv2.MachineStatus {
	m := &firewallv2.MachineStatus{MachineID: live.MachineID, Liveliness: live.Liveliness, CrashLoop: live.CrashLoop}
	if live.AllocationTime != nil {
		m.AllocationTimestamp = *live.AllocationTime
	}
	if e := live.LastEvent; e != nil {
		m.LastEvent = &firewallv2.MachineLastEvent{Event: e.Event, Message: e.Message}
		if e.Time != nil {
			m.LastEvent.Timestamp = *e.Time
		}
	}
	return m
}

// firewallNetwork leaves no pointer out, since firewall-controller follows them.
func firewallNetwork(n infrastructure.MetalNetwork) firewallv2.FirewallNetwork {
	return firewallv2.FirewallNetwork{
		NetworkID: ptr.To(n.ID), NetworkType: ptr.To(n.Type), ASN: ptr.To(n.ASN), Vrf: ptr.To(n.VRF), Nat: ptr.To(n.NAT),
		IPs: slices.Clone(n.IPs), Prefixes: slices.Clone(n.Prefixes), DestinationPrefixes: slices.Clone(n.DestinationPrefixes),
	}
}

func shootAccess(f *infrastructure.MetalStackFirewall) *firewallv2.ShootAccess {
	a := f.Status.WorkloadAccess
	if a == nil {
		return nil
	}
	return &firewallv2.ShootAccess{
		GenericKubeconfigSecretName: a.KubeconfigSecretName, TokenSecretName: a.TokenSecretName,
		Namespace: f.Namespace, APIServerURL: a.APIServerURL,
	}
}

// firewallGeneration identifies everything that a firewall-controller reads: it ignores
// changes without another generation. It need not increase, and is the same after a
// restart. 53 bits are what all JSON decoders can read.
func firewallGeneration(f *firewallv2.Firewall) int64 {
	read := *f
	read.ObjectMeta, read.Status.MachineStatus = metav1.ObjectMeta{}, nil
	sum := fnv.New64a()
	_ = json.NewEncoder(sum).Encode(&read) // Strings, numbers and lists of them can always be encoded.
	return max(int64(sum.Sum64()>>11), 1)
}

// addNetworkTypes adds to the networks of a machine what only a firewall-controller reads.
func addNetworkTypes(live *infrastructure.Metal, m *metal.Machine) {
	if m.Allocation == nil {
		return
	}
	for i, n := range sortedNetworks(m.Allocation.Networks) {
		live.Networks[i].Type = n.Type
		live.Networks[i].DestinationPrefixes = slices.Clone(n.DestinationPrefixes)
		slices.Sort(live.Networks[i].DestinationPrefixes)
	}
}
