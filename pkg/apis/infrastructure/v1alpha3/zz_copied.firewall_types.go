// Code generated from ../v1alpha4/firewall_types.go by hack/update-codegen.sh. DO NOT EDIT.

// SPDX-License-Identifier: Apache-2.0

package v1alpha3

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +genclient:method=Allocate,verb=create,subresource=allocation,input=Allocation,result=MetalStackFirewall
// +genclient:method=RequestPower,verb=create,subresource=power,input=MachinePower,result=MachinePower
// +genclient:method=GetPower,verb=get,subresource=power,result=MachinePower
// +genclient:method=Identify,verb=create,subresource=identify,input=MachineIdentify,result=MachineIdentify
// +genclient:method=ReadConsolePassword,verb=create,subresource=consolepassword,input=MachineConsolePassword,result=MachineConsolePassword
// +genclient:method=GetLog,verb=get,subresource=log,result=MachineLog
// +genclient:method=Reinstall,verb=create,subresource=reinstall,input=MachineReinstall,result=MachineReinstall
// +genclient:method=Lock,verb=create,subresource=lock,input=MachineLock,result=MachineLock
// +genclient:method=GetLock,verb=get,subresource=lock,result=MachineLock
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackFirewall is a firewall between the private network of a cluster and
// external networks: a machine that routes, translates addresses and filters.
// Usually the controller manager creates it from spec.firewallSpec of the
// MetalStackCluster. The label `cluster.x-k8s.io/cluster-name` says which cluster
// it belongs to.
type MetalStackFirewall struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata. The name becomes the machine's
	// hostname and a label in metal-stack, so it is at most 63 lower-case letters,
	// digits, dashes and dots. In the hostname, dots are replaced by dashes, and a
	// hash of the name is appended.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the desired state of the firewall. Once the allocation has begun, only
	// controller, provisioningTimeout and autoUpdate can be changed, and the provider ID can
	// be set once.
	// +optional
	Spec MetalStackFirewallSpec `json:"spec,omitempty"`
	// status is the observed state of the firewall. It is written by the API server
	// and the controller manager only.
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

// MetalStackFirewallSpec is the desired state of a MetalStackFirewall. The image and
// the machineType are required.
type MetalStackFirewallSpec struct {
	// image is the firewall image to install: a full image id such as
	// `firewall-ubuntu-3.0.20260101`, or an alias such as `firewall-ubuntu-3.0`, for
	// which the metal-api takes the newest version. `kubectl get metalstackimages` lists all.
	// +required
	// +k8s:validation:maxLength=253
	Image string `json:"image,omitempty"`

	// machineType is the metal-stack size of the firewall, which stands for cores,
	// memory and disks, such as `n1-medium-x86`. `kubectl get
	// metalstacksizes` lists all, and `kubectl get metalstackpartitions -o yaml` says how many
	// of each are available.
	// +required
	// +k8s:validation:maxLength=253
	MachineType string `json:"machineType,omitempty"`

	// partition is the metal-stack partition of the firewall. It defaults to that of
	// the firewall's cluster.
	// +optional
	// +k8s:validation:maxLength=63
	Partition string `json:"partition,omitempty"`

	// providerID identifies the machine of the firewall. If it is omitted, any machine
	// of the size is allocated, and its provider ID is written here as
	// `metal://<partition>/<id>`. Set it to request a certain machine.
	// `metalstack://<id>` and `metal:///<id>` are accepted, too, and kept as they are.
	// The id is a UUID. It cannot be changed once it is set.
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

	// userData references the Secret that holds, under the key `value`, the user data
	// for the firewall's first boot: cloud-init or ignition. It is read when the firewall is
	// allocated, so a later change of the Secret changes nothing; for other user data,
	// reference another Secret. While it does not exist, the allocation waits. A firewall
	// that is adopted keeps the user data that it has.
	// +optional
	UserData *SecretReference `json:"userData,omitempty"`

	// networks are the ids of further external networks that the firewall
	// connects the cluster to, besides the cluster's private network and its
	// publicNetworkID.
	// There are at most 12.
	// +optional
	// +listType=set
	// +k8s:validation:maxItems=12
	// +k8s:validation:items:maxLength=253
	Networks []string `json:"networks,omitempty"`

	// rules are the connections that the firewall allows from its first boot on.
	// Without rules it forwards nothing: machines behind it reach neither a registry nor
	// their control plane. With controller they hold until the firewall-controller has
	// computed its first rules.
	// +optional
	Rules *FirewallRules `json:"rules,omitempty"`

	// dnsServers are the IP addresses of the DNS servers that are configured at the first
	// boot. They default to those of the partition. There are at most 3.
	// +optional
	// +listType=atomic
	// +k8s:validation:maxItems=3
	// +k8s:validation:items:maxLength=64
	DNSServers []string `json:"dnsServers,omitempty"`

	// ntpServers are the IP addresses or DNS names of the NTP servers that are configured
	// at the first boot. They default to those of the partition. There are at most 5.
	// +optional
	// +listType=atomic
	// +k8s:validation:maxItems=5
	// +k8s:validation:items:maxLength=253
	NTPServers []string `json:"ntpServers,omitempty"`

	// filesystemLayout is the metal-stack layout of the file systems on the disks. If it
	// is omitted, the metal-api takes the one that fits the size and the image.
	// `metalctl filesystemlayout list` lists all.
	// +optional
	// +k8s:validation:maxLength=253
	FilesystemLayout string `json:"filesystemLayout,omitempty"`

	// controller configures the firewall-controller on the firewall, which turns
	// ClusterwideNetworkPolicies and Services of the workload cluster into rules while the
	// firewall runs. Without it the rules are fixed. Everything in it can be changed at any
	// time, and no change of it replaces a firewall. A firewall that was allocated without
	// it has no kubeconfig for its firewall-controller, and has to be replaced once.
	// +optional
	Controller *FirewallController `json:"controller,omitempty"`

	// provisioningTimeout is how long after its allocation a firewall may take to phone
	// home before it is replaced, from 10m to 24h: `1h`. It defaults to what the controller
	// manager is configured with, which is 1h unless an administrator changed it. It can be
	// changed at any time.
	// +optional
	ProvisioningTimeout *metav1.Duration `json:"provisioningTimeout,omitempty"`

	// autoUpdate replaces the firewall, if it is set, when image is an alias that stands for
	// a newer image by now: `{}` is enough. Without it, only the condition ImageUpToDate
	// tells of the newer image. It can be changed at any time.
	// +optional
	AutoUpdate *FirewallAutoUpdate `json:"autoUpdate,omitempty"`
}

// FirewallRules are the rules of a firewall, for all machines behind it.
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

// FirewallEgressRule allows outgoing connections. The ports and to are required.
type FirewallEgressRule struct {
	// protocol is `tcp` or `udp`. It defaults to `tcp`.
	// +optional
	// +k8s:validation:maxLength=3
	Protocol string `json:"protocol,omitempty"`
	// ports are the destination ports, from 0 to 65535: `[443, 8443]`.
	// There are at most 100.
	// +required
	// +listType=atomic
	// +k8s:validation:maxItems=100
	Ports []int32 `json:"ports,omitempty"`
	// to are the destinations, as prefixes: `["0.0.0.0/0"]`. IPv4 and IPv6
	// cannot be mixed in one rule.
	// There are at most 100.
	// +required
	// +listType=atomic
	// +k8s:validation:maxItems=100
	// +k8s:validation:items:maxLength=64
	To []string `json:"to,omitempty"`
	// comment describes the rule, in at most 100 letters, spaces, dashes and
	// underscores. It is written into the firewall's configuration.
	// +optional
	// +k8s:validation:maxLength=100
	Comment string `json:"comment,omitempty"`
}

// FirewallIngressRule allows incoming connections. The ports and from are required.
type FirewallIngressRule struct {
	// protocol is `tcp` or `udp`. It defaults to `tcp`.
	// +optional
	// +k8s:validation:maxLength=3
	Protocol string `json:"protocol,omitempty"`
	// ports are the destination ports, from 0 to 65535: `[443, 8443]`.
	// There are at most 100.
	// +required
	// +listType=atomic
	// +k8s:validation:maxItems=100
	Ports []int32 `json:"ports,omitempty"`
	// to are the destinations in the private network, as prefixes:
	// `["10.0.12.0/22"]`. IPv4 and IPv6 cannot be mixed in one rule, which includes
	// from.
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
	// comment describes the rule, in at most 100 letters, spaces, dashes and
	// underscores. It is written into the firewall's configuration.
	// +optional
	// +k8s:validation:maxLength=100
	Comment string `json:"comment,omitempty"`
}

// MetalStackFirewallStatus is the observed state of a MetalStackFirewall. The fields
// metal, ready, addresses and failureDomain are read from the metal-api, and not
// stored. The other fields are Kubernetes-only state, and are recorded.
type MetalStackFirewallStatus struct {
	// ready is true while the firewall runs: it has phoned home in its current
	// allocation, and is alive. It becomes false when that ends; the Ready condition
	// says why.
	// +optional
	Ready bool `json:"ready"`

	// initialization is set once, and never reset.
	// +optional
	Initialization Initialization `json:"initialization,omitempty,omitzero"`

	// addresses are the firewall's addresses and names.
	// +optional
	// +listType=atomic
	Addresses []MachineAddress `json:"addresses,omitempty"`

	// failureDomain is the firewall's partition.
	// +optional
	FailureDomain string `json:"failureDomain,omitempty"`

	// conditions are the observed conditions:
	//   - Ready is the summary. Its reason is PhonedHome while the machine runs; otherwise
	//     NotAllocated, Allocating, Provisioning, Unreachable, CrashLoop, Reinstalling,
	//     FailedReclaim, AllocationGone, NotObserved, Releasing or Released, or the reason
	//     of Allocated that holds up an allocation or a release.
	//   - Allocated is about the allocation. AllocationRefused and ReleaseRefused:
	//     the message says why. MetalAPIUnavailable: the metal-api or one of its
	//     backends does not answer. AllocationUncertain and ReleaseUncertain: the
	//     outcome of a call is unknown, and is being determined. AllocationGone: the
	//     allocation ended without a release by this server. OwnershipMismatch: at the release
	//     the machine had another allocation, and was not touched.
	//     WaitingForClusterInfrastructure: the cluster's network is not allocated yet.
	//     WaitingForBootstrapData and BootstrapDataInvalid: the Secret in spec.userData is
	//     missing, or a firewall cannot boot with its data, or no kubeconfig for the
	//     firewall-controller can be added to them. WaitingForFirewallAccess,
	//     ManagementURLMissing and AuthorityUnreadable: what that kubeconfig is made of is
	//     missing.
	//   - Deleting says what a deletion waits for: OwnerNotFound, OwnerLookupFailed,
	//     GarbageCollected, ReleaseRefused, MarkedBeforeTakeover or
	//     MetalAPIUnavailable; Releasing if nothing.
	//   - MatchesSpec is about the size and the image of the machine, if it was adopted
	//     or they are not those of the spec: MatchesSpec, OtherSize or OtherImage. It is no
	//     part of Ready.
	//   - ControllerConnected is about the firewall-controller, and is there only with
	//     spec.controller: Connected while it reports; otherwise NeverReported,
	//     ControllerSilent, NoKubeconfig if it was allocated without a kubeconfig of this
	//     management cluster, or, Unknown, WorkloadClusterUnreachable.
	//   - SeedConnected is about its connection to this management cluster: Connected while it
	//     reads its configuration; otherwise a reason of ControllerConnected.
	//   - DistanceApplied is about a distance that was changed while spec.controller was set:
	//     DistanceApplied while the firewall-controller reports it, otherwise DistancePending.
	//   - ImageUpToDate is False, with the reason NewerImageAvailable, while spec.image is an
	//     alias that stands for a newer image than is installed; otherwise it does not exist.
	//   - PowerRequested is about the power action in status.lastOperation: True with Sent or,
	//     when an event of the machine followed, EventObserved; Unknown with Requested or
	//     OutcomeUncertain; False with Refused.
	//   - Reinstalling is True while the machine is marked for a reinstallation, with Marked while
	//     it has not begun, Installing until the machine has phoned home, and CrashLoop if it
	//     crashed or returned to an earlier step. Otherwise it does not exist.
	//   - MetalIssues is True while the machine has issues that an operator of metal-stack looks
	//     after: CrashLoop, FailedReclaim, Dead, Silent, LastEventError, DuplicateAddress,
	//     DuplicateASN, or SeveralIssues. Otherwise it does not exist.
	//   - Paused is True while the controller manager does not reconcile the object.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +k8s:validation:maxItems=32
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// distance is by how much the firewall lengthens the AS path of its routes in BGP, from
	// 0 to 8: of two firewalls of a cluster, the one with the shorter distance has the
	// traffic. The controller manager sets it while one replaces the other.
	// +optional
	Distance int32 `json:"distance,omitempty"`

	// controller is what the firewall-controller last reported.
	// +optional
	Controller *FirewallControllerStatus `json:"controller,omitempty"`

	// managementAccess is which management cluster the user data of the firewall name. It is
	// written before the firewall is allocated, and is missing for one that was allocated
	// without spec.controller, and after the object was moved or restored.
	// +optional
	ManagementAccess *FirewallManagementAccess `json:"managementAccess,omitempty"`

	// workloadAccess is how the firewall-controller reaches the workload cluster. It is
	// missing until that can be reached.
	// +optional
	WorkloadAccess *FirewallWorkloadAccess `json:"workloadAccess,omitempty"`

	// metal is the machine in the metal-api. It is never stored: it is as recent as
	// the last observation, and an answer that is stale has a Warning header.
	// +optional
	Metal *Metal `json:"metal,omitempty"`

	// allocation is the API server's record of which metal this object holds. It is
	// set from the first attempt on.
	// +optional
	Allocation *MachineAllocation `json:"allocation,omitempty"`

	// lastOperation is the API server's record of the power action or reinstallation that was
	// requested last by a subresource of this object.
	// +optional
	LastOperation *MachineOperation `json:"lastOperation,omitempty"`

	// deletion is the API server's record of the request that deleted this
	// object. It is set together with metadata.deletionTimestamp; objects that were
	// marked by an earlier version do not have it.
	// +optional
	Deletion *Deletion `json:"deletion,omitempty"`
}
