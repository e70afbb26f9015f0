// SPDX-License-Identifier: Apache-2.0

package metal

import "time"

// Machine is what the metal-api says about one machine or firewall, cut down
// to what is shown or decided on. Facts are immutable: a change is a new value.
type Machine struct {
	ID         string
	Partition  string
	Rack       string
	Size       string
	Liveliness string // Alive, Dead, Unknown
	// State is "", RESERVED or LOCKED.
	State            string
	StateDescription string
	// Tags are sorted: the metal-api's order is random.
	Tags []string
	// Events is the provisioning log, newest first; it keeps events of earlier
	// allocations, so compare with Allocation.Created.
	Events []Event
	// LastEventTime moves with every heartbeat; a machine of which nothing else
	// moved is not reported as changed.
	LastEventTime        time.Time
	CrashLoop            bool
	FailedMachineReclaim bool
	// LastError is the last event that did not fit the one before it, or was a crash, of
	// whatever allocation; nil if there is none.
	LastError *Event
	Changed   time.Time
	// Allocation is nil for a machine that is not allocated.
	Allocation *Allocation
}

// Event is one provisioning event.
type Event struct {
	Event   string
	Message string
	Time    time.Time
}

// Allocation is who holds a machine, and as what.
type Allocation struct {
	// UUID is new for each allocation of the same machine.
	UUID     string
	Project  string
	Name     string
	Hostname string
	// Image is the resolved image id, with its patch version.
	Image     string
	Role      string // RoleMachine or RoleFirewall
	Created   time.Time
	Creator   string
	Reinstall bool
	Networks  []MachineNetwork // ordered by id: the metal-api's order is random
}

// The roles of an allocation.
const (
	RoleMachine  = "machine"
	RoleFirewall = "firewall"
)

// MachineNetwork is a machine's part in a network.
type MachineNetwork struct {
	NetworkID string
	// Type is the metal-api's: external, underlay, privateprimaryunshared,
	// privateprimaryshared, privatesecondaryshared or privatesecondaryunshared.
	Type     string
	IPs      []string
	Prefixes []string
	// DestinationPrefixes are what is reached through the network.
	DestinationPrefixes []string
	ASN                 int64
	VRF                 int64
	NAT                 bool
	Private             bool
	Underlay            bool
}

// Network is what the metal-api says about a network.
type Network struct {
	ID              string
	Name            string
	Description     string
	Project         string
	Partition       string
	ParentNetworkID string
	// Prefixes are in the metal-api's order, in which they are freed.
	Prefixes []string
	// DestinationPrefixes are what is reached through the network.
	DestinationPrefixes []string
	VRF                 int64
	NAT                 bool
	PrivateSuper        bool
	Underlay            bool
	Shared              bool
	// ChildPrefixLengths are the lengths of the prefixes of networks that are allocated
	// from a PrivateSuper one, by address family, unless a request says otherwise.
	ChildPrefixLengths map[string]int64
	Labels             map[string]string
	AvailableIPs       int64
	UsedIPs            int64
	Created            time.Time
}

// IP is what the metal-api says about an address.
type IP struct {
	Address     string
	Name        string
	Description string
	Project     string
	NetworkID   string
	Type        string // TypeEphemeral or TypeStatic
	Tags        []string
	// AllocationUUID is new for each allocation of the same address.
	AllocationUUID   string
	Created, Changed time.Time
}

// The types of an IP. Ephemeral ones end with the machine that holds them.
const (
	TypeEphemeral = "ephemeral"
	TypeStatic    = "static"
)

// The address families of requests.
const (
	AddressFamilyIPv4 = "IPv4"
	AddressFamilyIPv6 = "IPv6"
)

// Ref names one piece of metal across all kinds, e.g. as a key of an index.
type Ref struct {
	Kind RefKind
	ID   string
}

// ExpandedRef is one of several objects as which metal is shown.
type ExpandedRef struct {
	Ref Ref
	// Namespace is that of the object.
	Namespace string
	// Shows is a pointer to what is shown of the metal, which does not change.
	Shows any
}

// RefChanges is how a set of refs differs from an earlier state of it.
type RefChanges struct {
	// Complete: Added is the whole set, whatever it was before.
	Complete       bool
	Added, Removed []Ref
	// Position is that of the state, of which later changes can be requested.
	Position uint64
}

// RefKind is a kind of metal.
type RefKind string

// The kinds of metal, and the identity by which metal of an allocation that is
// in flight is known.
const (
	KindMachine RefKind = "machine"
	KindNetwork RefKind = "network"
	KindIP      RefKind = "ip"
	KindUID     RefKind = "uid"
	// KindAllocation is one allocation of a machine, by its UUID: unlike the
	// machine it never belongs to another.
	KindAllocation RefKind = "allocation"
)

// The refs of claims, and of what is shown in several namespaces.
const (
	// KindNetworkClaim and KindIPClaim are a network and an address as what a record claims, by
	// their id and address: one that a record only refers to is still discovered.
	KindNetworkClaim RefKind = "networkclaim"
	KindIPClaim      RefKind = "ipclaim"
	// KindNetworkIn is a network as a project can use it, by "<project>/<network id>".
	KindNetworkIn RefKind = "networkin"
)

// The kinds of what can be asked for. Nothing of it is allocated.
const (
	KindProject   RefKind = "project"
	KindPartition RefKind = "partition"
	KindSize      RefKind = "size"
	KindImage     RefKind = "image"
)

// Presence is what is known of whether a piece of metal exists.
type Presence string

const (
	// Unobserved: no complete observation has shown it yet, nor its absence.
	Unobserved Presence = "Unobserved"
	// Present: it was observed, and no two observations agreed that it is gone.
	Present Presence = "Present"
	// Gone: two complete observations agreed that the metal-api does not know it.
	Gone Presence = "Gone"
)
