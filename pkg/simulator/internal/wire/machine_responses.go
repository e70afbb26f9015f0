// SPDX-License-Identifier: Apache-2.0

package wire

import "time"

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
