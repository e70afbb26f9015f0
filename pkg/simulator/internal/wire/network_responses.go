// SPDX-License-Identifier: Apache-2.0

package wire

import "time"

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
