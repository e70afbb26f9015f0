// Code generated from ../v1alpha4/machine_types.go by hack/update-codegen.sh. DO NOT EDIT.

// SPDX-License-Identifier: Apache-2.0

package v1alpha3

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +genclient:method=Allocate,verb=create,subresource=allocation,input=Allocation,result=MetalStackMachine
// +genclient:method=RequestPower,verb=create,subresource=power,input=MachinePower,result=MachinePower
// +genclient:method=GetPower,verb=get,subresource=power,result=MachinePower
// +genclient:method=Identify,verb=create,subresource=identify,input=MachineIdentify,result=MachineIdentify
// +genclient:method=ReadConsolePassword,verb=create,subresource=consolepassword,input=MachineConsolePassword,result=MachineConsolePassword
// +genclient:method=GetLog,verb=get,subresource=log,result=MachineLog
// +genclient:method=Reinstall,verb=create,subresource=reinstall,input=MachineReinstall,result=MachineReinstall
// +genclient:method=Lock,verb=create,subresource=lock,input=MachineLock,result=MachineLock
// +genclient:method=GetLock,verb=get,subresource=lock,result=MachineLock
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackMachine is a machine of metal-stack for one node of a Kubernetes
// cluster. A Cluster API Machine references it in spec.infrastructureRef. The spec
// is the desired state. The machine itself is in status.metal, which is read from
// the metal-api for each request. The machine is allocated when its bootstrap data
// exist, not when the object is created. An object that has a machine's id as its
// name was discovered: it shows a machine of the project that was not allocated
// for an object of this API, and is read-only.
type MetalStackMachine struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata. The name becomes the machine's
	// hostname and a label in metal-stack, so it is at most 63 lower-case letters,
	// digits, dashes and dots. In the hostname, dots are replaced by dashes, and a
	// hash of the name is appended. The label `cluster.x-k8s.io/cluster-name` says
	// which cluster the machine belongs to.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the desired state of the machine. It cannot be changed once the
	// allocation has begun, but for the provider ID, which can be set once.
	// +optional
	Spec MetalStackMachineSpec `json:"spec,omitempty"`
	// status is the observed state of the machine. It is written by the API server
	// and the controller manager only.
	// +optional
	Status MetalStackMachineStatus `json:"status,omitempty"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackMachineList is a list of MetalStackMachine.
type MetalStackMachineList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list's metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the machines.
	Items []MetalStackMachine `json:"items"`
}

// MetalStackMachineSpec is the desired state of a MetalStackMachine. The image and
// the machineType are required.
type MetalStackMachineSpec struct {
	// image is the operating system to install: a full image id such as
	// `ubuntu-24.04.20260101`, or an alias such as `ubuntu-24.04`, for which the
	// metal-api takes the newest version; status.metal.image says which.
	// `kubectl get metalstackimages` lists all.
	// +required
	// +k8s:validation:maxLength=253
	Image string `json:"image,omitempty"`

	// machineType is the metal-stack size of the machine, which stands for cores,
	// memory and disks, such as `c1-xlarge-x86`. `kubectl get
	// metalstacksizes` lists all, and `kubectl get metalstackpartitions -o yaml` says how many
	// of each are available.
	// +required
	// +k8s:validation:maxLength=253
	MachineType string `json:"machineType,omitempty"`

	// partition is the metal-stack partition of the machine. It defaults to that of
	// the machine's cluster.
	// +optional
	// +k8s:validation:maxLength=63
	Partition string `json:"partition,omitempty"`

	// providerID identifies the machine. If it is omitted, any machine of the size
	// is allocated, and its provider ID is written here as
	// `metal://<partition>/<id>`, as in spec.providerID of the Node, by which Cluster
	// API finds the Node of a Machine. Set it to request a certain machine: it is
	// allocated if it is free, and adopted if it is allocated in the project and no
	// other object has it. `metalstack://<id>` and `metal:///<id>` are accepted, too,
	// and kept as they are. The id is a UUID. It cannot be changed once it is set.
	// +optional
	// +k8s:validation:maxLength=128
	ProviderID string `json:"providerID,omitempty"`

	// sshKeys are public keys, as in ~/.ssh/authorized_keys, that may log in to
	// the machine: `ssh-ed25519 AAAA… you@example.org`.
	// There are at most 32, each one line of at most 16 KiB, with a comment of at
	// most 1 KiB.
	// +optional
	// +listType=atomic
	// +k8s:validation:maxItems=32
	// +k8s:validation:items:maxLength=16384
	SSHKeys []string `json:"sshKeys,omitempty"`

	// tags are set on the machine in metal-stack when it is allocated. A tag of the
	// form `key=value` also becomes a label of the Node, so key and value must be
	// valid in a label, and each key must be unique. `infrastructure.cluster.x-k8s.io/…`,
	// `cluster.metal-stack.io/…` and `machine.metal-stack.io/…` are reserved.
	// There are at most 64, each of at most 317 bytes.
	// +optional
	// +listType=set
	// +k8s:validation:maxItems=64
	// +k8s:validation:items:maxLength=317
	Tags []string `json:"tags,omitempty"`

	// userData references the Secret that holds, under the key `value`, the user data
	// for the machine's first boot: cloud-init or ignition. With Cluster API it is
	// set to the bootstrap secret of the Machine that owns this object.
	// +optional
	UserData *SecretReference `json:"userData,omitempty"`

	// networks are the ids of further networks that the machine joins, with an
	// address in each, besides the private network of its cluster.
	// There are at most 12.
	// +optional
	// +listType=set
	// +k8s:validation:maxItems=12
	// +k8s:validation:items:maxLength=253
	Networks []string `json:"networks,omitempty"`

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
}

// SecretReference references a Secret.
// +structType=atomic
type SecretReference struct {
	// name of the Secret.
	// +required
	// +k8s:validation:maxLength=253
	Name string `json:"name"`
	// namespace of the Secret. It can only be the object's own, and defaults to it.
	// +optional
	// +k8s:validation:maxLength=63
	Namespace string `json:"namespace,omitempty"`
}

// MetalStackMachineStatus is the observed state of a MetalStackMachine. The fields
// metal, ready, addresses and failureDomain are read from the metal-api, and not
// stored. The fields initialization, conditions, allocation and deletion are
// Kubernetes-only state, and are recorded.
type MetalStackMachineStatus struct {
	// ready is true while the machine runs: it has phoned home in its current
	// allocation, and is alive. It becomes false when that ends; the Ready condition
	// says why.
	// +optional
	Ready bool `json:"ready"`

	// initialization tells Cluster API when it may continue.
	// +optional
	Initialization Initialization `json:"initialization,omitempty,omitzero"`

	// addresses are the machine's addresses and names. Cluster API copies them to the
	// Machine.
	// +optional
	// +listType=atomic
	Addresses []MachineAddress `json:"addresses,omitempty"`

	// failureDomain is the machine's partition. Cluster API copies it to the Machine.
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
	//     the machine had another allocation, and was not touched. WaitingForOwner,
	//     WaitingForClusterInfrastructure, WaitingForFirewall, WaitingForBootstrapData
	//     and BootstrapDataInvalid: what the controller manager waits for
	//     before it requests the allocation.
	//   - Deleting says what a deletion waits for: OwnerNotFound, OwnerLookupFailed,
	//     GarbageCollected, WaitingForLoadBalancers, ReleaseRefused,
	//     MarkedBeforeTakeover or MetalAPIUnavailable; Releasing if nothing.
	//   - MatchesSpec is about the size and the image of the machine, if it was adopted
	//     or they are not those of the spec: MatchesSpec, OtherSize or OtherImage. It is no
	//     part of Ready.
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

// MachineAddress is an address or name of a machine.
// +structType=atomic
type MachineAddress struct {
	// type is `InternalIP` for an address in a private network, `ExternalIP` for
	// one in any other network, `Hostname` or `InternalDNS` for a name.
	// +required
	Type MachineAddressType `json:"type"`
	// address is the address or name itself.
	// +required
	Address string `json:"address"`
}

// MachineAddressType is one of Cluster API's kinds of address.
type MachineAddressType string

// The kinds of address that are filled in.
const (
	// MachineHostName: the machine's hostname.
	MachineHostName MachineAddressType = "Hostname"
	// MachineExternalIP: an address in a network that is not private.
	MachineExternalIP MachineAddressType = "ExternalIP"
	// MachineInternalIP: an address in a private network.
	MachineInternalIP MachineAddressType = "InternalIP"
	// MachineInternalDNS: the name of the Node, which is the hostname, too.
	MachineInternalDNS MachineAddressType = "InternalDNS"
)
