package v1alpha4

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +genclient:method=Allocate,verb=create,subresource=allocation,input=Allocation,result=MetalStackMachine
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackMachine is one server of metal-stack that is, or shall become, a
// node of a Kubernetes cluster. A Cluster API Machine names it in
// spec.infrastructureRef. The spec is what you want; status.metal is the server
// itself, read from the metal-api when you ask for it. Creating one allocates
// nothing yet: the controller allocates when the bootstrap data is there. One
// that carries a machine's id as its name and that you did not create was
// discovered: it shows a server of your project that no object here asked for.
type MetalStackMachine struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata. The name becomes the server's
	// hostname and a label in metal-stack, so it is at most 63 lower-case
	// letters, digits, dashes and dots. A hostname has no dots: it gets dashes for
	// them, and a hash of the name at its end. The label `cluster.x-k8s.io/cluster-name` says
	// which cluster the machine belongs to.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what you want of the server. All of it but the provider ID, which
	// can be set once, is fixed as soon as the server has been allocated: a
	// server is replaced, not changed.
	// +optional
	Spec MetalStackMachineSpec `json:"spec,omitempty"`
	// status is what is known of the server. Nobody but the API server and its
	// controllers writes it.
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

// MetalStackMachineSpec needs an image and a machineType; all else can be left
// out.
type MetalStackMachineSpec struct {
	// image is the operating system to install: a full image id such as
	// `ubuntu-24.04.20260101`, or an alias such as `ubuntu-24.04`, for which the
	// metal-api takes the newest; status.metal.image says which that was.
	// `metalctl image list` shows those there are.
	// +required
	// +k8s:validation:maxLength=253
	Image string `json:"image,omitempty"`

	// machineType is the size of the server in metal-stack's words: cores,
	// memory and disks under one name, such as `c1-xlarge-x86`. `metalctl size
	// list` shows those there are.
	// +required
	// +k8s:validation:maxLength=253
	MachineType string `json:"machineType,omitempty"`

	// partition is the metal-stack partition that the server is taken from. It
	// defaults to that of the machine's cluster.
	// +optional
	// +k8s:validation:maxLength=63
	Partition string `json:"partition,omitempty"`

	// providerID names the server. You set it only to ask for a certain server:
	// an idle one is then allocated for you, and one that is allocated in your
	// project already, and that nobody else has, is adopted as it is. Left
	// empty, any server of the size will do, and the chosen one's id is written
	// here as `metal://<partition>/<id>`, as it is in spec.providerID of the
	// Node, since that is how Cluster API finds the Node of a Machine.
	// `metalstack://<id>` and `metal:///<id>` are accepted too, and kept as you
	// wrote them. The id is a UUID. It cannot be changed once it is set.
	// +optional
	// +k8s:validation:maxLength=128
	ProviderID string `json:"providerID,omitempty"`

	// sshKeys are public keys, as in ~/.ssh/authorized_keys, that may log in to
	// the server: `ssh-ed25519 AAAA… you@example.org`.
	// There are at most 32, each one line of at most 16 KiB, with a comment of at
	// most 1 KiB.
	// +optional
	// +listType=atomic
	// +k8s:validation:maxItems=32
	// +k8s:validation:items:maxLength=16384
	SSHKeys []string `json:"sshKeys,omitempty"`

	// tags are put on the server in metal-stack when it is allocated. A tag of
	// the form `key=value` also becomes a label of the Node, so its value must
	// be a valid label value. `infrastructure.cluster.x-k8s.io/…`,
	// `cluster.metal-stack.io/…` and `machine.metal-stack.io/…` are reserved.
	// There are at most 64, each of at most 317 bytes.
	// +optional
	// +listType=set
	// +k8s:validation:maxItems=64
	// +k8s:validation:items:maxLength=317
	Tags []string `json:"tags,omitempty"`

	// userData names the Secret that holds, under the key `value`, what the
	// server runs at its first boot: cloud-init or ignition. With Cluster API
	// leave it out; the controller fills in the bootstrap secret of the Machine
	// that owns this object.
	// +optional
	UserData *SecretReference `json:"userData,omitempty"`

	// networks are the ids of further networks that the server joins, with an
	// address in each, besides the private network of its cluster.
	// There are at most 12.
	// +optional
	// +listType=set
	// +k8s:validation:maxItems=12
	// +k8s:validation:items:maxLength=253
	Networks []string `json:"networks,omitempty"`
}

// SecretReference names a Secret.
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

// MetalStackMachineStatus has two halves. Metal, and ready, addresses and
// failureDomain, which follow from it, are read from the metal-api, and stored
// nowhere. Initialization, conditions and allocation are what the metal-api has
// no word for, and are recorded.
type MetalStackMachineStatus struct {
	// ready is true while the server runs: it has phoned home in its present
	// allocation, and is alive. It goes back to false when that ends; the Ready
	// condition says why.
	// +optional
	Ready bool `json:"ready"`

	// initialization tells Cluster API when it may go on.
	// +optional
	Initialization Initialization `json:"initialization,omitempty,omitzero"`

	// addresses are the server's addresses and names. Cluster API copies them to
	// the Machine.
	// +optional
	// +listType=atomic
	Addresses []MachineAddress `json:"addresses,omitempty"`

	// failureDomain is the partition that the server stands in. Cluster API
	// copies it to the Machine.
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
	//     the machine had another allocation, and was not touched. WaitingForOwner,
	//     WaitingForClusterInfrastructure, WaitingForFirewall, WaitingForBootstrapData
	//     and BootstrapDataInvalid: what the controller waits for before it asks for
	//     metal.
	//   - Deleting says what a deletion waits for: OwnerNotFound, OwnerLookupFailed,
	//     GarbageCollected, WaitingForLoadBalancers, ReleaseRefused,
	//     MarkedBeforeTakeover or MetalAPIUnavailable; Releasing if for nothing.
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

// MachineAddress is one address or name of a server.
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
	MachineHostName    MachineAddressType = "Hostname"
	MachineExternalIP  MachineAddressType = "ExternalIP"
	MachineInternalIP  MachineAddressType = "InternalIP"
	MachineInternalDNS MachineAddressType = "InternalDNS"
)
