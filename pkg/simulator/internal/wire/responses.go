// SPDX-License-Identifier: Apache-2.0

package wire

import "time"

// Error is what an error body holds, as JSON in a JSON string.
type Error struct {
	StatusCode int    `json:"statuscode"`
	Message    string `json:"message"`
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
