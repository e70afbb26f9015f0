// SPDX-License-Identifier: Apache-2.0

package v1alpha4

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +genclient:method=Allocate,verb=create,subresource=allocation,input=Allocation,result=MetalStackIP
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackIP is an IP address of the project in metal-stack. One that you create is a claim: a
// static address is allocated for it, and stays until you delete it, whatever becomes of what
// uses it. A spec names it by the address, as in spec.controlPlaneEndpoint.host of a
// MetalStackCluster, and a Service in spec.loadBalancerIP. All others are discovered: they are
// named by their address, and read-only.
type MetalStackIP struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata. The name of a claim is at most 63
	// lower-case letters, digits, dashes and dots, because it becomes a tag in metal-stack.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the desired state of a claim. A discovered address has none.
	// +optional
	Spec MetalStackIPSpec `json:"spec,omitempty,omitzero"`
	// status is the observed state of the address. It is written by the API server and the
	// controller manager only.
	// +optional
	Status MetalStackIPStatus `json:"status,omitempty,omitzero"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackIPList is a list of MetalStackIP.
type MetalStackIPList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list's metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the addresses.
	Items []MetalStackIP `json:"items"`
}

// MetalStackIPSpec is the desired state of a static address.
type MetalStackIPSpec struct {
	// networkID is the network to allocate the address in: a network of the project, or an
	// external one, such as `internet-fra-equ01`. `kubectl get metalstacknetworks` lists all. It
	// cannot be changed.
	// +required
	// +k8s:validation:maxLength=253
	NetworkID string `json:"networkID,omitempty"`
	// addressFamily is `IPv4` or `IPv6`. It defaults to that of the network, and to IPv4 if the
	// network has both. It cannot be changed.
	// +optional
	// +k8s:validation:maxLength=4
	AddressFamily string `json:"addressFamily,omitempty"`
	// address is the IP address. If it is omitted, a free one is allocated and written here. If
	// you set it, that one is allocated; one that the project has already, as a static address,
	// is adopted, and kept when the object is deleted. It cannot be changed once it is set.
	// +optional
	// +k8s:validation:maxLength=45
	Address string `json:"address,omitempty"`
}

// MetalStackIPStatus is the observed state of an address. The fields conditions,
// allocation and deletion of a claim are recorded; the others are read from the metal-api.
type MetalStackIPStatus struct {
	// ready is true while the project has the address in metal-stack.
	// +optional
	Ready bool `json:"ready"`
	// managed is true for a claim. It is false for a discovered address: the object is then
	// read-only.
	// +optional
	Managed bool `json:"managed"`
	// address is the IP address.
	// +optional
	Address string `json:"address,omitempty"`
	// networkID is the network of the address.
	// +optional
	NetworkID string `json:"networkID,omitempty"`
	// displayName is the name of the address in metal-stack.
	// +optional
	DisplayName string `json:"displayName,omitempty"`
	// description of the address in metal-stack.
	// +optional
	Description string `json:"description,omitempty"`
	// type is `static` for an address that stays until it is released, or `ephemeral` for one
	// that is released together with what uses it.
	// +optional
	Type string `json:"type,omitempty"`
	// users are what the address is used by: the control plane of a cluster, machines, Services
	// of workload clusters. It is empty if nothing uses it.
	// +optional
	// +listType=atomic
	Users []MetalUser `json:"users,omitempty"`

	// conditions are the observed conditions of a claim: Ready, Allocated, Paused and Deleting,
	// as of a MetalStackCluster. The deletion of an address that is in use waits: InUse.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +k8s:validation:maxItems=32
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// allocation is the API server's record of what is allocated for a claim. It is set from
	// the first attempt on.
	// +optional
	Allocation *IPAllocation `json:"allocation,omitempty"`

	// deletion is the API server's record of the request that deleted this object.
	// +optional
	Deletion *Deletion `json:"deletion,omitempty"`
}

// IPAllocation is the record of the address that is allocated for an object. Only this
// address, in this allocation, is ever released.
// +structType=atomic
type IPAllocation struct {
	AllocationState `json:",inline"`

	// address is the IP address.
	// +optional
	Address string `json:"address,omitempty"`
	// allocationUUID identifies the allocation of that address. An address that has another
	// one by now is never released.
	// +optional
	AllocationUUID string `json:"allocationUUID,omitempty"`
	// adopted is true if the project had the address when the spec named it; it is then not
	// released when the object is deleted.
	// +optional
	Adopted bool `json:"adopted,omitempty"`
}
