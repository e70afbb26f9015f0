package infrastructure

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// The finalizers of the objects that hold metal. The server puts them on when
// an object is created; the controller takes them off when the metal has been
// given back. An object that loses its finalizer in another way is forgotten,
// and its metal kept.
const (
	ClusterFinalizer  = "metalstackcluster." + GroupName
	MachineFinalizer  = "metalstackmachine." + GroupName
	FirewallFinalizer = "metalstackfirewall." + GroupName
)

// The identity that metal carries: tags `key=value` on machines and addresses,
// labels on networks. It is written once, when the metal is allocated, so that
// a lost answer, a lost record or a lost management cluster loses no metal.
const (
	// IdentityPrefix begins all keys that are ours.
	IdentityPrefix = GroupName + "/"
	// UIDTag holds the uid that the object had when the metal was allocated.
	UIDTag = IdentityPrefix + "uid"
	// NamespaceTag and NameTag hold where the object was then.
	NamespaceTag = IdentityPrefix + "namespace"
	NameTag      = IdentityPrefix + "name"
	// ManagementClusterTag holds the uid of the namespace kube-system of the
	// management cluster.
	ManagementClusterTag = IdentityPrefix + "management-cluster"
	// ClusterIDTag holds the uid of the MetalStackCluster; metal-stack's own
	// controllers look for it.
	ClusterIDTag = "cluster.metal-stack.io/id"
)

// Labels and annotations on Kubernetes objects.
const (
	// ProjectLabel on a Namespace binds it to a metal-stack project.
	ProjectLabel = "metal-stack." + GroupName + "/project"
	// ClusterNameLabel says which Cluster an object belongs to; Cluster API sets it.
	ClusterNameLabel = "cluster.x-k8s.io/cluster-name"
	// ManagedByAnnotation on an infrastructure cluster says that somebody else
	// looks after it. A label of that name is understood, too.
	ManagedByAnnotation = "cluster.x-k8s.io/managed-by"
	// ControlPlaneLabel is on the machines of a control plane; Cluster API sets it.
	ControlPlaneLabel = "cluster.x-k8s.io/control-plane"
	// WatchFilterLabel says which of several controllers looks after an object.
	WatchFilterLabel = "cluster.x-k8s.io/watch-filter"
	// PausedAnnotation makes controllers keep their hands off an object.
	PausedAnnotation = "cluster.x-k8s.io/paused"
	// BlockMoveAnnotation makes `clusterctl move` wait, while it is on an object.
	BlockMoveAnnotation = "clusterctl.cluster.x-k8s.io/block-move"
	// DeleteForMoveAnnotation is put on an object by `clusterctl move` before it
	// deletes it here because it lives elsewhere from now on: its metal is kept.
	DeleteForMoveAnnotation = "clusterctl.cluster.x-k8s.io/delete-for-move"
	// TopologyDryRunAnnotation waives the immutability of a template in a dry
	// run; Cluster API's topology controller sets it.
	TopologyDryRunAnnotation = "topology.cluster.x-k8s.io/dry-run"
	// ForceReleaseAnnotation on an object that is being deleted insists that its metal
	// is given back, although an owner that it names cannot be found.
	ForceReleaseAnnotation = "metal-stack." + GroupName + "/force-release"
)

// ExternallyManaged is whether somebody else looks after an infrastructure
// cluster: its network, its address and its firewall.
func ExternallyManaged(cluster metav1.Object) bool {
	_, annotated := cluster.GetAnnotations()[ManagedByAnnotation]
	_, labelled := cluster.GetLabels()[ManagedByAnnotation]
	return annotated || labelled
}
