package v1alpha4

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Metal holds what the owner of a node asks about its server; `metalctl machine
// describe <machineID>` shows the rest.
// +structType=atomic
type Metal struct {
	// machineID is the server's id in metal-stack, a UUID that it keeps for life.
	// +optional
	MachineID string `json:"machineID,omitempty"`

	// allocationUUID names this allocation of the server. When the server is
	// given back and allocated again, by whomever, it gets another one; that is
	// how an allocation which ended is told from one which goes on.
	// +optional
	AllocationUUID string `json:"allocationUUID,omitempty"`

	// managed is true for a server that this object asked for or adopted. It is
	// false for a discovered one: the object is then read-only, and deleting it
	// leaves the server as it is.
	// +optional
	Managed bool `json:"managed"`

	// project is the metal-stack project that the server is allocated to, a UUID.
	// +optional
	Project string `json:"project,omitempty"`

	// partition is the location that the server stands in.
	// +optional
	Partition string `json:"partition,omitempty"`

	// rack is the rack that the server stands in. Servers in one rack share
	// switches and power.
	// +optional
	Rack string `json:"rack,omitempty"`

	// size is the server's size, as in spec.machineType.
	// +optional
	Size string `json:"size,omitempty"`

	// image is the full id of the image that the server was installed with. If
	// spec.image is an alias, this says which version it meant.
	// +optional
	Image string `json:"image,omitempty"`

	// hostname that the server was installed with.
	// +optional
	Hostname string `json:"hostname,omitempty"`

	// allocationTime is when the server was allocated.
	// +optional
	AllocationTime *metav1.Time `json:"allocationTime,omitempty"`

	// phase is how far the server has got. On its way to a node, in this order:
	//   - Pending: nothing has been asked of the metal-api yet.
	//   - Allocating: a server is being asked for, or has been allocated and sent
	//     no event since.
	//   - Installing: the image is being written to its disk.
	//   - Booting New Kernel: it starts what was installed.
	//   - Phoned Home: its operating system is up, and reports every minute or so.
	//     This is where it stays.
	//
	// On its way back, after the object was deleted:
	//   - Releasing: it is being given back.
	//   - Released: it was given back.
	//
	// At any time:
	//   - Gone: the allocation ended without our doing.
	//   - Unknown: this API server has not looked at it since it started.
	//   - any other provisioning event of the metal-api, when it is the newest of
	//     this allocation, such as PXE Booting, Planned Reboot or Crashed.
	// +optional
	Phase string `json:"phase,omitempty"`

	// liveliness says whether the server is heard of:
	//   - Alive: it sent an event within the last five minutes.
	//   - Unknown: it is allocated, and has been silent for longer. It may be down
	//     or cut off, or its operating system has stopped reporting.
	//   - Dead: it is not allocated, and has been silent for longer.
	// +optional
	Liveliness string `json:"liveliness,omitempty"`

	// lastEvent is the newest provisioning event of this allocation.
	// +optional
	LastEvent *MetalEvent `json:"lastEvent,omitempty"`

	// crashLoop is true if the metal-api saw the server come back to an earlier
	// step over and over.
	// +optional
	CrashLoop bool `json:"crashLoop,omitempty"`

	// failedMachineReclaim is true if the server was given back but still phones
	// home from its old operating system. An operator has to look after it.
	// +optional
	FailedMachineReclaim bool `json:"failedMachineReclaim,omitempty"`

	// locked is true if an operator locked the server. The metal-api then
	// refuses to give it back, and deleting this object waits.
	// +optional
	Locked bool `json:"locked,omitempty"`

	// tags are all tags of the server: those of the spec, those that identify
	// this object, and those that the metal-api adds for rack and chassis.
	// +optional
	// +listType=atomic
	Tags []string `json:"tags,omitempty"`

	// networks are the networks that the server is part of, with its addresses
	// in them.
	// +optional
	// +listType=atomic
	Networks []MetalNetwork `json:"networks,omitempty"`
}

// MetalEvent is what a server tells the metal-api at each step of its way.
type MetalEvent struct {
	// event is its kind, such as `Installing` or `Phoned Home`.
	// +optional
	Event string `json:"event,omitempty"`
	// message is what the server said with it.
	// +optional
	Message string `json:"message,omitempty"`
	// time is when it was sent; of a repeated event, when it was sent last.
	// +optional
	Time *metav1.Time `json:"time,omitempty"`
}

// MetalNetwork is a server's part in one network.
type MetalNetwork struct {
	// id of the network in metal-stack.
	// +optional
	ID string `json:"id,omitempty"`
	// ips are the server's addresses in it.
	// +optional
	// +listType=atomic
	IPs []string `json:"ips,omitempty"`
	// prefixes are the network's address ranges.
	// +optional
	// +listType=atomic
	Prefixes []string `json:"prefixes,omitempty"`
	// asn is the number under which the server announces its addresses to the
	// switches by BGP.
	// +optional
	ASN int64 `json:"asn,omitempty"`
	// vrf is the number of the network's virtual routing table.
	// +optional
	VRF int64 `json:"vrf,omitempty"`
	// nat is true if what leaves through this network gets the server's address
	// as its source. Firewalls have that on external networks.
	// +optional
	NAT bool `json:"nat,omitempty"`
	// private is true for a private network of a project.
	// +optional
	Private bool `json:"private,omitempty"`
}
