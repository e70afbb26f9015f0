// SPDX-License-Identifier: Apache-2.0

package wire

import "time"

// DNSServer is a resolver.
type DNSServer struct {
	IP string `json:"ip"`
}

// NTPServer is a time server.
type NTPServer struct {
	Address string `json:"address"`
}

// BootConfig is how machines of a partition boot.
type BootConfig struct {
	ImageURL    string `json:"imageurl"`
	KernelURL   string `json:"kernelurl"`
	CommandLine string `json:"commandline"`
}

// Partition is a partition (022).
type Partition struct {
	ID                 string            `json:"id"`
	Name               string            `json:"name"`
	Description        string            `json:"description"`
	MgmtServiceAddress string            `json:"mgmtserviceaddress"`
	DNSServers         []DNSServer       `json:"dns_servers"`
	NTPServers         []NTPServer       `json:"ntp_servers"`
	BootConfig         BootConfig        `json:"bootconfig"`
	Created            time.Time         `json:"created"`
	Changed            time.Time         `json:"changed"`
	Labels             map[string]string `json:"labels"`
}

// Constraint is one range of a size.
type Constraint struct {
	Type       string `json:"type"`
	Min        uint64 `json:"min"`
	Max        uint64 `json:"max"`
	Identifier string `json:"identifier,omitempty"`
}

// Size is a size (026).
type Size struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Constraints []Constraint      `json:"constraints"`
	Labels      map[string]string `json:"labels"`
	Created     time.Time         `json:"created"`
	Changed     time.Time         `json:"changed"`
}

// Image is an image (030).
type Image struct {
	ID             string    `json:"id"`
	Name           string    `json:"name"`
	Description    string    `json:"description"`
	URL            string    `json:"url"`
	Features       []string  `json:"features"`
	ExpirationDate time.Time `json:"expirationDate"`
	Classification string    `json:"classification"`
	UsedBy         []string  `json:"usedby"`
	Created        time.Time `json:"created"`
	Changed        time.Time `json:"changed"`
}

// Filesystem is one mount of a layout.
type Filesystem struct {
	Path          string   `json:"path"`
	Device        string   `json:"device"`
	Format        string   `json:"format"`
	Label         *string  `json:"label"`
	MountOptions  []string `json:"mountoptions"`
	CreateOptions []string `json:"createoptions"`
}

// DiskPartition is one partition of a disk.
type DiskPartition struct {
	Number  int    `json:"number"`
	Label   string `json:"label"`
	Size    uint64 `json:"size"`
	GPTType string `json:"gpttype"`
}

// Disk is a disk of a layout.
type Disk struct {
	Device          string          `json:"device"`
	Partitions      []DiskPartition `json:"partitions"`
	WipeOnReinstall bool            `json:"wipeonreinstall"`
}

// LayoutConstraints say for what a layout is.
type LayoutConstraints struct {
	Sizes  []string          `json:"sizes"`
	Images map[string]string `json:"images"`
}

// FilesystemLayout is a filesystem layout (037).
type FilesystemLayout struct {
	ID             string            `json:"id"`
	Name           string            `json:"name"`
	Description    string            `json:"description"`
	Filesystems    []Filesystem      `json:"filesystems"`
	Disks          []Disk            `json:"disks"`
	Raid           []string          `json:"raid"`
	VolumeGroups   []string          `json:"volumegroups"`
	LogicalVolumes []string          `json:"logicalvolumes"`
	Constraints    LayoutConstraints `json:"constraints"`
}

// Meta is masterdata's metadata.
type Meta struct {
	ID          string            `json:"id"`
	Kind        string            `json:"kind,omitempty"`
	APIVersion  string            `json:"apiversion,omitempty"`
	Version     int64             `json:"version,omitempty"`
	CreatedTime *time.Time        `json:"created_time,omitempty"`
	UpdatedTime *time.Time        `json:"updated_time,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Labels      []string          `json:"labels,omitempty"`
}

// Quota limits and counts one kind of thing.
type Quota struct {
	Used  *int32 `json:"used,omitempty"`
	Quota *int32 `json:"quota,omitempty"`
}

// Quotas of a project.
type Quotas struct {
	Cluster *Quota `json:"cluster,omitempty"`
	Machine *Quota `json:"machine,omitempty"`
	IP      *Quota `json:"ip,omitempty"`
}

// Project is a project, in requests and answers (043, 053).
type Project struct {
	Meta        *Meta   `json:"meta,omitempty"`
	Name        string  `json:"name,omitempty"`
	Description string  `json:"description,omitempty"`
	TenantID    string  `json:"tenant_id,omitempty"`
	Quotas      *Quotas `json:"quotas,omitempty"`
}

// Tenant is a tenant (039).
type Tenant struct {
	Meta        *Meta  `json:"meta,omitempty"`
	Name        string `json:"name,omitempty"`
	Description string `json:"description,omitempty"`
}

// ServerCapacity counts the machines of one size (169).
type ServerCapacity struct {
	Size                  string   `json:"size"`
	Total                 int      `json:"total,omitempty"`
	PhonedHome            int      `json:"phoned_home,omitempty"`
	Waiting               int      `json:"waiting,omitempty"`
	Other                 int      `json:"other,omitempty"`
	OtherMachines         []string `json:"othermachines,omitempty"`
	Allocated             int      `json:"allocated,omitempty"`
	Allocatable           int      `json:"allocatable,omitempty"`
	Free                  int      `json:"free,omitempty"`
	Unavailable           int      `json:"unavailable,omitempty"`
	Faulty                int      `json:"faulty,omitempty"`
	FaultyMachines        []string `json:"faultymachines,omitempty"`
	Reservations          int      `json:"reservations,omitempty"`
	UsedReservations      int      `json:"usedreservations,omitempty"`
	RemainingReservations int      `json:"remainingreservations,omitempty"`
}

// PartitionCapacity is the capacity of one partition (169).
type PartitionCapacity struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Servers     []*ServerCapacity `json:"servers"`
}

// SizeReservation keeps machines for a project, in requests and answers (336).
type SizeReservation struct {
	ID           string            `json:"id"`
	Name         string            `json:"name"`
	Description  string            `json:"description"`
	Created      time.Time         `json:"created"`
	Changed      time.Time         `json:"changed"`
	SizeID       string            `json:"sizeid"`
	PartitionIDs []string          `json:"partitionids"`
	ProjectID    string            `json:"projectid"`
	Amount       int               `json:"amount"`
	Labels       map[string]string `json:"labels,omitempty"`
}

// SizeReservationUsage is what is used of a reservation in one partition (2/357).
type SizeReservationUsage struct {
	ID                 string            `json:"id"`
	Name               string            `json:"name"`
	Description        string            `json:"description"`
	SizeID             string            `json:"sizeid"`
	PartitionID        string            `json:"partitionid"`
	ProjectID          string            `json:"projectid"`
	Amount             int               `json:"amount"`
	UsedAmount         int               `json:"usedamount"`
	ProjectAllocations int               `json:"projectallocations"`
	Labels             map[string]string `json:"labels,omitempty"`
}

// SizeImageConstraint restricts the images of a size, whose id it has (2/638).
type SizeImageConstraint struct {
	ID          string           `json:"id"`
	Name        string           `json:"name"`
	Description string           `json:"description"`
	Constraints ImageConstraints `json:"constraints"`
}

// ImageConstraints are versions by operating system.
type ImageConstraints struct {
	Images map[string]string `json:"images"`
}
