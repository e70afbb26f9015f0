// SPDX-License-Identifier: Apache-2.0

package infrastructure

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackCluster is the infrastructure of one Kubernetes cluster: its
// private network, its control-plane address and what its firewall shall be.
type MetalStackCluster struct {
	metav1.TypeMeta
	metav1.ObjectMeta

	Spec   MetalStackClusterSpec
	Status MetalStackClusterStatus
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackClusterList is a list of MetalStackCluster.
type MetalStackClusterList struct {
	metav1.TypeMeta
	metav1.ListMeta

	Items []MetalStackCluster
}

// MetalStackClusterSpec is what the user specifies of a cluster's infrastructure.
type MetalStackClusterSpec struct {
	ControlPlaneEndpoint         APIEndpoint
	ControlPlaneEndpointProvider EndpointProvider
	ProjectID                    string
	Partition                    string
	PublicNetworkID              string
	PrivateNetworkID             string
	PrivateNetwork               *PrivateNetwork
	ClusterID                    string
	FirewallSpec                 *MetalStackFirewallSpec
	MetalAPIAccess               *MetalAPIAccess
}

// EndpointProvider is who provides the endpoint of a control plane.
type EndpointProvider string

// The providers of an endpoint.
const (
	EndpointOfInfrastructure EndpointProvider = "Infrastructure"
	EndpointOfControlPlane   EndpointProvider = "ControlPlane"
)

// AllocatesEndpoint reports whether the control plane's address is the cluster's own
// metal, which it allocates or adopts.
func (s *MetalStackClusterSpec) AllocatesEndpoint() bool {
	return s.ControlPlaneEndpointProvider != EndpointOfControlPlane
}

// MetalAPIAccess is how a workload cluster uses its part of the metal-api.
type MetalAPIAccess struct {
	AdditionalNetworkIDs []string
}

// PrivateNetwork is which addresses a private network gets when it is allocated.
type PrivateNetwork struct {
	AddressFamilies []string
	PrefixLengths   PrefixLengths
}

// PrefixLengths are lengths of prefixes by address family; zero: the partition's.
type PrefixLengths struct {
	IPv4, IPv6 int32
}

// APIEndpoint is where the workload cluster's API server is reached.
type APIEndpoint struct {
	Host string
	Port int32
}

// MetalStackClusterStatus is what is known of a cluster's infrastructure.
type MetalStackClusterStatus struct {
	Ready          bool
	ClusterID      string
	Initialization Initialization
	FailureDomains []FailureDomain
	Conditions     []metav1.Condition
	Network        *ClusterNetwork
	ControlPlaneIP *ClusterIP
	Allocation     *ClusterAllocation
	Deletion       *Deletion
}

// Initialization holds what never goes back once it is true.
type Initialization struct {
	Provisioned *bool
}

// FailureDomain is one place that machines can be spread over.
type FailureDomain struct {
	Name         string
	ControlPlane *bool
	Attributes   map[string]string
}

// ClusterNetwork is the private network as the metal-api shows it (metal half).
type ClusterNetwork struct {
	ID           string
	Prefixes     []string
	VRF          int64
	AvailableIPs int64
	UsedIPs      int64
}

// ClusterIP is the control-plane address as the metal-api shows it (metal half).
type ClusterIP struct {
	Address   string
	Type      string
	NetworkID string
}

// ClusterAllocation is the record of what the cluster holds in metal.
type ClusterAllocation struct {
	AllocationState
	NetworkID      string
	NetworkAdopted bool
	IPAddress      string
	IPAdopted      bool
}

// AllocationPhase is a step of the allocation protocol.
type AllocationPhase string

// The steps of the allocation protocol (docs/allocation.md). An object
// without an allocation in its status has not begun it.
const (
	AllocationAllocating AllocationPhase = "Allocating"
	AllocationAllocated  AllocationPhase = "Allocated"
	AllocationReleasing  AllocationPhase = "Releasing"
	AllocationReleased   AllocationPhase = "Released"
)

// AllocationState is what every allocation record has.
type AllocationState struct {
	Phase AllocationPhase
	// Attempt counts the allocate calls that were begun, from 1.
	Attempt int32
	// UID is the identity that the metal carries; after a move or an adoption
	// it is not the object's own.
	UID types.UID
	// StartTime is when the current phase began; in the phases Allocating and
	// Releasing, when the call was begun that may be in flight; nil if none is.
	StartTime *metav1.Time
	// NotBefore is when the next attempt may begin, after a refusal.
	NotBefore *metav1.Time
	// ClusterName is the MetalStackCluster that the allocation was asked for.
	ClusterName string
}

// MachineAllocation is the record of the metal that a machine or firewall holds.
type MachineAllocation struct {
	AllocationState
	MachineID      string
	AllocationUUID string
	// Adopted is true if the metal had been allocated before the object named it.
	Adopted bool
}

// Deletion is the record of the request that marked an object as deleted.
type Deletion struct {
	// RequestedBy is who sent the first request to delete the object.
	RequestedBy DeletionRequester
}

// DeletionRequester is who asked for a deletion.
type DeletionRequester string

// Who asks for deletions. What the garbage collector deleted keeps its metal
// until an owner or the Cluster is being deleted, or it has ForceReleaseAnnotation.
const (
	DeletionByGarbageCollector    DeletionRequester = "GarbageCollector"
	DeletionByNamespaceController DeletionRequester = "NamespaceController"
	// DeletionByUser is by anybody else: a person, or a controller such as
	// Cluster API's.
	DeletionByUser DeletionRequester = "User"
)

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackMachine is one machine that is, or shall be, a node.
type MetalStackMachine struct {
	metav1.TypeMeta
	metav1.ObjectMeta

	Spec   MetalStackMachineSpec
	Status MetalStackMachineStatus
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackMachineList is a list of MetalStackMachine.
type MetalStackMachineList struct {
	metav1.TypeMeta
	metav1.ListMeta

	Items []MetalStackMachine
}

// MetalStackMachineSpec is what the user specifies of a machine.
type MetalStackMachineSpec struct {
	Image       string
	MachineType string
	Partition   string
	ProviderID  string
	SSHKeys     []string
	Tags        []string
	UserData    *SecretReference
	Networks    []string

	DNSServers       []string
	NTPServers       []string
	FilesystemLayout string
}

// SecretReference names a Secret.
type SecretReference struct {
	Name      string
	Namespace string
}

// MetalStackMachineStatus is what is known of a machine.
type MetalStackMachineStatus struct {
	Ready          bool
	Initialization Initialization
	Addresses      []MachineAddress
	FailureDomain  string
	Conditions     []metav1.Condition
	Metal          *Metal
	Allocation     *MachineAllocation
	LastOperation  *MachineOperation
	Deletion       *Deletion
}

// MachineAddress is one address of a machine.
type MachineAddress struct {
	Type    MachineAddressType
	Address string
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

// Metal is the live half of a machine or firewall: never recorded.
type Metal struct {
	MachineID      string
	AllocationUUID string
	// Managed is false for metal that no record names (discovered).
	Managed              bool
	Project              string
	Partition            string
	Rack                 string
	Size                 string
	Image                string
	Hostname             string
	AllocationTime       *metav1.Time
	Phase                string
	Liveliness           string
	LastEvent            *MetalEvent
	CrashLoop            bool
	FailedMachineReclaim bool
	Locked               bool
	Tags                 []string
	Networks             []MetalNetwork
}

// MetalEvent is a provisioning event.
type MetalEvent struct {
	Event   string
	Message string
	Time    *metav1.Time
}

// MetalNetwork is a machine's part in a network.
type MetalNetwork struct {
	ID       string
	IPs      []string
	Prefixes []string
	ASN      int64
	VRF      int64
	NAT      bool
	Private  bool
	// Type and DestinationPrefixes are shown of firewalls with a firewall-controller.
	Type                string
	DestinationPrefixes []string
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackMachineTemplate is a template of MetalStackMachines.
type MetalStackMachineTemplate struct {
	metav1.TypeMeta
	metav1.ObjectMeta

	Spec   MetalStackMachineTemplateSpec
	Status MetalStackMachineTemplateStatus
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackMachineTemplateList is a list of MetalStackMachineTemplate.
type MetalStackMachineTemplateList struct {
	metav1.TypeMeta
	metav1.ListMeta

	Items []MetalStackMachineTemplate
}

// MetalStackMachineTemplateSpec holds the template.
type MetalStackMachineTemplateSpec struct {
	Template MetalStackMachineTemplateResource
}

// MetalStackMachineTemplateResource is what a machine made from it begins with.
type MetalStackMachineTemplateResource struct {
	ObjectMeta TemplateMeta
	Spec       MetalStackMachineSpec
}

// TemplateMeta is the metadata that objects made from a template get.
type TemplateMeta struct {
	Labels      map[string]string
	Annotations map[string]string
}

// MetalStackMachineTemplateStatus tells the autoscaler what a machine would offer.
type MetalStackMachineTemplateStatus struct {
	Capacity corev1.ResourceList
	NodeInfo *NodeInfo
}

// NodeInfo is what kind of node a machine would be.
type NodeInfo struct {
	Architecture    string
	OperatingSystem string
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackClusterTemplate is a template of MetalStackClusters.
type MetalStackClusterTemplate struct {
	metav1.TypeMeta
	metav1.ObjectMeta

	Spec MetalStackClusterTemplateSpec
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackClusterTemplateList is a list of MetalStackClusterTemplate.
type MetalStackClusterTemplateList struct {
	metav1.TypeMeta
	metav1.ListMeta

	Items []MetalStackClusterTemplate
}

// MetalStackClusterTemplateSpec holds the template.
type MetalStackClusterTemplateSpec struct {
	Template MetalStackClusterTemplateResource
}

// MetalStackClusterTemplateResource is what a cluster made from it begins with.
type MetalStackClusterTemplateResource struct {
	ObjectMeta TemplateMeta
	Spec       MetalStackClusterSpec
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalAPIOptions are the query options of the metalapi subresource.
type MetalAPIOptions struct {
	metav1.TypeMeta
	Path string
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// Allocation is the body of a POST to the allocation subresource: it turns a
// claim into metal, as a Binding turns a pod into a scheduled pod.
type Allocation struct {
	metav1.TypeMeta
	metav1.ObjectMeta

	// ClusterRef names the MetalStackCluster of the same namespace whose
	// private network and partition the machine joins.
	ClusterRef *LocalReference
	// UserData is handed to the metal-api and kept nowhere.
	UserData []byte
}

// LocalReference names an object of the same namespace.
type LocalReference struct {
	Name string
}
