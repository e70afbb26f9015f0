package simulator

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
	ID, Name, Description string
	Labels                map[string]string
	DNSServers            []string
	NTPServers            []string
}

// Size is a kind of machine. Cores, memory and storage are ranges in
// units and bytes.
type Size struct {
	ID, Name, Description  string
	Labels                 map[string]string
	MinCores, MaxCores     uint64
	MinMemory, MaxMemory   uint64
	MinStorage, MaxStorage uint64
	Disk                   string // device of the boot disk of machines of this size, e.g. /dev/sda
}

// Image is an operating system image with its full id, os-major.minor.patch.
type Image struct {
	ID             string
	Name           string
	Description    string
	URL            string
	Features       []string // machine, firewall
	Classification string   // preview, supported, deprecated; empty: supported
	ExpiresInDays  int      // empty: 90
}

// FilesystemLayout lays images on disks of sizes.
type FilesystemLayout struct {
	ID, Description string
	Device          string // the disk that it needs, e.g. /dev/sda
	Sizes           []string
	Images          map[string]string // os to version constraint
}

// Network is a network of the provider: a project super network, an
// external network such as internet, an underlay; or a child that is there
// from the beginning.
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
	Chassis   string
	// State is where in its life the machine starts: MachineWaiting (the
	// default), MachineRegistered, MachineBooting, MachineGhost.
	State MachineStart
}

// MachineStart is where in its life a machine starts.
type MachineStart string

const (
	// MachineWaiting waits for an allocation.
	MachineWaiting MachineStart = ""
	// MachineRegistered has sent its last event, Registering, but not waited yet.
	MachineRegistered MachineStart = "Registered"
	// MachineBooting has sent PXE Booting only: partition and size are unknown (README, "A machine's life").
	MachineBooting MachineStart = "Booting"
	// MachineGhost has no event container: GET answers 404, find shows it (326-328).
	MachineGhost MachineStart = "Ghost"
)

// DefaultDataCentre is an installation with one partition per thousand
// machines (at least one), racks of sixteen, two sizes (v1-small-x86 and
// c1-large-x86), ubuntu and firewall images, an internet, an underlay and a
// dual-stack project super network in each partition, the tenants acme and
// metal-stack and the projects team-a and team-b.
func DefaultDataCentre(machines int) *DataCentre { return &DataCentre{} }

// Ids in DefaultDataCentre.
const (
	ProjectA         = "10000000-0000-4000-8000-00000000000a"
	ProjectB         = "10000000-0000-4000-8000-00000000000b"
	DefaultPartition = "fra-01"
	SmallSize        = "v1-small-x86"
	LargeSize        = "c1-large-x86"
	InternetNetwork  = "internet-fra-01"
	SuperNetwork     = "tenant-super-network-fra-01"
	UnderlayNetwork  = "underlay-fra-01"
	MachineImage     = "ubuntu-24.04"
	FirewallImage    = "firewall-ubuntu-3.0"
)
