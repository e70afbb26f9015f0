// SPDX-License-Identifier: Apache-2.0

package infrastructure

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackIP is an IP address of the project in metal-stack. One that you create is a claim: a
// static address is allocated for it, and stays until you delete it, whatever becomes of what
// uses it. A spec names it by the address, as in spec.controlPlaneEndpoint.host of a
// MetalStackCluster, and a Service in spec.loadBalancerIP. All others are discovered: they are
// named by their address, and read-only.
type MetalStackIP struct {
	metav1.TypeMeta
	metav1.ObjectMeta

	Spec   MetalStackIPSpec
	Status MetalStackIPStatus
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackIPList is a list of MetalStackIP.
type MetalStackIPList struct {
	metav1.TypeMeta
	metav1.ListMeta

	Items []MetalStackIP
}

// MetalStackIPSpec is the desired state of a static address.
type MetalStackIPSpec struct {
	NetworkID     string
	AddressFamily string
	Address       string
}

// MetalStackIPStatus is the observed state of an address. The fields conditions,
// allocation and deletion of a claim are recorded; the others are read from the metal-api.
type MetalStackIPStatus struct {
	Ready       bool
	Managed     bool
	Address     string
	NetworkID   string
	DisplayName string
	Description string
	Type        string
	Users       []MetalUser

	Conditions []metav1.Condition

	Allocation *IPAllocation

	Deletion *Deletion
}

// IPAllocation is the record of the address that is allocated for an object. Only this
// address, in this allocation, is ever released.
type IPAllocation struct {
	AllocationState

	Address        string
	AllocationUUID string
	Adopted        bool
}
