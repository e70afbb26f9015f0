// SPDX-License-Identifier: Apache-2.0

package wire

import "time"

// Error is what an error body holds, as JSON in a JSON string.
type Error struct {
	StatusCode int    `json:"statuscode"`
	Message    string `json:"message"`
}

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

// Usage counts addresses and prefixes.
type Usage struct {
	AvailableIPs      uint64 `json:"available_ips"`
	UsedIPs           uint64 `json:"used_ips"`
	AvailablePrefixes uint64 `json:"available_prefixes"`
	UsedPrefixes      uint64 `json:"used_prefixes"`
}

// Consumption is Usage by address family.
type Consumption struct {
	IPv4 *Usage `json:"ipv4"`
	IPv6 *Usage `json:"ipv6"`
}

// Network is a network (073, 041).
type Network struct {
	ID                         string            `json:"id"`
	Name                       string            `json:"name"`
	Description                string            `json:"description"`
	PartitionID                string            `json:"partitionid"`
	ProjectID                  string            `json:"projectid"`
	Labels                     map[string]string `json:"labels"`
	Shared                     bool              `json:"shared"`
	Prefixes                   []string          `json:"prefixes"`
	DestinationPrefixes        []string          `json:"destinationprefixes"`
	DefaultChildPrefixLength   map[string]int    `json:"defaultchildprefixlength"`
	Nat                        bool              `json:"nat"`
	PrivateSuper               bool              `json:"privatesuper"`
	Underlay                   bool              `json:"underlay"`
	Vrf                        uint              `json:"vrf"`
	VrfShared                  *bool             `json:"vrfshared"`
	ParentNetworkID            *string           `json:"parentnetworkid"`
	AdditionalAnnouncableCIDRs []string          `json:"additionalAnnouncableCIDRs,omitempty"`
	NetworkType                string            `json:"networktype"`
	NATType                    string            `json:"nattype"`
	Consumption                Consumption       `json:"consumption"`
	Usage                      Usage             `json:"usage"`
	Created                    time.Time         `json:"created"`
	Changed                    time.Time         `json:"changed"`
}

// IP is an address (113).
type IP struct {
	Name           string    `json:"name"`
	Description    string    `json:"description"`
	ProjectID      string    `json:"projectid"`
	NetworkID      string    `json:"networkid"`
	Type           string    `json:"type"`
	Tags           []string  `json:"tags"`
	IPAddress      string    `json:"ipaddress"`
	AllocationUUID string    `json:"allocationuuid"`
	Created        time.Time `json:"created"`
	Changed        time.Time `json:"changed"`
}

// BlockDevice is a disk of a machine.
type BlockDevice struct {
	Name string `json:"name"`
	Size uint64 `json:"size"`
}

// CPU is a processor of a machine.
type CPU struct {
	Vendor  string `json:"vendor"`
	Model   string `json:"model"`
	Cores   uint32 `json:"cores"`
	Threads uint32 `json:"threads"`
}

// Nic is a network card or its neighbour.
type Nic struct {
	MAC        string `json:"mac"`
	Name       string `json:"name"`
	Identifier string `json:"identifier"`
	Neighbors  []Nic  `json:"neighbors"`
}

// Hardware is what a machine is made of.
type Hardware struct {
	Memory   uint64        `json:"memory"`
	CPUCores int           `json:"cpu_cores"`
	Disks    []BlockDevice `json:"disks"`
	CPUs     []CPU         `json:"cpus,omitempty"`
	Nics     []Nic         `json:"nics"`
}

// BIOS of a machine.
type BIOS struct {
	Version string `json:"version"`
	Vendor  string `json:"vendor"`
	Date    string `json:"date"`
}

// MachineNetwork is one network of an allocation.
type MachineNetwork struct {
	NetworkID           string   `json:"networkid"`
	Prefixes            []string `json:"prefixes"`
	IPs                 []string `json:"ips"`
	DestinationPrefixes []string `json:"destinationprefixes"`
	NetworkType         string   `json:"networktype"`
	Vrf                 uint     `json:"vrf"`
	ASN                 int64    `json:"asn"`
	Nat                 bool     `json:"nat"`
	Private             bool     `json:"private"`
	Underlay            bool     `json:"underlay"`
	ProjectID           string   `json:"projectid"`
	NetworkTypeV2       string   `json:"networktypev2"`
	NATTypeV2           string   `json:"nattypev2"`
}

// BootInfo is what the installer reported.
type BootInfo struct {
	ImageID      string `json:"image_id"`
	PrimaryDisk  string `json:"primary_disk"`
	OSPartition  string `json:"os_partition"`
	Initrd       string `json:"initrd"`
	Cmdline      string `json:"cmdline"`
	Kernel       string `json:"kernel"`
	BootloaderID string `json:"bootloaderid"`
}

// FirewallRules of a firewall.
type FirewallRules struct {
	Egress  []EgressRule  `json:"egress,omitempty"`
	Ingress []IngressRule `json:"ingress,omitempty"`
}

// EgressRule lets traffic out.
type EgressRule struct {
	Protocol string   `json:"protocol,omitempty"`
	Ports    []int    `json:"ports"`
	To       []string `json:"to,omitempty"`
	Comment  string   `json:"comment,omitempty"`
}

// IngressRule lets traffic in.
type IngressRule struct {
	Protocol string   `json:"protocol,omitempty"`
	Ports    []int    `json:"ports"`
	To       []string `json:"to,omitempty"`
	From     []string `json:"from,omitempty"`
	Comment  string   `json:"comment,omitempty"`
}

// VPN is never set: the recordings are of an installation without one.
type VPN struct{}

// Allocation of a machine or firewall (205, 291).
type Allocation struct {
	Creator          string            `json:"creator"`
	Created          time.Time         `json:"created"`
	Name             string            `json:"name"`
	Description      string            `json:"description,omitempty"`
	Project          string            `json:"project"`
	Image            *Image            `json:"image"`
	FilesystemLayout *FilesystemLayout `json:"filesystemlayout"`
	Networks         []MachineNetwork  `json:"networks"`
	Hostname         string            `json:"hostname"`
	SSHPubKeys       []string          `json:"ssh_pub_keys"`
	UserData         string            `json:"user_data,omitempty"`
	Succeeded        bool              `json:"succeeded"`
	Reinstall        bool              `json:"reinstall"`
	BootInfo         *BootInfo         `json:"boot_info"`
	Role             string            `json:"role"`
	VPN              *VPN              `json:"vpn"`
	AllocationUUID   string            `json:"allocationuuid"`
	FirewallRules    *FirewallRules    `json:"firewall_rules,omitempty"`
	DNSServers       []DNSServer       `json:"dns_servers,omitempty"`
	NTPServers       []NTPServer       `json:"ntp_servers,omitempty"`
}

// State is LOCKED, RESERVED or empty; also the body of POST state.
type State struct {
	Value              string `json:"value"`
	Description        string `json:"description"`
	Issuer             string `json:"issuer,omitempty"`
	MetalHammerVersion string `json:"metal_hammer_version"`
}

// LEDState is the chassis LED.
type LEDState struct {
	Value       string `json:"value"`
	Description string `json:"description"`
}

// Event is one provisioning event.
type Event struct {
	Time    time.Time `json:"time"`
	Event   string    `json:"event"`
	Message string    `json:"message"`
}

// Events is a machine's log.
type Events struct {
	Log                  []Event    `json:"log"`
	LastEventTime        *time.Time `json:"last_event_time"`
	LastErrorEvent       *Event     `json:"last_error_event,omitempty"`
	CrashLoop            bool       `json:"crash_loop"`
	FailedMachineReclaim bool       `json:"failed_machine_reclaim"`
}

// FRU identifies the parts of a machine.
type FRU struct {
	ChassisPartNumber   string `json:"chassis_part_number"`
	ChassisPartSerial   string `json:"chassis_part_serial"`
	BoardMfg            string `json:"board_mfg"`
	BoardMfgSerial      string `json:"board_mfg_serial"`
	BoardPartNumber     string `json:"board_part_number"`
	ProductManufacturer string `json:"product_manufacturer"`
	ProductPartNumber   string `json:"product_part_number"`
	ProductSerial       string `json:"product_serial"`
}

// IPMI is a machine's management controller (168).
type IPMI struct {
	Address       string        `json:"address"`
	MAC           string        `json:"mac"`
	User          string        `json:"user"`
	Password      string        `json:"password"`
	Interface     string        `json:"interface"`
	FRU           FRU           `json:"fru"`
	BMCVersion    string        `json:"bmcversion"`
	PowerState    string        `json:"powerstate"`
	PowerMetric   *PowerMetric  `json:"powermetric"`
	PowerSupplies []PowerSupply `json:"powersupplies"`
	LastUpdated   time.Time     `json:"last_updated"`
}

// PowerMetric is how much power a machine consumes (2/126).
type PowerMetric struct {
	AverageConsumedWatts float64 `json:"averageconsumedwatts"`
	IntervalInMin        float64 `json:"intervalinmin"`
	MaxConsumedWatts     float64 `json:"maxconsumedwatts"`
	MinConsumedWatts     float64 `json:"minconsumedwatts"`
}

// PowerSupply is one of a machine's power supplies (2/126).
type PowerSupply struct {
	Status PowerSupplyStatus `json:"status"`
}

// PowerSupplyStatus is how a power supply is.
type PowerSupplyStatus struct {
	Health string `json:"health"`
	State  string `json:"state"`
}

// Machine is a machine or firewall (160, 205); IPMI only in IPMI answers.
type Machine struct {
	ID          string      `json:"id"`
	Name        string      `json:"name"`
	Description string      `json:"description"`
	Partition   *Partition  `json:"partition"`
	RackID      string      `json:"rackid"`
	Size        *Size       `json:"size"`
	Hardware    Hardware    `json:"hardware"`
	BIOS        BIOS        `json:"bios"`
	Allocation  *Allocation `json:"allocation"`
	State       State       `json:"state"`
	LEDState    LEDState    `json:"ledstate"`
	Liveliness  string      `json:"liveliness"`
	Events      Events      `json:"events"`
	Tags        []string    `json:"tags"`
	IPMI        *IPMI       `json:"ipmi,omitempty"`
	Created     time.Time   `json:"created"`
	Changed     time.Time   `json:"changed"`
}

// ConsolePassword is the answer of consolepassword (219).
type ConsolePassword struct {
	ID              string `json:"id"`
	Name            string `json:"name"`
	Description     string `json:"description"`
	ConsolePassword string `json:"console_password"`
}

// IpmiReportResponse is the answer of an IPMI report (326).
type IpmiReportResponse struct {
	Updated []string `json:"updated"`
	Created []string `json:"created"`
}

// Issue is a kind of issue (2/151).
type Issue struct {
	ID          string `json:"id"`
	Severity    string `json:"severity"`
	Description string `json:"description"`
	RefURL      string `json:"ref_url"`
	Details     string `json:"details"`
}

// MachineIssues is one machine with issues (269).
type MachineIssues struct {
	MachineID string   `json:"machineid"`
	Issues    []string `json:"issues"`
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

// SwitchNic is a port of a switch.
type SwitchNic struct {
	MAC          string    `json:"mac"`
	Name         string    `json:"name"`
	Identifier   string    `json:"identifier"`
	Vrf          string    `json:"vrf"`
	Filter       *struct{} `json:"filter"`
	Actual       string    `json:"actual"`
	BGPPortState *struct{} `json:"bgp_port_state"`
}

// SwitchOS is what runs on a switch.
type SwitchOS struct {
	Vendor           string `json:"vendor"`
	Version          string `json:"version"`
	MetalCoreVersion string `json:"metal_core_version"`
}

// SwitchConnection is a machine at a port.
type SwitchConnection struct {
	Nic       SwitchNic `json:"nic"`
	MachineID string    `json:"machine_id"`
}

// Switch is a leaf switch (040).
type Switch struct {
	ID             string             `json:"id"`
	Name           string             `json:"name"`
	Description    string             `json:"description"`
	RackID         string             `json:"rack_id"`
	Mode           string             `json:"mode"`
	OS             SwitchOS           `json:"os"`
	ManagementIP   string             `json:"management_ip"`
	ManagementUser string             `json:"management_user"`
	ConsoleCommand string             `json:"console_command"`
	Nics           []SwitchNic        `json:"nics"`
	Partition      Partition          `json:"partition"`
	Connections    []SwitchConnection `json:"connections"`
	LastSync       *struct{}          `json:"last_sync"`
	LastSyncError  *struct{}          `json:"last_sync_error"`
	Created        time.Time          `json:"created"`
	Changed        time.Time          `json:"changed"`
}

// User is the answer of user/me (003).
type User struct {
	EMail   string
	Name    string
	Groups  []string
	Tenant  string
	Issuer  string
	Subject string
}

// Version is the answer of version (001).
type Version struct {
	Name             string  `json:"name"`
	Version          string  `json:"version"`
	BuildDate        string  `json:"builddate"`
	Revision         string  `json:"revision"`
	GitSHA1          string  `json:"gitsha1"`
	MinClientVersion string  `json:"min_client_version"`
	ReleaseVersion   *string `json:"release_version"`
}

// ServiceHealth is the state of one backend.
type ServiceHealth struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

// Health is the answer of health (002, 372).
type Health struct {
	Status   string                   `json:"status"`
	Message  string                   `json:"message"`
	Services map[string]ServiceHealth `json:"services"`
}
