// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"fmt"
)

// DataCentre is the inventory that a Simulator starts with.
type DataCentre struct {
	Partitions        []Partition
	Sizes             []Size
	Images            []Image
	FilesystemLayouts []FilesystemLayout
	Networks          []Network
	Tenants           []Tenant
	Projects          []Project
	Machines          []Machine
}

// Partition is one location with racks and a network fabric.
type Partition struct {
	ID, Name, Description            string
	Labels                           map[string]string
	DNSServers                       []string
	NTPServers                       []string
	ImageURL, KernelURL, CommandLine string
	// Racks get two leaf switches each even before a machine is in them.
	Racks []string
}

// Size is a kind of machine. Ranges are in units (cores) and bytes.
type Size struct {
	ID, Name, Description  string
	Labels                 map[string]string
	MinCores, MaxCores     uint64
	MinMemory, MaxMemory   uint64
	MinStorage, MaxStorage uint64
	GPUs                   []SizeGPU
	// Hardware of machines of this size; the zero value is a small one with
	// one disk.
	Hardware SizeHardware
}

// SizeGPU is a model of graphics processor that machines of a size have.
type SizeGPU struct {
	Model    string
	Min, Max uint64
}

// SizeHardware is what machines of a size are made of.
type SizeHardware struct {
	Memory      uint64 // bytes
	Vendor, CPU string
	Cores       uint32
	Threads     uint32
	Disks       []string // devices, /dev/sda for example
	DiskSize    uint64   // bytes
}

// Image is an operating system image with its full id, os-major.minor.patch.
type Image struct {
	ID, Name, Description string
	URL                   string
	Features              []string // machine, firewall
	Classification        string   // preview, supported, deprecated; empty: supported
	ExpiresInDays         int      // 0: 90
}

// FilesystemLayout lays images on one disk of machines of some sizes.
type FilesystemLayout struct {
	ID, Description string
	// Device is the disk that it needs, e.g. /dev/sda; Partition is what
	// comes before a partition's number, e.g. /dev/nvme0n1p; empty: Device.
	Device, Partition string
	// Keep: its disk is not wiped by a reinstallation, which is then refused.
	Keep   bool
	Sizes  []string
	Images map[string]string // os to version constraint, "*" for all
}

// Network is a network of the provider (a project super network, an external
// network such as internet, an underlay), or a child that is there from the
// beginning and then names its Parent.
type Network struct {
	ID, Name, Description      string
	Partition                  string
	Project                    string
	Parent                     string
	Labels                     map[string]string
	Prefixes                   []string
	DestinationPrefixes        []string
	DefaultChildPrefixLength   map[string]int // "IPv4": 22, "IPv6": 96
	AdditionalAnnouncableCIDRs []string
	VRF                        uint
	NAT                        bool
	PrivateSuper               bool
	Underlay                   bool
	Shared                     bool
}

// Tenant owns projects.
type Tenant struct {
	ID, Name, Description string
}

// Project owns machines, networks and addresses.
type Project struct {
	ID, Name, Description, Tenant string
	Annotations                   map[string]string
	Labels                        []string
}

// Machine is one server in a rack.
type Machine struct {
	ID        string // a UUID; empty: from the seed
	Partition string
	Rack      string
	Size      string
	Chassis   string // the serial number of its chassis; empty: chassis-<Number>
	// Number makes MAC and IPMI addresses; 0: the next one.
	Number int
	// Port of both leaf switches, 1 to 16; 0: by Number.
	Port int
	// State is where in its life the machine starts.
	State MachineStart
}

// MachineStart is where in its life a machine starts.
type MachineStart string

const (
	// MachineWaiting waits for an allocation.
	MachineWaiting MachineStart = ""
	// MachineRegistered has sent its last event, Registering, but waits not yet (159).
	MachineRegistered MachineStart = "Registered"
	// MachineBooting has sent PXE Booting only: partition and size are
	// unknown (docs/metal-api.md, Q32).
	MachineBooting MachineStart = "Booting"
	// MachineGhost has no event container: GET answers 404, find shows it (326-328).
	MachineGhost MachineStart = "Ghost"
)

// Names in DefaultDataCentre.
const (
	ProjectA         = "10000000-0000-4000-8000-00000000000a"
	ProjectB         = "10000000-0000-4000-8000-00000000000b"
	DefaultTenant    = "acme"
	DefaultPartition = "fra-01"
	SmallSize        = "v1-small-x86"
	LargeSize        = "c1-large-x86"
	InternetNetwork  = "internet-fra-01"
	SuperNetwork     = "tenant-super-network-fra-01"
	UnderlayNetwork  = "underlay-fra-01"
	MachineImage     = "ubuntu-24.04"
	FirewallImage    = "firewall-ubuntu-3.0"
)

const (
	// machinesPerPartition of the default data centre.
	machinesPerPartition = 1000
	// roomyFrom is the number of machines from which on networks are larger
	// than the recordings'.
	roomyFrom = 65
	gib       = 1 << 30
)

// DefaultDataCentre is an installation of so many machines, up to 30,000. With
// 8 machines it is the one of the recordings: partition fra-01 with six
// machines of v1-small-x86 and two of c1-large-x86 in two racks, images of
// ubuntu and of a firewall, an internet, a tiny external network, an underlay
// and a dual-stack project super network. More machines come in the same
// proportion, sixteen to a rack and a thousand to a partition (fra-01, fra-02,
// …); from 65 machines on super networks have room for 512 networks and the
// internet for 4094 addresses, below for 63 and 126. The tenant acme has the
// projects team-a (ProjectA) and team-b (ProjectB).
func DefaultDataCentre(machines int) *DataCentre {
	d := &DataCentre{
		Sizes:  defaultSizes(),
		Images: defaultImages(),
		FilesystemLayouts: []FilesystemLayout{
			{ID: "default-small", Device: "/dev/sda", Sizes: []string{SmallSize}, Images: map[string]string{"ubuntu": "*", "firewall-ubuntu": "*"}},
			{ID: "default-large", Device: "/dev/nvme0n1", Partition: "/dev/nvme0n1p", Sizes: []string{LargeSize}, Images: map[string]string{"ubuntu": "*", "firewall-ubuntu": "*"}},
		},
		Tenants: []Tenant{
			{ID: DefaultTenant, Name: DefaultTenant, Description: "Acme Corp"},
			{ID: providerTenant, Name: providerTenant, Description: "provider tenant"},
		},
		Projects: []Project{
			{ID: ProjectA, Name: "team-a", Description: "project of team a", Tenant: DefaultTenant},
			{ID: ProjectB, Name: "team-b", Description: "project of team b", Tenant: DefaultTenant},
		},
	}
	partitions := min(max(1, (machines+machinesPerPartition-1)/machinesPerPartition), 30)
	for p := range partitions {
		id := fmt.Sprintf("fra-%02d", p+1)
		d.Partitions = append(d.Partitions, Partition{
			ID: id, Name: fmt.Sprintf("Frankfurt %02d", p+1), Description: "test partition", Labels: map[string]string{"region": "fra"},
			Racks: []string{id + "-rack-01", id + "-rack-02"},
		})
		if machines < roomyFrom {
			d.Networks = append(d.Networks, recordedNetworks(id)...)
		} else {
			d.Networks = append(d.Networks, roomyNetworks(id, p)...)
		}
	}
	for m := range machines {
		d.Machines = append(d.Machines, defaultMachine(m, partitions))
	}
	return d
}

// defaultMachine places machines in groups of eight on two racks: three small
// ones in each, then a large one in each.
func defaultMachine(m, partitions int) Machine {
	p := min(m/machinesPerPartition, partitions-1)
	slot := m - p*machinesPerPartition
	group, place := slot/8, slot%8
	left := place < 3 || place == 6
	rack := 2*(group/4) + 2
	if left {
		rack--
	}
	size := SmallSize
	if place >= 6 {
		size = LargeSize
	}
	port := slot%16 + 1
	if group%4 >= 2 { // the ports that the first two groups leave free in this rack
		port = group%2*8 + []int{3, 4, 5, 0, 1, 2, 7, 6}[place] + 1
	}
	partition := fmt.Sprintf("fra-%02d", p+1)
	return Machine{
		ID:        fmt.Sprintf("00000000-0000-4000-8000-%012d", m+1),
		Partition: partition, Size: size, Number: m + 1, Port: port,
		Rack: fmt.Sprintf("%s-rack-%02d", partition, rack),
	}
}

func defaultSizes() []Size {
	return []Size{
		{
			ID: SmallSize, Name: SmallSize, Description: "small", MinCores: 1, MaxCores: 4,
			MinMemory: 500 << 20, MaxMemory: 4 * gib, MinStorage: gib, MaxStorage: 100 * gib,
		},
		{
			ID: LargeSize, Name: LargeSize, Description: "large", Labels: map[string]string{"class": "compute"},
			MinCores: 16, MaxCores: 64, MinMemory: 64 * gib, MaxMemory: 512 * gib, MinStorage: 200 * gib, MaxStorage: 4000 * gib,
			Hardware: SizeHardware{
				Memory: 128 * gib, Vendor: "AuthenticAMD", CPU: "AMD EPYC 7543", Cores: 32, Threads: 64,
				Disks: []string{"/dev/nvme0n1", "/dev/nvme1n1"}, DiskSize: 960 * gib,
			},
		},
	}
}

func defaultImages() []Image {
	return []Image{
		{ID: "ubuntu-24.04.20250101", Features: []string{"machine"}, Classification: "deprecated"},
		{ID: "ubuntu-24.04.20250701", Features: []string{"machine"}},
		{ID: "ubuntu-24.04.20260101", Features: []string{"machine"}},
		{ID: "ubuntu-22.04.20250701", Features: []string{"machine"}},
		{ID: "firewall-ubuntu-3.0.20250701", Features: []string{"firewall"}},
		{ID: "firewall-ubuntu-3.0.20260101", Features: []string{"firewall"}},
	}
}

var externalLabels = map[string]string{"network.metal-stack.io/default": "", "network.metal-stack.io/default-external": ""}

func recordedNetworks(partition string) []Network {
	return []Network{
		{
			ID: "tenant-super-network-" + partition, Name: "Project Super Network", Description: "super network", Partition: partition,
			Prefixes: []string{"10.0.0.0/16", "2001:db8:0:10::/64"}, AdditionalAnnouncableCIDRs: []string{"10.240.0.0/12"},
			DefaultChildPrefixLength: map[string]int{ipv4: 22, ipv6: 96}, PrivateSuper: true,
		},
		{
			ID: "internet-" + partition, Name: "Internet", Description: "internet", Partition: partition, Labels: externalLabels,
			Prefixes: []string{"203.0.113.128/25", "2001:db8:0:113::/64"}, DestinationPrefixes: []string{"0.0.0.0/0", "::/0"}, NAT: true, VRF: 104009,
		},
		{
			ID: "tiny-" + partition, Name: "Tiny", Description: "external network with two usable addresses", Partition: partition,
			Prefixes: []string{"198.51.100.0/30"}, DestinationPrefixes: []string{"198.51.100.0/24"}, NAT: true, VRF: 104010,
		},
		{
			ID: "underlay-" + partition, Name: "Underlay", Description: "underlay", Partition: partition,
			Prefixes: []string{"10.1.0.0/24"}, Underlay: true,
		},
	}
}

func roomyNetworks(partition string, p int) []Network {
	return []Network{
		{
			ID: "tenant-super-network-" + partition, Name: "Project Super Network", Description: "super network", Partition: partition,
			Prefixes:                 []string{fmt.Sprintf("10.%d.0.0/13", 8*p), fmt.Sprintf("2001:db8:0:%x::/64", 0x10+p)},
			DefaultChildPrefixLength: map[string]int{ipv4: 22, ipv6: 96}, PrivateSuper: true,
		},
		{
			ID: "internet-" + partition, Name: "Internet", Description: "internet", Partition: partition, Labels: externalLabels,
			Prefixes:            []string{fmt.Sprintf("198.%d.%d.0/20", 18+p/16, 16*(p%16)), fmt.Sprintf("2001:db8:1:%x::/64", 0x113+p)},
			DestinationPrefixes: []string{"0.0.0.0/0", "::/0"}, NAT: true, VRF: uint(104009 + p),
		},
		{
			ID: "underlay-" + partition, Name: "Underlay", Description: "underlay", Partition: partition,
			Prefixes: []string{fmt.Sprintf("172.%d.%d.0/20", 16+p/16, 16*(p%16))}, Underlay: true,
		},
	}
}
