package v1alpha4

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +genclient:method=Allocate,verb=create,subresource=allocation,input=Allocation,result=MetalStackCluster
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackCluster is the infrastructure of one Kubernetes cluster on
// metal-stack: the private network that its machines share, the address of its
// control plane, and the firewall between the two. A Cluster API Cluster names
// it in spec.infrastructureRef. The spec is what you want; the status is what
// the metal-api says, read when you ask for it.
type MetalStackCluster struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata. The name is at most 63
	// lower-case letters, digits, dashes and dots, because it becomes a label in
	// metal-stack. The namespace decides the metal-stack project that
	// everything is allocated in.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what you want of the cluster's infrastructure.
	// +optional
	Spec MetalStackClusterSpec `json:"spec,omitempty"`
	// status is what is known of the cluster's infrastructure. Nobody but the
	// API server and its controllers writes it.
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

// MetalStackClusterSpec needs a partition, and a publicNetworkID wherever an
// address or a firewall has to be made.
type MetalStackClusterSpec struct {
	// controlPlaneEndpoint is where the API server of the new cluster is
	// reached. Leave it out to have an address allocated in publicNetworkID and
	// written here; or name an address of your own, which must belong to the
	// project, and which is then kept when the cluster is deleted.
	// +optional
	ControlPlaneEndpoint APIEndpoint `json:"controlPlaneEndpoint,omitempty,omitzero"`

	// projectID is the metal-stack project that owns everything of this cluster,
	// a UUID. It defaults to the project that the namespace is bound to, and no
	// other one is accepted. It cannot be changed once it is set.
	// +optional
	// +k8s:validation:maxLength=36
	ProjectID string `json:"projectID,omitempty"`

	// partition is the metal-stack partition, which is one location with its own
	// switches and machines, that the cluster is built in: `fra-equ01`, say.
	// `metalctl partition list` shows those there are. It cannot be changed.
	// +required
	// +k8s:validation:maxLength=63
	Partition string `json:"partition,omitempty"`

	// publicNetworkID is the external network that the cluster reaches the
	// world through: the firewall is connected to it, and the control plane's
	// address is taken from it if none is given. Example: `internet-fra-equ01`.
	// It cannot be changed once something has been allocated for the cluster.
	// +optional
	// +k8s:validation:maxLength=253
	PublicNetworkID string `json:"publicNetworkID,omitempty"`

	// privateNetworkID is the private network of the cluster's machines. Leave
	// it out to have one allocated, and given back when the cluster is deleted;
	// its id is then written here. Or name one of your project, which is then
	// kept when the cluster is deleted. It cannot be changed once it is set.
	// +optional
	// +k8s:validation:maxLength=253
	PrivateNetworkID string `json:"privateNetworkID,omitempty"`

	// firewallSpec is the firewall between the private network and the others.
	// It makes the controller keep one MetalStackFirewall like it; when it
	// changes, a new firewall is built and, once that has phoned home, takes the
	// place of the old one. Without it the cluster gets no firewall.
	// +optional
	FirewallSpec *MetalStackFirewallSpec `json:"firewallSpec,omitempty"`
}

// APIEndpoint is where an API server is reached.
// +structType=granular
type APIEndpoint struct {
	// host is an IP address or a DNS name, without a port: `203.0.113.7`, or
	// `api.example.org`. Empty means that an address is to be allocated.
	// Loopback, link-local, multicast and unspecified addresses and `localhost` are
	// refused, and so is an address in a range that metal-stack hands out, unless it
	// is one that the project has allocated.
	// +optional
	// +k8s:validation:maxLength=253
	Host string `json:"host,omitempty"`
	// port is a TCP port from 1 to 65535; 6443 if it is left out.
	// +optional
	Port int32 `json:"port,omitempty"`
}

// MetalStackClusterStatus has two halves. Network and controlPlaneIP, and ready
// and failureDomains, which follow from them, are read from the metal-api, and
// stored nowhere. Initialization, conditions and allocation are what the
// metal-api has no word for, and are recorded.
type MetalStackClusterStatus struct {
	// ready is true while network and control plane address exist in
	// metal-stack. It goes back to false when one of them is lost; the Ready
	// condition says why.
	// +optional
	Ready bool `json:"ready"`

	// initialization tells Cluster API when it may go on.
	// +optional
	Initialization Initialization `json:"initialization,omitempty,omitzero"`

	// failureDomains are the places that machines of this cluster can be spread
	// over. There is one: the partition.
	// +optional
	// +listType=map
	// +listMapKey=name
	FailureDomains []FailureDomain `json:"failureDomains,omitempty"`

	// conditions say what has been reached and what is in the way:
	//   - Ready sums up. Its reason is Available while network and address are
	//     there; otherwise NotAllocated, Allocating, NetworkGone, AddressGone,
	//     NotObserved, Releasing or Released, or the reason of Allocated for which an
	//     allocation or a release does not go on. It is ExternallyManaged if another
	//     controller manages the cluster.
	//   - Allocated is about the allocation. AllocationRefused and ReleaseRefused:
	//     the message says why. MetalAPIUnavailable: the metal-api or one of its
	//     backends does not answer. AllocationUncertain and ReleaseUncertain: an
	//     answer was lost, and the outcome is looked for. NetworkGone and
	//     AddressGone: the metal is not there any more. WaitingForOwner: Cluster API
	//     has not set the owner reference yet.
	//   - FirewallReady is about the cluster's firewall: PhonedHome while it runs;
	//     otherwise Provisioning, Rolling, Replacing, NotReady, Refused, or NameTaken
	//     if another firewall has the name.
	//   - Deleting says what a deletion waits for: OwnerNotFound, OwnerLookupFailed,
	//     GarbageCollected, WaitingForMachines, WaitingForFirewalls, ReleaseRefused,
	//     MarkedBeforeTakeover or MetalAPIUnavailable; Releasing if for nothing.
	//   - Paused is True while the controller does not reconcile the object.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +k8s:validation:maxItems=32
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// network is the cluster's private network as the metal-api shows it now.
	// +optional
	Network *ClusterNetwork `json:"network,omitempty"`

	// controlPlaneIP is the control plane's address as the metal-api shows it
	// now. It stays empty if the endpoint is a DNS name.
	// +optional
	ControlPlaneIP *ClusterIP `json:"controlPlaneIP,omitempty"`

	// allocation is the API server's record of what this cluster holds in
	// metal-stack. It is there from the first attempt on.
	// +optional
	Allocation *ClusterAllocation `json:"allocation,omitempty"`

	// deletion is the API server's record of the request that deleted this
	// object. It is set together with metadata.deletionTimestamp; objects that were
	// marked by an earlier version do not have it.
	// +optional
	Deletion *Deletion `json:"deletion,omitempty"`
}

// Initialization holds what never goes back once it is true.
// +structType=granular
type Initialization struct {
	// provisioned is true once the infrastructure was there for the first time:
	// for a cluster, network and address; for a machine or firewall, its first
	// `Phoned Home`. Cluster API waits for it and never looks back, so it stays
	// true whatever happens later; status.ready tells the present.
	// +optional
	Provisioned *bool `json:"provisioned,omitempty"`
}

// FailureDomain is one place to put machines.
type FailureDomain struct {
	// name of the failure domain, which is the partition's.
	// +required
	Name string `json:"name"`
	// controlPlane is true if control plane machines may be put there.
	// +optional
	ControlPlane *bool `json:"controlPlane,omitempty"`
	// attributes say more about it.
	// +optional
	Attributes map[string]string `json:"attributes,omitempty"`
}

// ClusterNetwork holds what matters of a network; `metalctl network describe
// <id>` shows the rest.
// +structType=atomic
type ClusterNetwork struct {
	// id of the network in metal-stack, a UUID.
	// +optional
	ID string `json:"id,omitempty"`
	// prefixes are the network's address ranges: `10.0.12.0/22`.
	// +optional
	// +listType=atomic
	Prefixes []string `json:"prefixes,omitempty"`
	// vrf is the number of the virtual routing table that keeps this network
	// apart from all others on the switches.
	// +optional
	VRF int64 `json:"vrf,omitempty"`
	// availableIPs is how many IPv4 addresses the network holds in total, or
	// IPv6 ones if it has no IPv4 prefix.
	// +optional
	AvailableIPs int64 `json:"availableIPs"`
	// usedIPs is how many of them are taken. When it reaches availableIPs, no
	// further machine can join.
	// +optional
	UsedIPs int64 `json:"usedIPs"`
}

// ClusterIP holds what matters of an address.
// +structType=atomic
type ClusterIP struct {
	// address is the IP address: `203.0.113.7`.
	// +optional
	Address string `json:"address,omitempty"`
	// type is `static` for an address that stays until it is released, or
	// `ephemeral` for one that goes with the machine that holds it.
	// +optional
	Type string `json:"type,omitempty"`
	// networkID is the network that the address belongs to.
	// +optional
	NetworkID string `json:"networkID,omitempty"`
}
