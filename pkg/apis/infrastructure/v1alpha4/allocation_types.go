// SPDX-License-Identifier: Apache-2.0

package v1alpha4

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// Allocation is the body of a POST to the allocation subresource of a cluster, machine,
// firewall, network or address. The POST allocates metal for the object, as a Binding
// schedules a Pod, and is answered with the object. It is idempotent. A DELETE of
// the subresource releases the metal. Both are sent by the controller manager, and
// by users only where none runs. The body is not stored.
type Allocation struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata. The name is that of
	// the object to allocate for, or omitted.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// clusterRef references the MetalStackCluster of the same namespace whose private
	// network the machine or firewall joins, and whose partition is used if its spec
	// names none. It is ignored for the allocation of a cluster.
	// +optional
	ClusterRef *LocalReference `json:"clusterRef,omitempty"`

	// userData is the user data for the machine's first boot: cloud-init or ignition,
	// base64 encoded. It is passed to the metal-api, and is in no object, log or audit
	// event. It has at most 1 MiB, which is 1,398,104 characters in base64.
	// +optional
	// +k8s:validation:maxLength=1398104
	UserData []byte `json:"userData,omitempty"`
}

// LocalReference references an object of the same namespace.
// +structType=atomic
type LocalReference struct {
	// name of the object.
	// +required
	// +k8s:validation:maxLength=63
	Name string `json:"name"`
}

// AllocationPhase is the phase of an allocation.
type AllocationPhase string

// The phases of an allocation. Without an allocation in its status, none was begun
// for an object.
const (
	// AllocationAllocating: an attempt is in flight, or waits for its retry.
	AllocationAllocating AllocationPhase = "Allocating"
	// AllocationAllocated: the metal is allocated.
	AllocationAllocated AllocationPhase = "Allocated"
	// AllocationReleasing: the metal is being released.
	AllocationReleasing AllocationPhase = "Releasing"
	// AllocationReleased: the metal was released, which was observed.
	AllocationReleased AllocationPhase = "Released"
)

// AllocationState is the part that all allocation records have.
type AllocationState struct {
	// phase is the phase of the allocation: `Allocating`, `Allocated`, and, after the
	// object was deleted, `Releasing` and `Released`.
	// +optional
	Phase AllocationPhase `json:"phase,omitempty"`
	// attempt is the number of allocate calls that were begun.
	// +optional
	Attempt int32 `json:"attempt,omitempty"`
	// uid is the identity that the metal carries as a tag or label
	// `infrastructure.cluster.x-k8s.io/uid`. It is the uid that the object had
	// when it was allocated; after `clusterctl move`, or an adoption, the object
	// has another one.
	// +optional
	UID types.UID `json:"uid,omitempty"`
	// startTime is when the current phase began. In the phases `Allocating` and
	// `Releasing`, it is when the call began that may be in flight; without it, none
	// is.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`
	// notBefore is when the next attempt may begin after a refusal. The Allocated
	// condition says why.
	// +optional
	NotBefore *metav1.Time `json:"notBefore,omitempty"`
	// clusterName is the MetalStackCluster of the allocation.
	// +optional
	ClusterName string `json:"clusterName,omitempty"`
}

// MachineAllocation is the record of the machine that is allocated for an object.
// Only this machine, in this allocation, is ever released.
// +structType=atomic
type MachineAllocation struct {
	AllocationState `json:",inline"`

	// machineID is the id of the allocated machine, a UUID.
	// +optional
	MachineID string `json:"machineID,omitempty"`
	// allocationUUID identifies the allocation of that machine. A machine that has
	// another one by now is never released.
	// +optional
	AllocationUUID string `json:"allocationUUID,omitempty"`
	// adopted is true if the machine was allocated before the object named it in
	// spec.providerID.
	// +optional
	Adopted bool `json:"adopted,omitempty"`
}

// ClusterAllocation is the record of the network and the address that are allocated
// for a cluster. Only these are ever released.
// +structType=atomic
type ClusterAllocation struct {
	AllocationState `json:",inline"`

	// networkID is the private network of the cluster.
	// +optional
	NetworkID string `json:"networkID,omitempty"`
	// networkAdopted is true if the spec named the network; it is then not
	// released when the cluster is deleted.
	// +optional
	NetworkAdopted bool `json:"networkAdopted,omitempty"`
	// ipAddress is the control plane's address.
	// +optional
	IPAddress string `json:"ipAddress,omitempty"`
	// ipAdopted is true if the spec named the address; it is then not released
	// when the cluster is deleted.
	// +optional
	IPAdopted bool `json:"ipAdopted,omitempty"`
}

// Deletion is the API server's record of the request that deleted an object.
// +structType=atomic
type Deletion struct {
	// requestedBy is the kind of client that sent the first request to delete the object:
	//   - GarbageCollector: the garbage collector of Kubernetes. The metal is kept
	//     until an owner or the Cluster is being deleted, or the object has the
	//     annotation metal-stack.infrastructure.cluster.x-k8s.io/force-release.
	//   - NamespaceController: the namespace is being deleted.
	//   - User: any other user, including controllers such as Cluster API's.
	// +required
	RequestedBy DeletionRequester `json:"requestedBy"`
}

// DeletionRequester is the kind of client that requested a deletion.
type DeletionRequester string

// The kinds of clients that request deletions.
const (
	// DeletionByGarbageCollector: the garbage collector of Kubernetes.
	DeletionByGarbageCollector DeletionRequester = "GarbageCollector"
	// DeletionByNamespaceController: the namespace is being deleted.
	DeletionByNamespaceController DeletionRequester = "NamespaceController"
	// DeletionByUser: any other user, including controllers such as Cluster API's.
	DeletionByUser DeletionRequester = "User"
)
