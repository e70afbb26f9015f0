package v1alpha4

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackMachineTemplate is the mould of MetalStackMachines. A
// MachineDeployment or KubeadmControlPlane of Cluster API names it, and makes a
// machine from it whenever it needs one. Its spec cannot be changed, since the
// machines made from it would no longer be like it: make a new template and
// name that instead.
type MetalStackMachineTemplate struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec holds the template. It cannot be changed.
	// +optional
	Spec MetalStackMachineTemplateSpec `json:"spec,omitempty"`
	// status says what a node made from this template would offer.
	// +optional
	Status MetalStackMachineTemplateStatus `json:"status,omitempty,omitzero"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackMachineTemplateList is a list of MetalStackMachineTemplate.
type MetalStackMachineTemplateList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list's metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the templates.
	Items []MetalStackMachineTemplate `json:"items"`
}

// MetalStackMachineTemplateSpec holds the template.
type MetalStackMachineTemplateSpec struct {
	// template is what a machine made from this begins with.
	// +required
	Template MetalStackMachineTemplateResource `json:"template"`
}

// MetalStackMachineTemplateResource has what a user writes of a machine.
type MetalStackMachineTemplateResource struct {
	// metadata is given to the machine.
	// +optional
	ObjectMeta TemplateMeta `json:"metadata,omitempty,omitzero"`
	// spec is given to the machine. A providerID in it would ask for the same
	// server again and again, and is refused.
	// +required
	Spec MetalStackMachineSpec `json:"spec"`
}

// TemplateMeta has the parts of metadata that can be given on.
type TemplateMeta struct {
	// labels are given to the object.
	// There are at most 256.
	// +optional
	// +k8s:validation:maxProperties=256
	Labels map[string]string `json:"labels,omitempty"`
	// annotations are given to the object.
	// There are at most 256, of 256 KiB together.
	// +optional
	// +k8s:validation:maxProperties=256
	Annotations map[string]string `json:"annotations,omitempty"`
}

// MetalStackMachineTemplateStatus lets an autoscaler scale up from no node at all.
type MetalStackMachineTemplateStatus struct {
	// capacity is what a server of the template's size has: `cpu` in cores,
	// `memory` in bytes.
	// +optional
	Capacity corev1.ResourceList `json:"capacity,omitempty"`
	// nodeInfo is what kind of node it would be.
	// +optional
	NodeInfo *NodeInfo `json:"nodeInfo,omitempty"`
}

// NodeInfo has the names that Kubernetes uses.
type NodeInfo struct {
	// architecture of the processor: `amd64` or `arm64`.
	// +optional
	Architecture string `json:"architecture,omitempty"`
	// operatingSystem is `linux`.
	// +optional
	OperatingSystem string `json:"operatingSystem,omitempty"`
}

// +genclient
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackClusterTemplate is the mould of MetalStackClusters. A ClusterClass
// of Cluster API names it, and every Cluster of that class gets a
// MetalStackCluster made from it. Its spec cannot be changed: make a new
// template and name that instead.
type MetalStackClusterTemplate struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec holds the template. It cannot be changed.
	// +optional
	Spec MetalStackClusterTemplateSpec `json:"spec,omitempty"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackClusterTemplateList is a list of MetalStackClusterTemplate.
type MetalStackClusterTemplateList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list's metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the templates.
	Items []MetalStackClusterTemplate `json:"items"`
}

// MetalStackClusterTemplateSpec holds the template.
type MetalStackClusterTemplateSpec struct {
	// template is what a cluster made from this begins with.
	// +required
	Template MetalStackClusterTemplateResource `json:"template"`
}

// MetalStackClusterTemplateResource has what a user writes of a cluster. Fields
// that a ClusterClass patches may be left out.
type MetalStackClusterTemplateResource struct {
	// metadata is given to the cluster.
	// +optional
	ObjectMeta TemplateMeta `json:"metadata,omitempty,omitzero"`
	// spec is given to the cluster. What must be its own, such as
	// privateNetworkID or the host of the endpoint, is better left out.
	// +required
	Spec MetalStackClusterSpec `json:"spec"`
}
