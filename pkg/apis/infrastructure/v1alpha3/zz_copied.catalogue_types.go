// Code generated from ../v1alpha4/catalogue_types.go by hack/update-codegen.sh. DO NOT EDIT.

// SPDX-License-Identifier: Apache-2.0

package v1alpha3

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +genclient:onlyVerbs=get,list,watch
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackProject is the metal-stack project that a namespace is bound to. There is one in
// each bound namespace. It is read from the metal-api, and cannot be written.
type MetalStackProject struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata. The name is the id of the project.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// status is the project in the metal-api.
	// +optional
	Status MetalStackProjectStatus `json:"status,omitempty,omitzero"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackProjectList is a list of MetalStackProject.
type MetalStackProjectList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list's metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the projects.
	Items []MetalStackProject `json:"items"`
}

// MetalStackProjectStatus is a project in the metal-api.
type MetalStackProjectStatus struct {
	// projectID is the id of the project in metal-stack, a UUID.
	// +optional
	ProjectID string `json:"projectID,omitempty"`
	// displayName is the project's name in metal-stack.
	// +optional
	DisplayName string `json:"displayName,omitempty"`
	// description of the project in metal-stack.
	// +optional
	Description string `json:"description,omitempty"`
	// tenant is the metal-stack tenant that the project belongs to.
	// +optional
	Tenant string `json:"tenant,omitempty"`
	// quotas are how much the project may allocate, and how much of it is used.
	// +optional
	// +listType=map
	// +listMapKey=resource
	Quotas []ProjectQuota `json:"quotas,omitempty"`
	// reservations are the machines that are kept for the project: other projects cannot
	// allocate them. Those of the same size and partition do not add up: the largest one counts.
	// +optional
	// +listType=atomic
	Reservations []SizeReservation `json:"reservations,omitempty"`
}

// ProjectQuota is how much of a resource a project may allocate.
// +structType=atomic
type ProjectQuota struct {
	// resource is what is counted: `machines`, which are machines and firewalls, or
	// `addresses`.
	// +required
	Resource string `json:"resource"`
	// limit is how many there may be. If it is omitted, metal-stack sets no limit.
	// +optional
	Limit *int64 `json:"limit,omitempty"`
	// used is how many there are. If it is omitted, it was not observed yet.
	// +optional
	Used *int64 `json:"used,omitempty"`
}

// SizeReservation is machines of one size in one partition that are kept for a project.
// +structType=atomic
type SizeReservation struct {
	// size of the machines.
	// +required
	Size string `json:"size"`
	// partition of the machines.
	// +required
	Partition string `json:"partition"`
	// amount is how many machines are reserved.
	// +optional
	Amount int64 `json:"amount"`
	// used is how many of them the project has allocated.
	// +optional
	Used int64 `json:"used"`
}

// +genclient
// +genclient:nonNamespaced
// +genclient:onlyVerbs=get,list,watch
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackPartition is a metal-stack partition, one location with its own switches and
// machines, and what of its machines can be had. A spec names it in `partition`. It is read from
// the metal-api, and cannot be written. All users are shown the same sums.
type MetalStackPartition struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata. The name is the id of the partition.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// status is the partition in the metal-api.
	// +optional
	Status MetalStackPartitionStatus `json:"status,omitempty,omitzero"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackPartitionList is a list of MetalStackPartition.
type MetalStackPartitionList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list's metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the partitions.
	Items []MetalStackPartition `json:"items"`
}

// MetalStackPartitionStatus is a partition in the metal-api.
type MetalStackPartitionStatus struct {
	// partitionID is the id of the partition in metal-stack.
	// +optional
	PartitionID string `json:"partitionID,omitempty"`
	// displayName is the partition's name in metal-stack.
	// +optional
	DisplayName string `json:"displayName,omitempty"`
	// description of the partition in metal-stack.
	// +optional
	Description string `json:"description,omitempty"`
	// labels of the partition in metal-stack.
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
	// capacity is how many machines there are of each size.
	// +optional
	// +listType=map
	// +listMapKey=size
	Capacity []SizeCapacity `json:"capacity,omitempty"`
}

// SizeCapacity is how many machines of a size there are in a partition. Total is the sum of
// allocated, free, faulty and unavailable.
// +structType=atomic
type SizeCapacity struct {
	// size of the machines.
	// +required
	Size string `json:"size"`
	// total is how many machines there are.
	// +optional
	Total int64 `json:"total"`
	// allocated is how many of them are allocated, by any project.
	// +optional
	Allocated int64 `json:"allocated"`
	// free is how many of them can be allocated now: they wait for it, and are alive.
	// +optional
	Free int64 `json:"free"`
	// reserved is how many of the free ones are kept for projects that have a reservation
	// which they have not used up.
	// +optional
	Reserved int64 `json:"reserved"`
	// available is how many machines a project without a reservation can allocate now: the
	// free ones that are not reserved.
	// +optional
	Available int64 `json:"available"`
	// faulty is how many of them are not allocated, and cannot be, until an operator of
	// metal-stack has looked after them: they are dead, crash, or were not reclaimed.
	// +optional
	Faulty int64 `json:"faulty"`
	// unavailable is how many others are not allocated, and cannot be now: they boot, or
	// were locked or reserved by an operator of metal-stack.
	// +optional
	Unavailable int64 `json:"unavailable"`
}

// +genclient
// +genclient:nonNamespaced
// +genclient:onlyVerbs=get,list,watch
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackSize is a metal-stack size, the hardware of a kind of machine. A spec names it in
// `machineType`. It is read from the metal-api, and cannot be written.
type MetalStackSize struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata. The name is the id of the size.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// status is the size in the metal-api.
	// +optional
	Status MetalStackSizeStatus `json:"status,omitempty,omitzero"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackSizeList is a list of MetalStackSize.
type MetalStackSizeList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list's metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the sizes.
	Items []MetalStackSize `json:"items"`
}

// MetalStackSizeStatus is a size in the metal-api.
type MetalStackSizeStatus struct {
	// sizeID is the id of the size in metal-stack.
	// +optional
	SizeID string `json:"sizeID,omitempty"`
	// displayName is the size's name in metal-stack.
	// +optional
	DisplayName string `json:"displayName,omitempty"`
	// description of the size in metal-stack.
	// +optional
	Description string `json:"description,omitempty"`
	// cores is how many processor cores a machine has.
	// +optional
	Cores *SizeRange `json:"cores,omitempty"`
	// memory is how much memory a machine has.
	// +optional
	Memory *SizeRange `json:"memory,omitempty"`
	// storage is how much disk space a machine has, over all disks.
	// +optional
	Storage *SizeRange `json:"storage,omitempty"`
	// gpus are the graphics processors of a machine.
	// +optional
	// +listType=atomic
	GPUs []SizeGPU `json:"gpus,omitempty"`
	// images are the versions of operating systems that machines of the size can be installed
	// with. An operating system that is not listed is not restricted.
	// +optional
	// +listType=map
	// +listMapKey=os
	Images []SizeImageConstraint `json:"images,omitempty"`
}

// SizeRange is the least and the most that a machine of a size has.
// +structType=atomic
type SizeRange struct {
	// min is the least that a machine of the size has.
	// +optional
	Min resource.Quantity `json:"min,omitempty,omitzero"`
	// max is the most that a machine of the size has.
	// +optional
	Max resource.Quantity `json:"max,omitempty,omitzero"`
}

// SizeGPU is a model of graphics processor that a machine has.
// +structType=atomic
type SizeGPU struct {
	// model is which one, as a pattern that metal-stack matches the hardware with.
	// +required
	Model string `json:"model"`
	// min is how many a machine has at least.
	// +optional
	Min int64 `json:"min"`
	// max is how many a machine has at most.
	// +optional
	Max int64 `json:"max"`
}

// SizeImageConstraint restricts the images of an operating system.
// +structType=atomic
type SizeImageConstraint struct {
	// os is the operating system, the part of the image's id before its version: `ubuntu`.
	// +required
	OS string `json:"os"`
	// versions is which ones are allowed, such as `>= 24.04`.
	// +required
	Versions string `json:"versions"`
}

// +genclient
// +genclient:nonNamespaced
// +genclient:onlyVerbs=get,list,watch
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackImage is an image in metal-stack, an operating system that machines or firewalls are
// installed with. A spec names it in `image`, by its id or by its alias. It is read from the
// metal-api, and cannot be written.
type MetalStackImage struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata. The name is the full id of the image.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// status is the image in the metal-api.
	// +optional
	Status MetalStackImageStatus `json:"status,omitempty,omitzero"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackImageList is a list of MetalStackImage.
type MetalStackImageList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list's metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the images.
	Items []MetalStackImage `json:"items"`
}

// MetalStackImageStatus is an image in the metal-api.
type MetalStackImageStatus struct {
	// imageID is the full id of the image in metal-stack, `<os>-<major>.<minor>.<patch>`.
	// +optional
	ImageID string `json:"imageID,omitempty"`
	// displayName is the image's name in metal-stack.
	// +optional
	DisplayName string `json:"displayName,omitempty"`
	// description of the image in metal-stack.
	// +optional
	Description string `json:"description,omitempty"`
	// os is the operating system: `ubuntu`.
	// +optional
	OS string `json:"os,omitempty"`
	// version of the operating system, with the patch: `24.04.20250701`.
	// +optional
	Version string `json:"version,omitempty"`
	// alias is the id without the patch: `ubuntu-24.04`. A spec that names it gets the newest
	// image with this alias, whether or not that has expired.
	// +optional
	Alias string `json:"alias,omitempty"`
	// newest is true if the alias stands for this image now.
	// +optional
	Newest bool `json:"newest,omitempty"`
	// features are what can be installed with the image: `machine`, `firewall`.
	// +optional
	// +listType=set
	Features []string `json:"features,omitempty"`
	// classification is `preview`, `supported` or `deprecated`.
	// +optional
	Classification string `json:"classification,omitempty"`
	// expirationTime is until when metal-stack supports the image. metal-stack installs it
	// after that, too, without a warning; this API warns of it.
	// +optional
	ExpirationTime *metav1.Time `json:"expirationTime,omitempty"`
}
