// SPDX-License-Identifier: Apache-2.0

package infrastructure

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackProject is the metal-stack project that a namespace is bound to. There is one in
// each bound namespace. It is read from the metal-api, and cannot be written.
type MetalStackProject struct {
	metav1.TypeMeta
	metav1.ObjectMeta

	Status MetalStackProjectStatus
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackProjectList is a list of MetalStackProject.
type MetalStackProjectList struct {
	metav1.TypeMeta
	metav1.ListMeta

	Items []MetalStackProject
}

// MetalStackProjectStatus is a project in the metal-api.
type MetalStackProjectStatus struct {
	ProjectID    string
	DisplayName  string
	Description  string
	Tenant       string
	Quotas       []ProjectQuota
	Reservations []SizeReservation
}

// ProjectQuota is how much of a resource a project may allocate.
type ProjectQuota struct {
	Resource string
	Limit    *int64
	Used     *int64
}

// SizeReservation is machines of one size in one partition that are kept for a project.
type SizeReservation struct {
	Size      string
	Partition string
	Amount    int64
	Used      int64
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackPartition is a metal-stack partition, one location with its own switches and
// machines, and what of its machines can be had. A spec names it in `partition`. It is read from
// the metal-api, and cannot be written. All users are shown the same sums.
type MetalStackPartition struct {
	metav1.TypeMeta
	metav1.ObjectMeta

	Status MetalStackPartitionStatus
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackPartitionList is a list of MetalStackPartition.
type MetalStackPartitionList struct {
	metav1.TypeMeta
	metav1.ListMeta

	Items []MetalStackPartition
}

// MetalStackPartitionStatus is a partition in the metal-api.
type MetalStackPartitionStatus struct {
	PartitionID string
	DisplayName string
	Description string
	Labels      map[string]string
	Capacity    []SizeCapacity
}

// SizeCapacity is how many machines of a size there are in a partition. Total is the sum of
// allocated, free, faulty and unavailable.
type SizeCapacity struct {
	Size        string
	Total       int64
	Allocated   int64
	Free        int64
	Reserved    int64
	Available   int64
	Faulty      int64
	Unavailable int64
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackSize is a metal-stack size, the hardware of a kind of machine. A spec names it in
// `machineType`. It is read from the metal-api, and cannot be written.
type MetalStackSize struct {
	metav1.TypeMeta
	metav1.ObjectMeta

	Status MetalStackSizeStatus
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackSizeList is a list of MetalStackSize.
type MetalStackSizeList struct {
	metav1.TypeMeta
	metav1.ListMeta

	Items []MetalStackSize
}

// MetalStackSizeStatus is a size in the metal-api.
type MetalStackSizeStatus struct {
	SizeID      string
	DisplayName string
	Description string
	Cores       *SizeRange
	Memory      *SizeRange
	Storage     *SizeRange
	GPUs        []SizeGPU
	Images      []SizeImageConstraint
}

// SizeRange is the least and the most that a machine of a size has.
type SizeRange struct {
	Min resource.Quantity
	Max resource.Quantity
}

// SizeGPU is a model of graphics processor that a machine has.
type SizeGPU struct {
	Model string
	Min   int64
	Max   int64
}

// SizeImageConstraint restricts the images of an operating system.
type SizeImageConstraint struct {
	OS       string
	Versions string
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackImage is an image in metal-stack, an operating system that machines or firewalls are
// installed with. A spec names it in `image`, by its id or by its alias. It is read from the
// metal-api, and cannot be written.
type MetalStackImage struct {
	metav1.TypeMeta
	metav1.ObjectMeta

	Status MetalStackImageStatus
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackImageList is a list of MetalStackImage.
type MetalStackImageList struct {
	metav1.TypeMeta
	metav1.ListMeta

	Items []MetalStackImage
}

// MetalStackImageStatus is an image in the metal-api.
type MetalStackImageStatus struct {
	ImageID        string
	DisplayName    string
	Description    string
	OS             string
	Version        string
	Alias          string
	Newest         bool
	Features       []string
	Classification string
	ExpirationTime *metav1.Time
}
