// SPDX-License-Identifier: Apache-2.0

package v1alpha4

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackMachineTemplate is a template of MetalStackMachines. A
// MachineDeployment or KubeadmControlPlane of Cluster API references it, and creates
// machines from it. Its spec cannot be changed: create another template and
// reference it instead.
type MetalStackMachineTemplate struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec holds the template. It cannot be changed.
	// +optional
	Spec MetalStackMachineTemplateSpec `json:"spec,omitempty"`
	// status is the capacity of a node that is created from this template.
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
	// template is the metadata and the spec of machines that are created from it.
	// +required
	Template MetalStackMachineTemplateResource `json:"template"`
}

// MetalStackMachineTemplateResource is the metadata and the spec of a machine.
type MetalStackMachineTemplateResource struct {
	// metadata is copied to the machine.
	// +optional
	ObjectMeta TemplateMeta `json:"metadata,omitempty,omitzero"`
	// spec is copied to the machine. The providerID must be empty.
	// +required
	Spec MetalStackMachineSpec `json:"spec"`
}

// TemplateMeta is the part of metadata that a template can set.
type TemplateMeta struct {
	// labels are copied to the object.
	// There are at most 256.
	// +optional
	// +k8s:validation:maxProperties=256
	Labels map[string]string `json:"labels,omitempty"`
	// annotations are copied to the object.
	// There are at most 256, of 256 KiB together.
	// +optional
	// +k8s:validation:maxProperties=256
	Annotations map[string]string `json:"annotations,omitempty"`
}

// MetalStackMachineTemplateStatus is what an autoscaler needs to scale from zero.
type MetalStackMachineTemplateStatus struct {
	// capacity is that of a machine of the template's size: `cpu` in cores, `memory`
	// in bytes.
	// +optional
	Capacity corev1.ResourceList `json:"capacity,omitempty"`
	// nodeInfo describes the node.
	// +optional
	NodeInfo *NodeInfo `json:"nodeInfo,omitempty"`
}

// NodeInfo describes a node in the words of a Node's status.
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

// MetalStackClusterTemplate is a template of MetalStackClusters. A ClusterClass of
// Cluster API references it, and a MetalStackCluster is created from it for each
// Cluster of that class. Its spec cannot be changed: create another template and
// reference it instead.
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
	// template is the metadata and the spec of clusters that are created from it.
	// +required
	Template MetalStackClusterTemplateResource `json:"template"`
}

// MetalStackClusterTemplateResource is the metadata and the spec of a cluster.
// Fields that a ClusterClass patches may be omitted.
type MetalStackClusterTemplateResource struct {
	// metadata is copied to the cluster.
	// +optional
	ObjectMeta TemplateMeta `json:"metadata,omitempty,omitzero"`
	// spec is copied to the cluster. Omit what must differ between clusters, such as
	// privateNetworkID or the host of the endpoint.
	// +required
	Spec MetalStackClusterSpec `json:"spec"`
}
