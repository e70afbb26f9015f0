// Code generated from ../v1alpha4/network_types.go by hack/update-codegen.sh. DO NOT EDIT.

// SPDX-License-Identifier: Apache-2.0

package v1alpha3

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +genclient:method=Allocate,verb=create,subresource=allocation,input=Allocation,result=MetalStackNetwork
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackNetwork is a network in metal-stack that a spec in this namespace can name: a network
// of the project, or one that is shared or public. One that you create is a claim: a private
// network is allocated for it in the project, stays until you delete it, and can be the private
// network of several clusters, in spec.privateNetworkID. All others are discovered: they
// are named by their id, and read-only.
type MetalStackNetwork struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata. The name of a claim is at most 63
	// lower-case letters, digits, dashes and dots, because it becomes a label in
	// metal-stack.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the desired state of a claim. A discovered network has none.
	// +optional
	Spec MetalStackNetworkSpec `json:"spec,omitempty,omitzero"`
	// status is the observed state of the network. It is written by the API server and the
	// controller manager only.
	// +optional
	Status MetalStackNetworkStatus `json:"status,omitempty,omitzero"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackNetworkList is a list of MetalStackNetwork.
type MetalStackNetworkList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list's metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the networks.
	Items []MetalStackNetwork `json:"items"`
}

// MetalStackNetworkSpec is the desired state of a private network.
type MetalStackNetworkSpec struct {
	// partition is the metal-stack partition of the network, such as `fra-equ01`:
	// `kubectl get metalstackpartitions` lists all. It cannot be changed.
	// +required
	// +k8s:validation:maxLength=63
	Partition string `json:"partition,omitempty"`
	// addresses is which addresses the network gets when it is allocated. If it is omitted,
	// they are those that the partition has by default. It cannot be changed.
	// +optional
	Addresses *PrivateNetwork `json:"addresses,omitempty"`
	// networkID is the id of the network in metal-stack. It is written when the network is
	// allocated. If you set it, a private network of the project that exists already is
	// adopted, which is kept when the object is deleted. It cannot be changed once it is set.
	// +optional
	// +k8s:validation:maxLength=253
	NetworkID string `json:"networkID,omitempty"`
}

// NetworkType is what a network is for.
type NetworkType string

// The types of networks.
const (
	// NetworkPrivate: a private network of the project.
	NetworkPrivate NetworkType = "Private"
	// NetworkPrivateShared: a private network that firewalls of all projects can join.
	NetworkPrivateShared NetworkType = "PrivateShared"
	// NetworkExternal: a network that belongs to no project, such as the internet.
	NetworkExternal NetworkType = "External"
)

// MetalStackNetworkStatus is the observed state of a network. The fields conditions,
// allocation and deletion of a claim are recorded; the others are read from the metal-api. Of a
// network of another project, only networkID, type, partition, prefixes, destinationPrefixes
// and nat are shown; of one of no project, displayName and description, too.
type MetalStackNetworkStatus struct {
	// ready is true while the network exists in metal-stack.
	// +optional
	Ready bool `json:"ready"`
	// managed is true for a claim. It is false for a discovered network: the object is then
	// read-only.
	// +optional
	Managed bool `json:"managed"`
	// networkID is the id of the network in metal-stack, by which a spec names it.
	// +optional
	NetworkID string `json:"networkID,omitempty"`
	// displayName is the network's name in metal-stack.
	// +optional
	DisplayName string `json:"displayName,omitempty"`
	// description of the network in metal-stack.
	// +optional
	Description string `json:"description,omitempty"`
	// type is `Private` for a network of the project, `PrivateShared` for one that firewalls of
	// other projects can join, and `External` for one that belongs to no project.
	// +optional
	Type NetworkType `json:"type,omitempty"`
	// partition is the partition of the network. It is empty for a network of all of them.
	// +optional
	Partition string `json:"partition,omitempty"`
	// prefixes are the network's address ranges: `10.0.12.0/22`.
	// +optional
	// +listType=atomic
	Prefixes []string `json:"prefixes,omitempty"`
	// destinationPrefixes are what is reached through the network: `0.0.0.0/0` through the
	// internet.
	// +optional
	// +listType=atomic
	DestinationPrefixes []string `json:"destinationPrefixes,omitempty"`
	// nat is true if firewalls translate addresses of private networks to their own in it.
	// +optional
	NAT bool `json:"nat,omitempty"`
	// vrf is the number of the network's virtual routing table on the switches.
	// +optional
	VRF int64 `json:"vrf,omitempty"`
	// parentNetworkID is the network whose prefixes this one's are part of.
	// +optional
	ParentNetworkID string `json:"parentNetworkID,omitempty"`
	// availableIPs is the total number of IPv4 addresses in a private network, or of IPv6
	// addresses if it has no IPv4 prefix. It is left out for networks of other projects or of
	// none.
	// +optional
	AvailableIPs *int64 `json:"availableIPs,omitempty"`
	// usedIPs is the number of used addresses, likewise.
	// +optional
	UsedIPs *int64 `json:"usedIPs,omitempty"`
	// users are the objects whose network it is: clusters, and a claim. They are of this
	// namespace, unless the network was allocated elsewhere.
	// +optional
	// +listType=atomic
	Users []MetalUser `json:"users,omitempty"`

	// conditions are the observed conditions of a claim: Ready, Allocated, Paused and Deleting,
	// as of a MetalStackCluster. The deletion of a network that clusters, addresses or machines
	// use waits for them: InUse.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +k8s:validation:maxItems=32
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// allocation is the API server's record of what is allocated for a claim. It is set from
	// the first attempt on.
	// +optional
	Allocation *NetworkAllocation `json:"allocation,omitempty"`

	// deletion is the API server's record of the request that deleted this object.
	// +optional
	Deletion *Deletion `json:"deletion,omitempty"`
}

// NetworkAllocation is the record of the network that is allocated for an object. Only this
// network is ever released.
// +structType=atomic
type NetworkAllocation struct {
	AllocationState `json:",inline"`

	// networkID is the id of the network.
	// +optional
	NetworkID string `json:"networkID,omitempty"`
	// adopted is true if the spec named the network; it is then not released when the object
	// is deleted.
	// +optional
	Adopted bool `json:"adopted,omitempty"`
	// moved is true if the object lived in another management cluster, or in a backup, before
	// it was created here: it brought its finalizer along. A network that carries its kind,
	// namespace and name, and that another management cluster allocated, is then its own, and
	// released with it. Otherwise such a network is adopted.
	// +optional
	Moved bool `json:"moved,omitempty"`
}

// MetalUser is what a network or an address is used by.
// +structType=atomic
type MetalUser struct {
	// kind is `MetalStackCluster`, `MetalStackNetwork`, `MetalStackIP`, `MetalStackMachine`,
	// `MetalStackFirewall`, `Service` for a Service of a workload cluster, or `Cluster` or
	// `Machine` for a cluster or machine in metal-stack of which no more is known.
	// +required
	Kind string `json:"kind"`
	// namespace of the object.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// name of the object.
	// +optional
	Name string `json:"name,omitempty"`
	// clusterID is the id of the cluster in metal-stack that the object belongs to.
	// +optional
	ClusterID string `json:"clusterID,omitempty"`
	// machineID is the id of the machine in metal-stack.
	// +optional
	MachineID string `json:"machineID,omitempty"`
}
