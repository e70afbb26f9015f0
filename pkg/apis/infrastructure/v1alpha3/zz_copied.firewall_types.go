// Code generated from ../v1alpha4/firewall_types.go by hack/update-codegen.sh. DO NOT EDIT.

package v1alpha3

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +genclient:method=Allocate,verb=create,subresource=allocation,input=Allocation,result=MetalStackFirewall
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackFirewall is one server that stands between the private network of a
// cluster and the networks outside: it routes, translates addresses and
// filters. Usually the controller makes it from spec.firewallSpec of the
// MetalStackCluster. The label `cluster.x-k8s.io/cluster-name` says which
// cluster it guards.
type MetalStackFirewall struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata. The name becomes the server's
	// hostname and a label in metal-stack, so it is at most 63 lower-case
	// letters, digits, dashes and dots. A hostname has no dots: it gets dashes for
	// them, and a hash of the name at its end.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what you want of the firewall. All of it but the provider ID,
	// which can be set once, is fixed as soon as the server has been allocated:
	// a firewall is replaced, not changed.
	// +optional
	Spec MetalStackFirewallSpec `json:"spec,omitempty"`
	// status is what is known of the firewall. Nobody but the API server and its
	// controllers writes it.
	// +optional
	Status MetalStackFirewallStatus `json:"status,omitempty"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackFirewallList is a list of MetalStackFirewall.
type MetalStackFirewallList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list's metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the firewalls.
	Items []MetalStackFirewall `json:"items"`
}

// MetalStackFirewallSpec needs an image and a machineType; all else can be left
// out.
type MetalStackFirewallSpec struct {
	// image is the operating system to install, one that metal-stack knows as a
	// firewall: a full image id such as `firewall-ubuntu-3.0.20260101`, or an
	// alias such as `firewall-ubuntu-3.0`, for which the metal-api takes the
	// newest. `metalctl image list` shows those there are.
	// +required
	// +k8s:validation:maxLength=253
	Image string `json:"image,omitempty"`

	// machineType is the size of the server in metal-stack's words: cores,
	// memory and disks under one name, such as `n1-medium-x86`. `metalctl size
	// list` shows those there are.
	// +required
	// +k8s:validation:maxLength=253
	MachineType string `json:"machineType,omitempty"`

	// partition is the metal-stack partition that the server is taken from. It
	// defaults to that of the firewall's cluster, and can hardly be another.
	// +optional
	// +k8s:validation:maxLength=63
	Partition string `json:"partition,omitempty"`

	// providerID names the server. You set it only to ask for a certain server;
	// left empty, any server of the size will do, and the chosen one's id is
	// written here as `metal://<partition>/<id>`. `metalstack://<id>` and
	// `metal:///<id>` are accepted too, and kept as you wrote them. The id is a
	// UUID. It cannot be changed once it is set.
	// +optional
	// +k8s:validation:maxLength=128
	ProviderID string `json:"providerID,omitempty"`

	// sshKeys are public keys, as in ~/.ssh/authorized_keys, that may log in to
	// the firewall: `ssh-ed25519 AAAA… you@example.org`.
	// There are at most 32, each one line of at most 16 KiB, with a comment of at
	// most 1 KiB.
	// +optional
	// +listType=atomic
	// +k8s:validation:maxItems=32
	// +k8s:validation:items:maxLength=16384
	SSHKeys []string `json:"sshKeys,omitempty"`

	// networks are the ids of further external networks that the firewall
	// connects the cluster to, besides the cluster's private network and its
	// publicNetworkID.
	// There are at most 12.
	// +optional
	// +listType=set
	// +k8s:validation:maxItems=12
	// +k8s:validation:items:maxLength=253
	Networks []string `json:"networks,omitempty"`

	// rules say what the firewall lets through from its first boot on. Without
	// them metal-stack's defaults apply.
	// +optional
	Rules *FirewallRules `json:"rules,omitempty"`
}

// FirewallRules hold for all machines behind the firewall.
// +structType=granular
type FirewallRules struct {
	// egress rules allow connections out of the private network.
	// There are at most 100.
	// +optional
	// +listType=atomic
	// +k8s:validation:maxItems=100
	Egress []FirewallEgressRule `json:"egress,omitempty"`
	// ingress rules allow connections into the private network.
	// There are at most 100.
	// +optional
	// +listType=atomic
	// +k8s:validation:maxItems=100
	Ingress []FirewallIngressRule `json:"ingress,omitempty"`
}

// FirewallEgressRule needs ports and to.
type FirewallEgressRule struct {
	// protocol is `tcp` or `udp`; `tcp` if it is left out.
	// +optional
	// +k8s:validation:maxLength=3
	Protocol string `json:"protocol,omitempty"`
	// ports are the destination ports, from 0 to 65535: `[443, 8443]`.
	// There are at most 100.
	// +required
	// +listType=atomic
	// +k8s:validation:maxItems=100
	Ports []int32 `json:"ports,omitempty"`
	// to are the destinations, as prefixes: `["0.0.0.0/0"]`. IPv4 and IPv6 do
	// not mix in one rule.
	// There are at most 100.
	// +required
	// +listType=atomic
	// +k8s:validation:maxItems=100
	// +k8s:validation:items:maxLength=64
	To []string `json:"to,omitempty"`
	// comment says what the rule is for, in at most 100 letters, spaces, dashes
	// and underscores; it is written into the firewall's configuration.
	// +optional
	// +k8s:validation:maxLength=100
	Comment string `json:"comment,omitempty"`
}

// FirewallIngressRule needs ports and from.
type FirewallIngressRule struct {
	// protocol is `tcp` or `udp`; `tcp` if it is left out.
	// +optional
	// +k8s:validation:maxLength=3
	Protocol string `json:"protocol,omitempty"`
	// ports are the destination ports, from 0 to 65535: `[443, 8443]`.
	// There are at most 100.
	// +required
	// +listType=atomic
	// +k8s:validation:maxItems=100
	Ports []int32 `json:"ports,omitempty"`
	// to are the destinations inside, as prefixes: `["10.0.12.0/22"]`. IPv4 and
	// IPv6 do not mix in one rule, neither here nor with from.
	// There are at most 100.
	// +optional
	// +listType=atomic
	// +k8s:validation:maxItems=100
	// +k8s:validation:items:maxLength=64
	To []string `json:"to,omitempty"`
	// from are the sources, as prefixes: `["203.0.113.0/24"]`.
	// There are at most 100.
	// +required
	// +listType=atomic
	// +k8s:validation:maxItems=100
	// +k8s:validation:items:maxLength=64
	From []string `json:"from,omitempty"`
	// comment says what the rule is for, in at most 100 letters, spaces, dashes
	// and underscores; it is written into the firewall's configuration.
	// +optional
	// +k8s:validation:maxLength=100
	Comment string `json:"comment,omitempty"`
}

// MetalStackFirewallStatus has two halves, as that of a machine: metal, and
// ready, addresses and failureDomain, which follow from it, are read from the
// metal-api; initialization, conditions and allocation are recorded.
type MetalStackFirewallStatus struct {
	// ready is true while the firewall runs: it has phoned home in its present
	// allocation, and is alive. It goes back to false when that ends; the Ready
	// condition says why.
	// +optional
	Ready bool `json:"ready"`

	// initialization holds what never goes back once it was reached.
	// +optional
	Initialization Initialization `json:"initialization,omitempty,omitzero"`

	// addresses are the firewall's addresses and names.
	// +optional
	// +listType=atomic
	Addresses []MachineAddress `json:"addresses,omitempty"`

	// failureDomain is the partition that the firewall stands in.
	// +optional
	FailureDomain string `json:"failureDomain,omitempty"`

	// conditions say what has been reached and what is in the way:
	//   - Ready sums up. Its reason is PhonedHome while the server runs; otherwise
	//     NotAllocated, Allocating, Provisioning, Unreachable, CrashLoop,
	//     FailedReclaim, AllocationGone, NotObserved, Releasing or Released, or the reason
	//     of Allocated for which an allocation or a release does not go on.
	//   - Allocated is about the allocation. AllocationRefused and ReleaseRefused:
	//     the message says why. MetalAPIUnavailable: the metal-api or one of its
	//     backends does not answer. AllocationUncertain and ReleaseUncertain: an
	//     answer was lost, and the outcome is looked for. AllocationGone: the
	//     allocation ended without a release by this server. OwnershipMismatch: at the release
	//     the machine had another allocation, and was not touched.
	//     WaitingForClusterInfrastructure: the cluster's network is not there yet.
	//   - Deleting says what a deletion waits for: OwnerNotFound, OwnerLookupFailed,
	//     GarbageCollected, ReleaseRefused, MarkedBeforeTakeover or
	//     MetalAPIUnavailable; Releasing if for nothing.
	//   - Paused is True while the controller does not reconcile the object.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +k8s:validation:maxItems=32
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// metal is the server itself, as the metal-api shows it now. It is never
	// stored, so it is never out of date by more than the last look; an answer
	// that could not be confirmed comes with a warning.
	// +optional
	Metal *Metal `json:"metal,omitempty"`

	// allocation is the API server's record of which metal this object holds. It
	// is there from the first attempt on.
	// +optional
	Allocation *MachineAllocation `json:"allocation,omitempty"`

	// deletion is the API server's record of the request that deleted this
	// object. It is set together with metadata.deletionTimestamp; objects that were
	// marked by an earlier version do not have it.
	// +optional
	Deletion *Deletion `json:"deletion,omitempty"`
}
