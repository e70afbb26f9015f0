// SPDX-License-Identifier: Apache-2.0

package v1alpha4

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Metal is a machine in the metal-api. `metalctl machine describe <machineID>`
// shows all properties.
// +structType=atomic
type Metal struct {
	// machineID is the machine's id in metal-stack, a UUID that never changes.
	// +optional
	MachineID string `json:"machineID,omitempty"`

	// allocationUUID identifies this allocation of the machine. When the machine is
	// released and allocated again, it has another one.
	// +optional
	AllocationUUID string `json:"allocationUUID,omitempty"`

	// managed is true for a machine that was allocated for or adopted by this object.
	// It is false for a discovered machine: the object is then read-only, and deleting
	// it does not change the machine.
	// +optional
	Managed bool `json:"managed"`

	// project is the metal-stack project that the machine is allocated in, a UUID.
	// +optional
	Project string `json:"project,omitempty"`

	// partition is the machine's partition.
	// +optional
	Partition string `json:"partition,omitempty"`

	// rack is the machine's rack. Machines of one rack share switches and power.
	// +optional
	Rack string `json:"rack,omitempty"`

	// size is the machine's size, as in spec.machineType.
	// +optional
	Size string `json:"size,omitempty"`

	// image is the full id of the image that the machine was installed with. If
	// spec.image is an alias, this is the version that it stood for.
	// +optional
	Image string `json:"image,omitempty"`

	// hostname that the machine was installed with.
	// +optional
	Hostname string `json:"hostname,omitempty"`

	// allocationTime is when the machine was allocated.
	// +optional
	AllocationTime *metav1.Time `json:"allocationTime,omitempty"`

	// phase is the machine's phase. While it is provisioned, in this order:
	//   - Pending: no allocation was requested yet.
	//   - Allocating: a machine is being allocated, or is allocated and has sent no
	//     event since.
	//   - Installing: the image is being written to its disk.
	//   - Booting New Kernel: it boots the installed image.
	//   - Phoned Home: its operating system runs, and reports about once a minute.
	//
	// After the object was deleted:
	//   - Releasing: it is being released.
	//   - Released: it was released.
	//
	// At any time:
	//   - Gone: the allocation ended without a release by this API.
	//   - Unknown: the API server has not observed it since it started.
	//   - any other provisioning event of the metal-api, if it is the newest of this
	//     allocation, such as PXE Booting, Planned Reboot or Crashed.
	// +optional
	Phase string `json:"phase,omitempty"`

	// liveliness is whether the machine sends events:
	//   - Alive: it sent an event within the last five minutes.
	//   - Unknown: it is allocated, and has sent no event for longer. It may be down
	//     or disconnected, or its operating system has stopped reporting.
	//   - Dead: it is not allocated, and has sent no event for longer.
	// +optional
	Liveliness string `json:"liveliness,omitempty"`

	// lastEvent is the newest provisioning event of this allocation.
	// +optional
	LastEvent *MetalEvent `json:"lastEvent,omitempty"`

	// crashLoop is true if the provisioning of the machine repeatedly restarts at an
	// earlier step. It is false while the machine is reinstalled.
	// +optional
	CrashLoop bool `json:"crashLoop,omitempty"`

	// failedMachineReclaim is true if the machine was released but still phones home
	// from its old operating system. A metal-stack operator has to repair it.
	// +optional
	FailedMachineReclaim bool `json:"failedMachineReclaim,omitempty"`

	// locked is true if a metal-stack operator locked the machine. The metal-api then
	// refuses to release it, and the deletion of this object waits.
	// +optional
	Locked bool `json:"locked,omitempty"`

	// tags are all tags of the machine: those of the spec, those of the object's
	// identity, and those that the metal-api adds for rack and chassis.
	// +optional
	// +listType=atomic
	Tags []string `json:"tags,omitempty"`

	// networks are the networks that the machine has joined, with its addresses.
	// +optional
	// +listType=atomic
	Networks []MetalNetwork `json:"networks,omitempty"`
}

// MetalEvent is a provisioning event of a machine in the metal-api.
type MetalEvent struct {
	// event is its kind, such as `Installing` or `Phoned Home`.
	// +optional
	Event string `json:"event,omitempty"`
	// message is the event's message.
	// +optional
	Message string `json:"message,omitempty"`
	// time is when it was sent; of a repeated event, when it was sent last.
	// +optional
	Time *metav1.Time `json:"time,omitempty"`
}

// MetalNetwork is a network that a machine has joined.
type MetalNetwork struct {
	// id of the network in metal-stack.
	// +optional
	ID string `json:"id,omitempty"`
	// ips are the machine's addresses in it.
	// +optional
	// +listType=atomic
	IPs []string `json:"ips,omitempty"`
	// prefixes are the network's address ranges.
	// +optional
	// +listType=atomic
	Prefixes []string `json:"prefixes,omitempty"`
	// asn is the machine's autonomous system number in BGP.
	// +optional
	ASN int64 `json:"asn,omitempty"`
	// vrf is the number of the network's virtual routing table.
	// +optional
	VRF int64 `json:"vrf,omitempty"`
	// nat is true if the source address of connections through this network is
	// translated to the machine's, as on external networks of firewalls.
	// +optional
	NAT bool `json:"nat,omitempty"`
	// private is true for a private network of a project.
	// +optional
	Private bool `json:"private,omitempty"`
	// type is the metal-api's: `external`, `underlay`, `privateprimaryunshared`,
	// `privateprimaryshared`, `privatesecondaryshared` or `privatesecondaryunshared`. It is
	// shown of firewalls with a firewall-controller.
	// +optional
	Type string `json:"type,omitempty"`
	// destinationPrefixes are what is reached through the network. They are shown of
	// firewalls with a firewall-controller.
	// +optional
	// +listType=atomic
	DestinationPrefixes []string `json:"destinationPrefixes,omitempty"`
}
