// SPDX-License-Identifier: Apache-2.0

package v2

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// Firewall is the configuration of a firewall for the firewall-controller that runs on it.
// It is read-only: it follows from the MetalStackFirewall whose hostname it has as its
// name. It exists from when that is allocated with spec.controller until its machine is
// released: a firewall-controller that finds its Firewall gone drops its rules, and then
// the firewall forwards everything.
type Firewall struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata. The name is the firewall's hostname.
	// Labels, uid, resourceVersion and times are those of the MetalStackFirewall. The
	// generation is another one, in no order, whenever anything changes that the
	// firewall-controller reads, the distance among it.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the firewall-controller does.
	// +optional
	Spec FirewallSpec `json:"spec,omitempty"`
	// status is the state of the firewall.
	// +optional
	Status FirewallStatus `json:"status,omitempty"`
	// distance is by how much the firewall lengthens the AS path of its routes in BGP, from 0
	// to 8: of two firewalls of a cluster, the one with the shorter distance has the traffic.
	// +optional
	Distance int32 `json:"distance"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// FirewallList is a list of Firewall.
type FirewallList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list's metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the firewalls.
	Items []Firewall `json:"items"`
}

// FirewallSpec is what a firewall-controller does.
type FirewallSpec struct {
	// size is the metal-stack size of the firewall.
	// +optional
	Size string `json:"size"`
	// image is the full id of the image that the firewall was installed with.
	// +optional
	Image string `json:"image"`
	// partition is the metal-stack partition of the firewall.
	// +optional
	Partition string `json:"partition"`
	// project is the metal-stack project of the firewall.
	// +optional
	Project string `json:"project"`
	// networks are the ids of the networks that the firewall has joined, without the
	// underlay.
	// +optional
	// +listType=atomic
	Networks []string `json:"networks"`

	// sshPublicKeys are the keys that may log in to the firewall. The firewall-controller
	// replaces authorized_keys with them.
	// +optional
	// +listType=atomic
	SSHPublicKeys []string `json:"sshPublicKeys,omitempty"`
	// rateLimits limit what the firewall receives from networks.
	// +optional
	// +listType=atomic
	RateLimits []RateLimit `json:"rateLimits,omitempty"`
	// internalPrefixes are prefixes whose traffic is counted as internal.
	// +optional
	// +listType=atomic
	InternalPrefixes []string `json:"internalPrefixes,omitempty"`
	// egressRules are the source addresses of connections into networks.
	// +optional
	// +listType=atomic
	EgressRules []EgressRuleSNAT `json:"egressRules,omitempty"`

	// interval is how often the firewall-controller computes its rules, as in `10s`.
	// +optional
	Interval string `json:"interval,omitempty"`

	// controllerVersion is the version that the firewall-controller updates itself to.
	// +optional
	ControllerVersion string `json:"controllerVersion,omitempty"`
	// controllerURL is where that version is downloaded from.
	// +optional
	ControllerURL string `json:"controllerURL,omitempty"`
	// nftablesExporterVersion is the version that the nftables exporter is updated to.
	// +optional
	NftablesExporterVersion string `json:"nftablesExporterVersion,omitempty"`
	// nftablesExporterURL is where that version is downloaded from.
	// +optional
	NftablesExporterURL string `json:"nftablesExporterURL,omitempty"`

	// logAcceptedConnections is true if accepted connections are logged, not only dropped
	// ones.
	// +optional
	LogAcceptedConnections bool `json:"logAcceptedConnections,omitempty"`
	// dnsServerAddress is the address of the DNS server that resolves names in policies.
	// +optional
	DNSServerAddress string `json:"dnsServerAddress,omitempty"`
	// allowedNetworks limit what policies and Services of the workload cluster can open.
	// +optional
	AllowedNetworks AllowedNetworks `json:"allowedNetworks,omitempty,omitzero"`
}

// RateLimit limits what a firewall receives from a network.
type RateLimit struct {
	// networkID is the id of the network.
	// +optional
	NetworkID string `json:"networkID"`
	// rate is the limit in MiB/s.
	// +optional
	Rate int64 `json:"rate"`
}

// EgressRuleSNAT is the source addresses of connections into a network.
type EgressRuleSNAT struct {
	// networkID is the id of the network.
	// +optional
	NetworkID string `json:"networkID"`
	// ips are the source addresses.
	// +optional
	// +listType=atomic
	IPs []string `json:"ips"`
}

// AllowedNetworks limit what policies and Services of the workload cluster can open.
type AllowedNetworks struct {
	// ingress are the prefixes at which Services can be reached.
	// +optional
	// +listType=atomic
	Ingress []string `json:"ingress,omitempty"`
	// egress are the prefixes to which connections can be allowed.
	// +optional
	// +listType=atomic
	Egress []string `json:"egress,omitempty"`
}

// FirewallStatus is the state of a firewall.
type FirewallStatus struct {
	// machineStatus is the machine in the metal-api.
	// +optional
	MachineStatus *MachineStatus `json:"machineStatus,omitempty"`
	// firewallNetworks are the networks that the firewall has joined, the private network of
	// the cluster and the underlay among them.
	// +optional
	// +listType=atomic
	FirewallNetworks []FirewallNetwork `json:"firewallNetworks,omitempty"`
	// shootAccess is how the firewall-controller reaches the workload cluster; it is missing
	// until the workload cluster can be reached.
	// +optional
	ShootAccess *ShootAccess `json:"shootAccess,omitempty"`
}

// MachineStatus is the machine of a firewall in the metal-api.
type MachineStatus struct {
	// machineID is the machine's id in metal-stack.
	// +optional
	MachineID string `json:"machineID"`
	// allocationTimestamp is when it was allocated.
	// +optional
	AllocationTimestamp metav1.Time `json:"allocationTimestamp"`
	// liveliness is whether the machine sends events: `Alive`, `Unknown` or `Dead`.
	// +optional
	Liveliness string `json:"liveliness"`
	// crashLoop is true if its provisioning repeatedly restarts at an earlier step.
	// +optional
	CrashLoop bool `json:"crashLoop,omitempty"`
	// lastEvent is its newest provisioning event.
	// +optional
	LastEvent *MachineLastEvent `json:"lastEvent,omitempty"`
}

// MachineLastEvent is a provisioning event.
type MachineLastEvent struct {
	// event is its kind, such as `Phoned Home`.
	// +optional
	Event string `json:"event"`
	// timestamp is when it was sent.
	// +optional
	Timestamp metav1.Time `json:"timestamp"`
	// message is the event's message.
	// +optional
	Message string `json:"message"`
}

// FirewallNetwork is a network that a firewall has joined.
type FirewallNetwork struct {
	// asn is the firewall's autonomous system number in BGP.
	// +optional
	ASN *int64 `json:"asn"`
	// destinationPrefixes are what is reached through the network.
	// +optional
	// +listType=atomic
	DestinationPrefixes []string `json:"destinationPrefixes,omitempty"`
	// ips are the firewall's addresses in it.
	// +optional
	// +listType=atomic
	IPs []string `json:"ips,omitempty"`
	// nat is true if the source address of connections through it is translated.
	// +optional
	Nat *bool `json:"nat"`
	// networkID is the network's id in metal-stack.
	// +optional
	NetworkID *string `json:"networkID"`
	// networkType is the metal-api's: `external`, `underlay`, `privateprimaryunshared`,
	// `privateprimaryshared`, `privatesecondaryshared` or `privatesecondaryunshared`.
	// +optional
	NetworkType *string `json:"networkType"`
	// prefixes are the network's address ranges.
	// +optional
	// +listType=atomic
	Prefixes []string `json:"prefixes,omitempty"`
	// vrf is the number of the network's virtual routing table.
	// +optional
	Vrf *int64 `json:"vrf"`
}

// ShootAccess is how a firewall-controller reaches the workload cluster.
type ShootAccess struct {
	// genericKubeconfigSecretName is the name of the Secret with a kubeconfig, under
	// `kubeconfig`.
	// +optional
	GenericKubeconfigSecretName string `json:"genericKubeconfigSecretName"`
	// tokenSecretName is the name of the Secret with the token, under `token`.
	// +optional
	TokenSecretName string `json:"tokenSecretName"`
	// namespace is that of both Secrets.
	// +optional
	Namespace string `json:"namespace"`
	// apiServerURL is the URL of the workload cluster's API server.
	// +optional
	APIServerURL string `json:"apiServerURL"`
}
