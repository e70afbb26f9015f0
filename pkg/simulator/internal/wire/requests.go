// SPDX-License-Identifier: Apache-2.0

package wire

import "time"

// MachineSearchQuery is the body of machine and firewall find (162-165, 221-227).
type MachineSearchQuery struct {
	ID          *string  `json:"id"`
	Name        *string  `json:"name"`
	PartitionID *string  `json:"partition_id"`
	SizeID      *string  `json:"sizeid"`
	RackID      *string  `json:"rackid"`
	Tags        []string `json:"tags"`

	AllocationName      *string `json:"allocation_name"`
	AllocationProject   *string `json:"allocation_project"`
	AllocationImageID   *string `json:"allocation_image_id"`
	AllocationHostname  *string `json:"allocation_hostname"`
	AllocationRole      *string `json:"allocation_role"`
	AllocationSucceeded *bool   `json:"allocation_succeeded"`

	NetworkIDs                 []string `json:"network_ids"`
	NetworkPrefixes            []string `json:"network_prefixes"`
	NetworkIPs                 []string `json:"network_ips"`
	NetworkDestinationPrefixes []string `json:"network_destination_prefixes"`
	NetworkVrfs                []int64  `json:"network_vrfs"`
	NetworkASNs                []int64  `json:"network_asns"`

	NicsMacAddresses []string `json:"nics_mac_addresses"`
	StateValue       *string  `json:"state_value"`
	IpmiAddress      *string  `json:"ipmi_address"`
	IpmiMacAddress   *string  `json:"ipmi_mac_address"`
}

// MachineAllocateRequest is the body of machine allocate.
type MachineAllocateRequest struct {
	UUID               *string             `json:"uuid"`
	Name               *string             `json:"name"`
	Description        *string             `json:"description"`
	Hostname           *string             `json:"hostname"`
	ProjectID          string              `json:"projectid"`
	PartitionID        string              `json:"partitionid"`
	SizeID             string              `json:"sizeid"`
	ImageID            string              `json:"imageid"`
	FilesystemLayoutID *string             `json:"filesystemlayoutid"`
	SSHPubKeys         []string            `json:"ssh_pub_keys"`
	UserData           *string             `json:"user_data"`
	Tags               []string            `json:"tags"`
	Networks           []AllocationNetwork `json:"networks"`
	IPs                []string            `json:"ips"`
	PlacementTags      []string            `json:"placement_tags"`
	DNSServers         []DNSServer         `json:"dns_servers"`
	NTPServers         []NTPServer         `json:"ntp_servers"`
}

// AllocationNetwork is a network that a machine is to be in.
type AllocationNetwork struct {
	NetworkID     string `json:"networkid"`
	AutoAcquireIP *bool  `json:"autoacquire"`
}

// FirewallCreateRequest is the body of firewall allocate.
type FirewallCreateRequest struct {
	MachineAllocateRequest
	FirewallRules *FirewallRules `json:"firewall_rules"`
}

// MachineUpdateRequest is the body of machine update.
type MachineUpdateRequest struct {
	ID          string   `json:"id"`
	Description *string  `json:"description"`
	Tags        []string `json:"tags"`
	SSHPubKeys  []string `json:"ssh_pub_keys"`
}

// MachineReinstallRequest is the body of reinstall.
type MachineReinstallRequest struct {
	ImageID string `json:"imageid"`
}

// MachineConsolePasswordRequest is the body of consolepassword, a GET (219).
type MachineConsolePasswordRequest struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// MachineIpmiReports is what metal-bmc posts (326).
type MachineIpmiReports struct {
	PartitionID string                       `json:"partitionid"`
	Reports     map[string]MachineIpmiReport `json:"reports"`
}

// MachineIpmiReport is the report about one machine.
type MachineIpmiReport struct {
	BMCIp             string `json:"BMCIp"`
	BMCVersion        string `json:"BMCVersion"`
	BIOSVersion       string `json:"BIOSVersion"`
	IndicatorLEDState string `json:"IndicatorLEDState"`
	PowerState        string `json:"PowerState"`
	PowerMetric       *struct {
		AverageConsumedWatts float64 `json:"AverageConsumedWatts"`
		IntervalInMin        float64 `json:"IntervalInMin"`
		MaxConsumedWatts     float64 `json:"MaxConsumedWatts"`
		MinConsumedWatts     float64 `json:"MinConsumedWatts"`
	} `json:"PowerMetric"`
	PowerSupplies []struct {
		Status struct {
			Health string `json:"Health"`
			State  string `json:"State"`
		} `json:"Status"`
	} `json:"PowerSupplies"`
}

// NetworkSearchQuery is the body of network find (086-093).
type NetworkSearchQuery struct {
	ID                  *string           `json:"id"`
	Name                *string           `json:"name"`
	PartitionID         *string           `json:"partitionid"`
	ProjectID           *string           `json:"projectid"`
	Prefixes            []string          `json:"prefixes"`
	DestinationPrefixes []string          `json:"destinationprefixes"`
	Nat                 *bool             `json:"nat"`
	PrivateSuper        *bool             `json:"privatesuper"`
	Underlay            *bool             `json:"underlay"`
	Vrf                 *int64            `json:"vrf"`
	ParentNetworkID     *string           `json:"parentnetworkid"`
	Labels              map[string]string `json:"labels"`
	AddressFamily       *string           `json:"addressfamily"`
}

// NetworkAllocateRequest is the body of network allocate.
type NetworkAllocateRequest struct {
	Name                *string           `json:"name"`
	Description         *string           `json:"description"`
	PartitionID         *string           `json:"partitionid"`
	ProjectID           *string           `json:"projectid"`
	Labels              map[string]string `json:"labels"`
	Shared              *bool             `json:"shared"`
	Nat                 *bool             `json:"nat"`
	DestinationPrefixes []string          `json:"destinationprefixes"`
	Length              map[string]uint8  `json:"length"`
	AddressFamily       *string           `json:"addressfamily"`
}

// NetworkCreateRequest is the body of network create (an operator's call).
type NetworkCreateRequest struct {
	ID                         *string           `json:"id"`
	Name                       *string           `json:"name"`
	Description                *string           `json:"description"`
	PartitionID                *string           `json:"partitionid"`
	ProjectID                  *string           `json:"projectid"`
	Labels                     map[string]string `json:"labels"`
	Prefixes                   []string          `json:"prefixes"`
	DestinationPrefixes        []string          `json:"destinationprefixes"`
	DefaultChildPrefixLength   map[string]int    `json:"defaultchildprefixlength"`
	Nat                        bool              `json:"nat"`
	PrivateSuper               bool              `json:"privatesuper"`
	Underlay                   bool              `json:"underlay"`
	Vrf                        *uint             `json:"vrf"`
	VrfShared                  *bool             `json:"vrfshared"`
	AdditionalAnnouncableCIDRs []string          `json:"additionalAnnouncableCIDRs"`
}

// NetworkUpdateRequest is the body of network update.
type NetworkUpdateRequest struct {
	ID                         string            `json:"id"`
	Name                       *string           `json:"name"`
	Description                *string           `json:"description"`
	Labels                     map[string]string `json:"labels"`
	Shared                     *bool             `json:"shared"`
	Prefixes                   []string          `json:"prefixes"`
	DestinationPrefixes        []string          `json:"destinationprefixes"`
	DefaultChildPrefixLength   map[string]int    `json:"defaultchildprefixlength"`
	AdditionalAnnouncableCIDRs []string          `json:"additionalAnnouncableCIDRs"`
}

// IPSearchQuery is the body of IP find (141-145, 234, 235).
type IPSearchQuery struct {
	IPAddress        *string  `json:"ipaddress"`
	AllocationUUID   *string  `json:"allocationuuid"`
	Name             *string  `json:"name"`
	ParentPrefixCidr *string  `json:"networkprefix"`
	NetworkID        *string  `json:"networkid"`
	Tags             []string `json:"tags"`
	ProjectID        *string  `json:"projectid"`
	Type             *string  `json:"type"`
	MachineID        *string  `json:"machineid"`
	AddressFamily    *string  `json:"addressfamily"`
}

// IPAllocateRequest is the body of IP allocate, with and without an address.
type IPAllocateRequest struct {
	Name          *string  `json:"name"`
	Description   *string  `json:"description"`
	NetworkID     string   `json:"networkid"`
	ProjectID     string   `json:"projectid"`
	Type          string   `json:"type"`
	MachineID     *string  `json:"machineid"`
	Tags          []string `json:"tags"`
	AddressFamily *string  `json:"addressfamily"`
}

// IPUpdateRequest is the body of IP update.
type IPUpdateRequest struct {
	IPAddress   string   `json:"ipaddress"`
	Name        *string  `json:"name"`
	Description *string  `json:"description"`
	Type        string   `json:"type"`
	Tags        []string `json:"tags"`
}

// ProjectFindRequest is the body of project find.
type ProjectFindRequest struct {
	ID       *string `json:"id"`
	Name     *string `json:"name"`
	TenantID *string `json:"tenant_id"`
}

// TenantFindRequest is the body of tenant find.
type TenantFindRequest struct {
	ID   *string `json:"id"`
	Name *string `json:"name"`
}

// ImageFindRequest is the body of image find (035, 036).
type ImageFindRequest struct {
	ID             *string  `json:"id"`
	Name           *string  `json:"name"`
	OS             *string  `json:"os"`
	Version        *string  `json:"version"`
	Features       []string `json:"features"`
	Classification *string  `json:"classification"`
}

// PartitionCapacityRequest is the body of partition capacity.
type PartitionCapacityRequest struct {
	ID      *string `json:"id"`
	Size    *string `json:"sizeid"`
	Project *string `json:"projectid"`
}

// MachineIssuesRequest is the body of issues evaluate.
type MachineIssuesRequest struct {
	MachineSearchQuery
	Only     []string `json:"only"`
	Omit     []string `json:"omit"`
	Severity string   `json:"severity"`
	// LastErrorThreshold is in nanoseconds.
	LastErrorThreshold *time.Duration `json:"last_error_threshold"`
}

// SizeReservationFindRequest is the body of size reservations find.
type SizeReservationFindRequest struct {
	ID        *string `json:"id"`
	SizeID    *string `json:"sizeid"`
	ProjectID *string `json:"projectid"`
	Partition *string `json:"partitionid"`
}

// SizeReservationUpdateRequest changes a reservation (2/366-373).
type SizeReservationUpdateRequest struct {
	ID           string            `json:"id"`
	Name         *string           `json:"name"`
	Description  *string           `json:"description"`
	Amount       *int              `json:"amount"`
	PartitionIDs []string          `json:"partitionids"`
	Labels       map[string]string `json:"labels"`
}

// SizeImageTryRequest asks whether an image fits a size (2/440-443).
type SizeImageTryRequest struct {
	Size  string `json:"size"`
	Image string `json:"image"`
}
