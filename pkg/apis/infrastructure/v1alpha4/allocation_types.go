package v1alpha4

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// Allocation is the body of a POST to the allocation subresource of a cluster,
// a machine or a firewall. It turns the object, which until then only says what
// is wanted, into metal, as a Binding turns a Pod into a scheduled one. Asked
// again, it answers with what was allocated the first time. A DELETE of the
// subresource gives the metal back. Both are the controller's business; it is
// of use by hand only where no controller runs. It is kept nowhere.
type Allocation struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata. The name, if there is one, is
	// that of the object to allocate for.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// clusterRef names the MetalStackCluster of the same namespace whose private
	// network the machine or firewall joins, and whose partition it is taken
	// from if its spec names none. A cluster's own allocation has no use for it.
	// +optional
	ClusterRef *LocalReference `json:"clusterRef,omitempty"`

	// userData is what the server runs at its first boot: cloud-init or
	// ignition, base64 encoded as all bytes are in JSON. It is handed to the
	// metal-api and kept nowhere: it is in no object, no log and no audit trail.
	// It has at most 1 MiB, which are 1,398,104 characters in base64.
	// +optional
	// +k8s:validation:maxLength=1398104
	UserData []byte `json:"userData,omitempty"`
}

// LocalReference names an object of the same namespace.
// +structType=atomic
type LocalReference struct {
	// name of the object.
	// +required
	// +k8s:validation:maxLength=63
	Name string `json:"name"`
}

// AllocationPhase is a step of an allocation.
type AllocationPhase string

// The steps of an allocation. An object without an allocation in its status
// has not begun any.
const (
	// AllocationAllocating: an attempt is under way, or waits for its time.
	AllocationAllocating AllocationPhase = "Allocating"
	// AllocationAllocated: the metal is there.
	AllocationAllocated AllocationPhase = "Allocated"
	// AllocationReleasing: the metal is being given back.
	AllocationReleasing AllocationPhase = "Releasing"
	// AllocationReleased: the metal was given back, and was seen to be gone.
	AllocationReleased AllocationPhase = "Released"
)

// AllocationState is what every allocation record has.
type AllocationState struct {
	// phase is the step that the allocation has reached: `Allocating`,
	// `Allocated`, then, when the object is deleted, `Releasing` and `Released`.
	// +optional
	Phase AllocationPhase `json:"phase,omitempty"`
	// attempt counts the allocate calls that were begun, from 1.
	// +optional
	Attempt int32 `json:"attempt,omitempty"`
	// uid is the identity that the metal carries as a tag or label
	// `infrastructure.cluster.x-k8s.io/uid`. It is the uid that the object had
	// when it was allocated; after `clusterctl move`, or an adoption, the object
	// has another one.
	// +optional
	UID types.UID `json:"uid,omitempty"`
	// startTime is when the current phase began; in the phases `Allocating` and
	// `Releasing`, when the call was begun that may be open. Without it, none is.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`
	// notBefore is when the next attempt may begin, after a refusal. The
	// Allocated condition holds the reason.
	// +optional
	NotBefore *metav1.Time `json:"notBefore,omitempty"`
	// clusterName is the MetalStackCluster that the allocation was asked for.
	// +optional
	ClusterName string `json:"clusterName,omitempty"`
}

// MachineAllocation is what makes a server in metal-stack this object's own: only
// what is named here is ever released.
// +structType=atomic
type MachineAllocation struct {
	AllocationState `json:",inline"`

	// machineID is the id of the server that was allocated, a UUID.
	// +optional
	MachineID string `json:"machineID,omitempty"`
	// allocationUUID names the allocation of that server which is ours. A server
	// that has another one by now is not ours any more, and is never released.
	// +optional
	AllocationUUID string `json:"allocationUUID,omitempty"`
	// adopted is true if the server had been allocated before the object named
	// it in spec.providerID.
	// +optional
	Adopted bool `json:"adopted,omitempty"`
}

// ClusterAllocation is what makes a network and an address in metal-stack this
// object's own: only what is named here is ever released.
// +structType=atomic
type ClusterAllocation struct {
	AllocationState `json:",inline"`

	// networkID is the private network of the cluster.
	// +optional
	NetworkID string `json:"networkID,omitempty"`
	// networkAdopted is true if the spec named the network; it is then not given
	// back when the cluster is deleted.
	// +optional
	NetworkAdopted bool `json:"networkAdopted,omitempty"`
	// ipAddress is the control plane's address.
	// +optional
	IPAddress string `json:"ipAddress,omitempty"`
	// ipAdopted is true if the spec named the address; it is then not given back
	// when the cluster is deleted.
	// +optional
	IPAdopted bool `json:"ipAdopted,omitempty"`
}

// Deletion is the API server's record of the request that deleted an object.
// +structType=atomic
type Deletion struct {
	// requestedBy is who sent the first request to delete the object:
	//   - GarbageCollector: the garbage collector of Kubernetes. The metal is kept
	//     until an owner or the Cluster is being deleted, or the object has the
	//     annotation metal-stack.infrastructure.cluster.x-k8s.io/force-release.
	//   - NamespaceController: the namespace is being deleted.
	//   - User: anybody else, a person or a controller such as Cluster API's.
	// +required
	RequestedBy DeletionRequester `json:"requestedBy"`
}

// DeletionRequester is who asked for a deletion.
type DeletionRequester string

// Who asks for deletions.
const (
	DeletionByGarbageCollector    DeletionRequester = "GarbageCollector"
	DeletionByNamespaceController DeletionRequester = "NamespaceController"
	DeletionByUser                DeletionRequester = "User"
)
