// SPDX-License-Identifier: Apache-2.0

package metal

// MachineQuery selects machines; what is set is ANDed. Firewalls are machines.
type MachineQuery struct {
	ID        string
	Name      string // the allocation's
	Hostname  string
	Project   string
	Partition string
	Size      string
	Image     string
	Role      string // RoleMachine or RoleFirewall
	// Tags are whole tags, all of which a machine must carry.
	Tags     []string
	Networks []string
	IPs      []string
}

// MachineRequest asks for a machine: a certain one by ID, or any of a size in
// a partition.
type MachineRequest struct {
	ID          string
	Project     string
	Partition   string
	Size        string
	Image       string
	Name        string
	Hostname    string
	Description string
	SSHKeys     []string
	Tags        []string
	// PlacementTags spread machines that share them over racks.
	PlacementTags []string
	// Networks get an address each, unless IPs has one in it.
	Networks []string
	IPs      []string
	// DNSServers and NTPServers are the partition's if they are empty.
	DNSServers []string
	NTPServers []string
	// FilesystemLayout is the one that fits size and image if it is empty.
	FilesystemLayout string
	// UserData is sent base64-encoded, and kept or shown nowhere.
	UserData []byte
}

// FirewallRequest asks for a firewall.
type FirewallRequest struct {
	MachineRequest
	// Rules are nil for the image's own.
	Rules *FirewallRules
}

// FirewallRules are the rules of a firewall from its first boot on.
type FirewallRules struct {
	Egress  []EgressRule
	Ingress []IngressRule
}

// EgressRule allows connections out of the private network.
type EgressRule struct {
	Protocol string
	Ports    []int32
	To       []string
	Comment  string
}

// IngressRule allows connections into the private network.
type IngressRule struct {
	Protocol string
	Ports    []int32
	To       []string
	From     []string
	Comment  string
}

// NetworkQuery selects networks; what is set is ANDed.
type NetworkQuery struct {
	ID      string
	Name    string
	Project string
	// NoProject selects the networks of no project.
	NoProject bool
	Partition string
	Parent    string
	// PrivateSuper selects the networks that private ones are allocated from.
	PrivateSuper bool
	// Labels a network must all carry.
	Labels map[string]string
}

// NetworkRequest asks for a private network out of the partition's super
// network.
type NetworkRequest struct {
	Project     string
	Partition   string
	Name        string
	Description string
	Labels      map[string]string
	// Lengths of the prefixes by address family (IPv4, IPv6); nil: the super
	// network's defaults.
	Lengths map[string]int64
	// AddressFamily restricts a network of a dual-stack super network.
	AddressFamily string
}

// IPQuery selects IPs; what is set is ANDed.
type IPQuery struct {
	Address string
	Name    string
	Project string
	Network string
	Machine string
	Type    string
	// Tags are whole tags, all of which an IP must carry.
	Tags []string
}

// IPRequest asks for an address.
type IPRequest struct {
	// Address asks for this very one; empty: any of the network.
	Address     string
	Project     string
	Network     string
	Name        string
	Description string
	Type        string // TypeStatic or TypeEphemeral
	Tags        []string
	// AddressFamily restricts "any" in a dual-stack network; not with Address.
	AddressFamily string
}
