// SPDX-License-Identifier: Apache-2.0

package metal

import (
	"slices"
	"strings"
)

// The identity of an object in metal: machines and IPs carry these as tags
// "key=value", networks as labels. They are written when allocating.
const (
	// TagUID is the uid of the object at the time of the allocation.
	TagUID = "infrastructure.cluster.x-k8s.io/uid"
	// TagNamespace and TagName are the object's.
	TagNamespace = "infrastructure.cluster.x-k8s.io/namespace"
	TagName      = "infrastructure.cluster.x-k8s.io/name"
	// TagKind is the object's kind. It is on networks and addresses that objects claim for
	// itself, and on no others.
	TagKind = "infrastructure.cluster.x-k8s.io/kind"
	// TagManagementCluster is the uid of the namespace kube-system.
	TagManagementCluster = "infrastructure.cluster.x-k8s.io/management-cluster"
	// TagCluster is metal-stack's own key for a cluster's id.
	TagCluster = "cluster.metal-stack.io/id"
	// TagService is on an address of a Service of a workload cluster; its value is the
	// cluster id, the namespace and the name, separated by slashes. metal-ccm writes it.
	TagService = "cluster.metal-stack.io/id/namespace/service"
	// TagPlacementGroup holds cluster id and role. The metal-api counts the machines of a
	// rack that have the placement tags of a request among their tags.
	TagPlacementGroup = "infrastructure.cluster.x-k8s.io/placement-group"
	// TagZone and TagRegion are Kubernetes' own. metal-ccm makes labels of Nodes of a
	// machine's tags.
	TagZone   = "topology.kubernetes.io/zone"
	TagRegion = "topology.kubernetes.io/region"
	// TagFirewallManagedBy says which controller reconciles a firewall.
	TagFirewallManagedBy = "firewall.metal-stack.io/managed-by"
	// TagMachine is set by the metal-api on the IPs that a machine holds.
	TagMachine = "machine.metal-stack.io/id"
)

// Tag joins a key and a value as the metal-api wants it.
func Tag(key, value string) string { return key + "=" + value }

// TagValue returns the value of the first tag "key=value".
func TagValue(tags []string, key string) (value string, found bool) {
	for _, t := range tags {
		if k, v, ok := strings.Cut(t, "="); ok && k == key {
			return v, true
		}
	}
	return "", false
}

// IsServiceTag reports whether a tag of an address says that a Service of the cluster
// has it.
func IsServiceTag(tag, clusterID string) bool {
	key, value, ok := strings.Cut(tag, "=")
	id, _, named := strings.Cut(value, "/")
	return ok && named && key == TagService && id == clusterID
}

// UID is the identity that the machine carries, or "".
func (m *Machine) UID() string { uid, _ := TagValue(m.Tags, TagUID); return uid }

// UID is the identity that the network carries, or "".
func (n *Network) UID() string { return n.Labels[TagUID] }

// UID is the identity that the IP carries, or "".
func (i *IP) UID() string { uid, _ := TagValue(i.Tags, TagUID); return uid }

// MachineID is the id of the machine that has the address, or "".
func (i *IP) MachineID() string { id, _ := TagValue(i.Tags, TagMachine); return id }

// EventPhonedHome is the last provisioning event of an installation.
const EventPhonedHome = "Phoned Home"

// EventWaiting is the last provisioning event of a machine that can be allocated.
const EventWaiting = "Waiting"

// Provisioning events that are decided on.
const (
	// EventAlive is a sign of life and no step.
	EventAlive = "Alive"
	// EventPlannedReboot is sent by the metal-api itself when it sends a power action, whose name
	// is the event's message, and by a machine.
	EventPlannedReboot = "Planned Reboot"
	EventInstalling    = "Installing"
)

// The liveliness of a machine: Alive if it sends events; if it has not for minutes, Unknown if it
// is allocated, and Dead otherwise.
const (
	LivelinessAlive   = "Alive"
	LivelinessDead    = "Dead"
	LivelinessUnknown = "Unknown"
)

// InTransition reports whether the machine is allocated and has not phoned home
// since: the log keeps the events of earlier allocations
// (docs/metal-api.md, Q26).
func (m *Machine) InTransition() bool {
	if m.Allocation == nil {
		return false
	}
	return !slices.ContainsFunc(m.Events, func(e Event) bool {
		return e.Event == EventPhonedHome && !e.Time.Before(m.Allocation.Created)
	})
}

// Allocatable reports whether the machine may be asked for by its id:
// unallocated, waiting, alive, neither reserved nor locked. The metal-api
// itself would hand out any that is unallocated (docs/metal-api.md, Q37).
func (m *Machine) Allocatable() bool {
	return m.Allocation == nil && m.State == "" && m.Liveliness == LivelinessAlive &&
		len(m.Events) > 0 && m.Events[0].Event == EventWaiting
}

// AllocationUUID is that of the machine's allocation, or "".
func (m *Machine) AllocationUUID() string {
	if m.Allocation == nil {
		return ""
	}
	return m.Allocation.UUID
}

// Project is that of the machine's allocation, or "".
func (m *Machine) Project() string {
	if m.Allocation == nil {
		return ""
	}
	return m.Allocation.Project
}
