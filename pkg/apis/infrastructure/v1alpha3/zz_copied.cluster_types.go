// Code generated from ../v1alpha4/cluster_types.go by hack/update-codegen.sh. DO NOT EDIT.

// SPDX-License-Identifier: Apache-2.0

package v1alpha3

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +genclient:method=Allocate,verb=create,subresource=allocation,input=Allocation,result=MetalStackCluster
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackCluster is the infrastructure of one Kubernetes cluster on
// metal-stack: the private network of its machines, the address of its control
// plane, and its firewall. A Cluster API Cluster references it in
// spec.infrastructureRef. The spec is the desired state. The status is the state
// in the metal-api, which is read for each request.
type MetalStackCluster struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata. The name is at most 63
	// lower-case letters, digits, dashes and dots, because it becomes a label in
	// metal-stack. Everything is allocated in the metal-stack project that the
	// namespace is bound to.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the desired state of the cluster's infrastructure.
	// +optional
	Spec MetalStackClusterSpec `json:"spec,omitempty"`
	// status is the observed state of the cluster's infrastructure. It is written by
	// the API server and the controller manager only.
	// +optional
	Status MetalStackClusterStatus `json:"status,omitempty"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackClusterList is a list of MetalStackCluster.
type MetalStackClusterList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list's metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the clusters.
	Items []MetalStackCluster `json:"items"`
}

// EndpointProvider is who provides the endpoint of a control plane.
type EndpointProvider string

// The providers of an endpoint, in the terms of Cluster API's contract.
const (
	// EndpointOfInfrastructure: an address is allocated, unless the spec names one.
	EndpointOfInfrastructure EndpointProvider = "Infrastructure"
	// EndpointOfControlPlane: the control plane's own provider brings the endpoint, so
	// that none is allocated.
	EndpointOfControlPlane EndpointProvider = "ControlPlane"
)

// MetalStackClusterSpec is the desired state of a MetalStackCluster. The partition
// is required; so is publicNetworkID if an address or a firewall is allocated.
type MetalStackClusterSpec struct {
	// controlPlaneEndpoint is the address of the workload cluster's API server. If
	// it is omitted, an address is allocated in publicNetworkID and written here. An
	// address that you set must belong to the project, and is kept when the cluster
	// is deleted. With controlPlaneEndpointProvider `ControlPlane` none is allocated:
	// the endpoint is written here when the control plane has one.
	// +optional
	ControlPlaneEndpoint APIEndpoint `json:"controlPlaneEndpoint,omitempty,omitzero"`

	// controlPlaneEndpointProvider is who provides the endpoint: `Infrastructure`, the
	// default, allocates an address if controlPlaneEndpoint names none. With
	// `ControlPlane` the cluster has a hosted control plane, such as Kamaji's, whose
	// provider brings the endpoint, before or after the infrastructure is complete: no
	// address is allocated, adopted or released, and controlPlaneEndpoint can be any
	// host. The controller manager copies it from the Cluster, or from the object in
	// the Cluster's spec.controlPlaneRef. It cannot be changed once the allocation of
	// the cluster has begun.
	// +optional
	// +k8s:validation:maxLength=63
	ControlPlaneEndpointProvider EndpointProvider `json:"controlPlaneEndpointProvider,omitempty"`

	// projectID is the metal-stack project that owns everything of this cluster,
	// a UUID. It defaults to the project that the namespace is bound to, and no
	// other one is accepted. It cannot be changed once it is set.
	// +optional
	// +k8s:validation:maxLength=36
	ProjectID string `json:"projectID,omitempty"`

	// partition is the metal-stack partition of the cluster, which is one location
	// with its own switches and machines, such as `fra-equ01`.
	// `kubectl get metalstackpartitions` lists all. It cannot be changed.
	// +required
	// +k8s:validation:maxLength=63
	Partition string `json:"partition,omitempty"`

	// publicNetworkID is the external network of the cluster: the firewall is
	// connected to it, and the control plane's address is allocated in it if none
	// is set. Example: `internet-fra-equ01`. `kubectl get metalstacknetworks` lists all.
	// It cannot be changed once the allocation of the cluster has begun.
	// +optional
	// +k8s:validation:maxLength=253
	PublicNetworkID string `json:"publicNetworkID,omitempty"`

	// privateNetworkID is the private network of the cluster's machines. If it is
	// omitted, a network is allocated, its id is written here, and it is released
	// when the cluster is deleted. A network that you set must belong to the project,
	// and is kept when the cluster is deleted. `kubectl get metalstacknetworks` lists all.
	// It cannot be changed once it is set.
	// +optional
	// +k8s:validation:maxLength=253
	PrivateNetworkID string `json:"privateNetworkID,omitempty"`

	// privateNetwork is which addresses the private network gets when it is allocated. If
	// it is omitted, they are those that the partition has by default. It cannot be set
	// together with privateNetworkID, and cannot be changed once the allocation of the
	// cluster has begun.
	// +optional
	PrivateNetwork *PrivateNetwork `json:"privateNetwork,omitempty"`

	// clusterID is the id of the cluster in metal-stack: machines and networks carry
	// it as `cluster.metal-stack.io/id`, and metal-ccm is configured with it. If it is
	// omitted, it is written here when the cluster is allocated: the id that the network
	// in privateNetworkID carries, or else the uid of this object. Set it if another
	// controller manages the cluster, or if metal of the cluster carries an id already.
	// It is a valid label value, and no other cluster of the project has it. It should
	// not begin like another one's either: metal-ccm takes an address for its cluster's
	// if the id in its tag begins with its own. It cannot be changed once it is set.
	// +optional
	// +k8s:validation:maxLength=63
	ClusterID string `json:"clusterID,omitempty"`

	// firewallSpec is the firewall between the private network and the others. The
	// controller manager ensures that one MetalStackFirewall matches it. When it
	// changes, a new firewall is created, and replaces the old one once it has
	// phoned home. Without it the cluster has no firewall.
	// +optional
	FirewallSpec *MetalStackFirewallSpec `json:"firewallSpec,omitempty"`

	// metalAPIAccess gives the workload cluster, if it is set, access to the part of the
	// metal-api that is its own, which is the subresource `metalapi` of this object: `{}` is
	// enough. The controller manager then keeps, in the namespace, a ServiceAccount that
	// may use it and nothing else, its token, and the Secret `<Cluster>-metal-ccm` of the type
	// `addons.cluster.x-k8s.io/resource-set`, by which a ClusterResourceSet configures
	// metal-ccm in the workload cluster. It may be set, changed and removed at any time;
	// if it is removed, the token is revoked. The condition MetalAPIAccessReady says what is
	// there.
	// +optional
	MetalAPIAccess *MetalAPIAccess `json:"metalAPIAccess,omitempty"`
}

// MetalAPIAccess is how a workload cluster uses its part of the metal-api.
type MetalAPIAccess struct {
	// additionalNetworkIDs are networks, beside the private and the public network of the
	// cluster, whose addresses metal-ccm serves for Services that ask for one there by an
	// annotation. The project must be able to use them. There are at most 12.
	// +optional
	// +listType=set
	// +k8s:validation:maxItems=12
	// +k8s:validation:items:maxLength=253
	AdditionalNetworkIDs []string `json:"additionalNetworkIDs,omitempty"`
}

// PrivateNetwork is which addresses a private network gets when it is allocated.
// +structType=granular
type PrivateNetwork struct {
	// addressFamilies are the address families of the network: `IPv4`, `IPv6`, or both.
	// They default to those of the private networks of the partition.
	// +optional
	// +listType=set
	// +k8s:validation:maxItems=2
	// +k8s:validation:items:maxLength=4
	AddressFamilies []string `json:"addressFamilies,omitempty"`
	// prefixLengths are the lengths of the network's prefixes. They default to those of
	// the private networks of the partition.
	// +optional
	PrefixLengths PrefixLengths `json:"prefixLengths,omitempty,omitzero"`
}

// PrefixLengths are lengths of prefixes, by address family.
// +structType=granular
type PrefixLengths struct {
	// ipv4 is the length of the IPv4 prefix, up to 30. A prefix of the length 22 has 1024
	// addresses, of which the network itself uses two. It is longer than that of the
	// prefix that the partition has for private networks.
	// +optional
	IPv4 int32 `json:"ipv4,omitempty"`
	// ipv6 is the length of the IPv6 prefix, up to 126. It is longer than that of the
	// prefix that the partition has for private networks.
	// +optional
	IPv6 int32 `json:"ipv6,omitempty"`
}

// APIEndpoint is the address of an API server.
// +structType=granular
type APIEndpoint struct {
	// host is an IP address or a DNS name, without a port: `203.0.113.7`, or
	// `api.example.org`. If it is empty, an address is allocated.
	// Loopback, link-local, multicast and unspecified addresses and `localhost` are
	// refused, and so is an address of a metal-stack network, unless the project has
	// allocated it, or the control plane's provider brings the endpoint.
	// +optional
	// +k8s:validation:maxLength=253
	Host string `json:"host,omitempty"`
	// port is a TCP port from 1 to 65535. It defaults to 6443, but for an endpoint that
	// the control plane's provider brings, as long as that has no host.
	// +optional
	Port int32 `json:"port,omitempty"`
}

// MetalStackClusterStatus is the observed state of a MetalStackCluster. The fields
// network, controlPlaneIP, ready and failureDomains are read from the metal-api,
// and not stored. The fields initialization, conditions, allocation and deletion
// are Kubernetes-only state, and are recorded.
type MetalStackClusterStatus struct {
	// ready is true while network and control plane address exist in
	// metal-stack. It becomes false when one of them is lost; the Ready
	// condition says why. It does not depend on an endpoint that the control plane's
	// provider brings.
	// +optional
	Ready bool `json:"ready"`

	// clusterID is the id of the cluster in metal-stack, which its machines and its
	// network carry as `cluster.metal-stack.io/id`. It is set from the first attempt to
	// allocate the cluster on, and stays the same when the cluster is moved to another
	// management cluster.
	// +optional
	ClusterID string `json:"clusterID,omitempty"`

	// initialization tells Cluster API when it may continue.
	// +optional
	Initialization Initialization `json:"initialization,omitempty,omitzero"`

	// failureDomains are the failure domains for the machines of this cluster. There
	// is one, the partition.
	// +optional
	// +listType=map
	// +listMapKey=name
	FailureDomains []FailureDomain `json:"failureDomains,omitempty"`

	// conditions are the observed conditions:
	//   - Ready is the summary. Its reason is Available while network and address
	//     exist; otherwise NotAllocated, Allocating, NetworkGone, AddressGone,
	//     NotObserved, Releasing or Released, or the reason of Allocated that holds up an
	//     allocation or a release. It is ExternallyManaged if another
	//     controller manages the cluster.
	//   - Allocated is about the allocation. AllocationRefused and ReleaseRefused:
	//     the message says why. MetalAPIUnavailable: the metal-api or one of its
	//     backends does not answer. AllocationUncertain and ReleaseUncertain: the
	//     outcome of a call is unknown, and is being determined. NetworkGone and
	//     AddressGone: the metal does not exist any more. WaitingForOwner: Cluster API
	//     has not set the owner reference yet.
	//   - FirewallReady is about the cluster's firewall: PhonedHome while it runs;
	//     otherwise Provisioning, RollingOut, Replacing, NotReady, CreationRefused,
	//     NameTaken if another firewall has the name, or UpdateRefused if it runs, and a
	//     change of firewallSpec that needs no other firewall was refused.
	//   - FirewallControllerReady is about what the firewall-controllers need of both
	//     clusters, and is there only if firewallSpec.controller is set: Provided; otherwise
	//     WaitingForControlPlane, WorkloadClusterUnreachable, one of the reasons of
	//     MetalAPIAccessReady, or, after it was removed, Revoking.
	//   - MetalAPIAccessReady is about what metalAPIAccess asks for, and is there only if that
	//     is set: Provided; otherwise NotAllocated, WaitingForToken, ManagementURLMissing if
	//     the controller manager was not told the URL of the management cluster,
	//     AuthorityUnreadable if it cannot read the certificates for it, CreationRefused,
	//     RequestFailed, NameTaken if another object has the name, or ClusterMismatch if the
	//     Cluster of the label cluster.x-k8s.io/cluster-name is that of another one.
	//   - ControlPlaneEndpointSet is about an endpoint that the control plane's provider
	//     brings: EndpointSet once it is in the spec; otherwise WaitingForControlPlane, or
	//     EndpointDiffers if the control plane has another one by now.
	//   - Deleting says what a deletion waits for: OwnerNotFound, OwnerLookupFailed,
	//     GarbageCollected, WaitingForMachines, WaitingForFirewalls, ReleaseRefused,
	//     MarkedBeforeTakeover or MetalAPIUnavailable; Releasing if nothing.
	//   - Paused is True while the controller manager does not reconcile the object.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +k8s:validation:maxItems=32
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// network is the cluster's private network in the metal-api.
	// +optional
	Network *ClusterNetwork `json:"network,omitempty"`

	// controlPlaneIP is the control plane's address in the metal-api. It is empty if
	// the endpoint is a DNS name.
	// +optional
	ControlPlaneIP *ClusterIP `json:"controlPlaneIP,omitempty"`

	// allocation is the API server's record of what is allocated for this cluster. It
	// is set from the first attempt on.
	// +optional
	Allocation *ClusterAllocation `json:"allocation,omitempty"`

	// deletion is the API server's record of the request that deleted this
	// object. It is set together with metadata.deletionTimestamp; objects that were
	// marked by an earlier version do not have it.
	// +optional
	Deletion *Deletion `json:"deletion,omitempty"`
}

// Initialization is set once, and never reset.
// +structType=granular
type Initialization struct {
	// provisioned is true once the infrastructure was complete: for a cluster, when
	// network and address exist; for a machine or firewall, when it has phoned home.
	// Cluster API waits for it, and it stays true whatever happens later. The current
	// state is in status.ready.
	// +optional
	Provisioned *bool `json:"provisioned,omitempty"`
}

// FailureDomain is a failure domain of machines.
type FailureDomain struct {
	// name of the failure domain, which is the partition's.
	// +required
	Name string `json:"name"`
	// controlPlane is true if control plane machines may be placed there.
	// +optional
	ControlPlane *bool `json:"controlPlane,omitempty"`
	// attributes are further properties.
	// +optional
	Attributes map[string]string `json:"attributes,omitempty"`
}

// ClusterNetwork is a network in the metal-api. `kubectl get metalstacknetworks`
// lists all that a spec can name.
// +structType=atomic
type ClusterNetwork struct {
	// id of the network in metal-stack, a UUID.
	// +optional
	ID string `json:"id,omitempty"`
	// prefixes are the network's address ranges: `10.0.12.0/22`.
	// +optional
	// +listType=atomic
	Prefixes []string `json:"prefixes,omitempty"`
	// vrf is the number of the network's virtual routing table on the switches.
	// +optional
	VRF int64 `json:"vrf,omitempty"`
	// availableIPs is the total number of IPv4 addresses in the network, or of IPv6
	// addresses if it has no IPv4 prefix.
	// +optional
	AvailableIPs int64 `json:"availableIPs"`
	// usedIPs is the number of used addresses. When it reaches availableIPs, no
	// further machine can join.
	// +optional
	UsedIPs int64 `json:"usedIPs"`
}

// ClusterIP is an IP address in the metal-api.
// +structType=atomic
type ClusterIP struct {
	// address is the IP address: `203.0.113.7`.
	// +optional
	Address string `json:"address,omitempty"`
	// type is `static` for an address that stays until it is released, or
	// `ephemeral` for one that is released together with its machine.
	// +optional
	Type string `json:"type,omitempty"`
	// networkID is the network that the address belongs to.
	// +optional
	NetworkID string `json:"networkID,omitempty"`
}
