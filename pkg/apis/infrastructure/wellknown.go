// SPDX-License-Identifier: Apache-2.0

package infrastructure

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// The finalizers of the objects that hold metal. The API server adds them when an
// object is created; the controller manager removes them when the metal is
// released. If a finalizer is removed in another way, the object is deleted and its
// metal kept.
const (
	ClusterFinalizer  = "metalstackcluster." + GroupName
	MachineFinalizer  = "metalstackmachine." + GroupName
	FirewallFinalizer = "metalstackfirewall." + GroupName
	NetworkFinalizer  = "metalstacknetwork." + GroupName
	IPFinalizer       = "metalstackip." + GroupName
)

// RemediationFinalizer is on a remediation while its machine may be switched off, or its Node
// have the out-of-service taint. The controller manager adds it, and removes it when both are
// undone.
const RemediationFinalizer = "remediation." + GroupName

// The identity that metal carries: tags `key=value` on machines and addresses,
// labels on networks. It is written once, when the metal is allocated, so that
// it is found again after a lost answer, record or management cluster.
const (
	// IdentityPrefix is the prefix of all these keys.
	IdentityPrefix = GroupName + "/"
	// UIDTag holds the uid that the object had when the metal was allocated.
	UIDTag = IdentityPrefix + "uid"
	// NamespaceTag and NameTag hold the namespace and name that it had then.
	NamespaceTag = IdentityPrefix + "namespace"
	NameTag      = IdentityPrefix + "name"
	// ManagementClusterTag holds the uid of the namespace kube-system of the
	// management cluster.
	ManagementClusterTag = IdentityPrefix + "management-cluster"
	// ClusterIDTag holds the cluster id of the MetalStackCluster, for metal-stack's own
	// controllers.
	ClusterIDTag = "cluster.metal-stack.io/id"
)

// Labels and annotations on Kubernetes objects.
const (
	// ProjectLabel on a Namespace binds it to a metal-stack project.
	ProjectLabel = "metal-stack." + GroupName + "/project"
	// ClusterNameLabel says which Cluster an object belongs to; Cluster API sets it.
	ClusterNameLabel = "cluster.x-k8s.io/cluster-name"
	// ManagedByAnnotation on an infrastructure cluster says that it is externally
	// managed. A label of that name has the same meaning.
	ManagedByAnnotation = "cluster.x-k8s.io/managed-by"
	// ControlPlaneLabel is on the machines of a control plane; Cluster API sets it.
	ControlPlaneLabel = "cluster.x-k8s.io/control-plane"
	// WatchFilterLabel says which of several controllers reconciles an object.
	WatchFilterLabel = "cluster.x-k8s.io/watch-filter"
	// PausedAnnotation pauses the reconciliation of an object.
	PausedAnnotation = "cluster.x-k8s.io/paused"
	// BlockMoveAnnotation makes `clusterctl move` wait, while it is on an object.
	BlockMoveAnnotation = "clusterctl.cluster.x-k8s.io/block-move"
	// DeleteForMoveAnnotation is set by `clusterctl move` before it deletes an object
	// that it has moved to another management cluster: its metal is kept.
	DeleteForMoveAnnotation = "clusterctl.cluster.x-k8s.io/delete-for-move"
	// TopologyDryRunAnnotation waives the immutability of a template in a dry
	// run; Cluster API's topology controller sets it.
	TopologyDryRunAnnotation = "topology.cluster.x-k8s.io/dry-run"
	// ForceReleaseAnnotation on an object that is being deleted has its metal released
	// although a hold says otherwise, such as an owner that cannot be found.
	ForceReleaseAnnotation = "metal-stack." + GroupName + "/force-release"
	// ReplaceAnnotation on a firewall of a cluster with a firewallSpec has it replaced: a new
	// one takes over before it is deleted.
	ReplaceAnnotation = "metal-stack." + GroupName + "/replace"
	// UpdatedForAnnotation is on a firewall that the controller manager made in place of one
	// with an old image: the newer image. While the alias stands for no newer one, the new
	// firewall is not replaced, whichever image it got.
	UpdatedForAnnotation = "metal-stack." + GroupName + "/updated-for"
)

// FirewallControllerSuffix ends the name of the ServiceAccount of a cluster's
// firewall-controllers, after that of the MetalStackCluster. The API server knows them by it.
const FirewallControllerSuffix = "-firewall-controller"

// CauseNotAdmitted is among the causes in an error of a request that was not admitted because
// admission failed: a webhook is away, or policies could not be read. Nothing was done.
const CauseNotAdmitted metav1.CauseType = "NotAdmitted"

// ExternallyManaged reports whether another controller manages an infrastructure
// cluster: its network, its address and its firewall.
func ExternallyManaged(cluster metav1.Object) bool {
	_, annotated := cluster.GetAnnotations()[ManagedByAnnotation]
	_, labelled := cluster.GetLabels()[ManagedByAnnotation]
	return annotated || labelled
}

// How warnings begin of what the allocation would be refused for of an object whose creation is a
// dry run; of why that cannot be known; and of what else is to be known of it.
const (
	AllocationWouldBeRefused = "the allocation would be refused now: "
	AllocationUnknown        = "whether the allocation would be refused cannot be known now: "
	AllocationNote           = "about the allocation: "
)
