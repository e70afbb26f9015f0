// SPDX-License-Identifier: Apache-2.0

package infrastructure

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackNetwork is a network in metal-stack that a spec in this namespace can name: a network
// of the project, or one that is shared or public. One that you create is a claim: a private
// network is allocated for it in the project, stays until you delete it, and can be the private
// network of several clusters, in spec.privateNetworkID. All others are discovered: they
// are named by their id, and read-only.
type MetalStackNetwork struct {
	metav1.TypeMeta
	metav1.ObjectMeta

	Spec   MetalStackNetworkSpec
	Status MetalStackNetworkStatus
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackNetworkList is a list of MetalStackNetwork.
type MetalStackNetworkList struct {
	metav1.TypeMeta
	metav1.ListMeta

	Items []MetalStackNetwork
}

// MetalStackNetworkSpec is the desired state of a private network.
type MetalStackNetworkSpec struct {
	Partition string
	Addresses *PrivateNetwork
	NetworkID string
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
// network that is not the project's own, only what a spec needs is shown.
type MetalStackNetworkStatus struct {
	Ready               bool
	Managed             bool
	NetworkID           string
	DisplayName         string
	Description         string
	Type                NetworkType
	Partition           string
	Prefixes            []string
	DestinationPrefixes []string
	NAT                 bool
	VRF                 int64
	ParentNetworkID     string
	AvailableIPs        *int64
	UsedIPs             *int64
	Users               []MetalUser

	Conditions []metav1.Condition

	Allocation *NetworkAllocation

	Deletion *Deletion
}

// NetworkAllocation is the record of the network that is allocated for an object. Only this
// network is ever released.
type NetworkAllocation struct {
	AllocationState

	NetworkID string
	Adopted   bool
	Moved     bool
}

// MetalUser is what a network or an address is used by.
type MetalUser struct {
	Kind      string
	Namespace string
	Name      string
	ClusterID string
	MachineID string
}
