// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// Facts is what is known of metal at the moment. A fact that a machine, a
// network or an address is gone, or that a machine's allocation ended, is held
// back by the observer until it is confirmed: here it is taken as it is.
type Facts interface {
	Machine(id string) (*metal.Machine, metal.Presence)
	// MachinesByUID returns the allocated machines that carry an identity tag.
	MachinesByUID(uid string) []*metal.Machine
	Network(id string) (*metal.Network, metal.Presence)
	IP(address string) (*metal.IP, metal.Presence)
}

// Sizes is what is known of sizes at the moment.
type Sizes interface {
	// Size returns nil for a size that is not known, or not known yet.
	Size(id string) *metal.Size
}

// Duplicates is what more than one machine has, at the moment.
type Duplicates interface {
	// Duplicates returns what of a machine another one has, too.
	Duplicates(m *metal.Machine) metal.Duplicates
}

// Images is what is known of images at the moment.
type Images interface {
	// NewestImage returns the image that an alias stands for; nil if none is known, or the
	// name is no alias.
	NewestImage(alias string) *metal.Image
}

// Catalogue is what is known of what the metal-api offers at the moment. It answers nil for
// what is not known, or not known yet.
type Catalogue interface {
	Size(id string) *metal.Size
	Image(id string) *metal.Image
	Partition(id string) *metal.Partition
	Project(id string) *metal.Project
	NewestImage(alias string) *metal.Image
	Reservations() []*metal.Reservation
	SizeImageConstraints() []*metal.SizeImageConstraint
}

// Capacities is how many machines there are at the moment.
type Capacities interface {
	// Capacities returns those of a partition, by size.
	Capacities(partition string) []metal.Capacity
	// AllocatedOf returns how many machines and firewalls a project has; of all partitions and
	// sizes if both are empty.
	AllocatedOf(project, partition, size string) int
}

// Bindings is which namespace is bound to which project at the moment.
type Bindings interface {
	Project(namespace string) (project string, bound bool)
	Namespace(project string) (namespace string, bound bool)
}

// Source is what projections are made from.
type Source struct {
	Facts    Facts
	Bindings Bindings
	Sizes    Sizes
	Images   Images
	// Duplicates may be nil: none are shown then.
	Duplicates Duplicates
	// Catalogue and Capacities may be nil: nothing of them is shown then.
	Catalogue  Catalogue
	Capacities Capacities
	// BoundProjects returns the projects that a namespace is bound to; nil: none is known.
	BoundProjects func() []string
	// Clock dates transitions that nothing in metal dates, as of metal that is not in the
	// metal-api at all any more.
	Clock clock.PassiveClock
}

// NewMachineProjector returns the projector of MetalStackMachine.
func NewMachineProjector(s Source) *MachineLikeProjector {
	return &MachineLikeProjector{Source: s, role: metal.RoleMachine}
}

// NewFirewallProjector returns the projector of MetalStackFirewall.
func NewFirewallProjector(s Source) *MachineLikeProjector {
	return &MachineLikeProjector{Source: s, role: metal.RoleFirewall}
}

// NewClusterProjector returns the projector of MetalStackCluster.
func NewClusterProjector(s Source) *ClusterProjector { return &ClusterProjector{Source: s} }

// NewMachineTemplateProjector returns the projector of
// MetalStackMachineTemplate.
func NewMachineTemplateProjector(s Source) *MachineTemplateProjector {
	return &MachineTemplateProjector{s.Sizes}
}

// NewProjectProjector returns the projector of MetalStackProject.
func NewProjectProjector(s Source) *ProjectProjector {
	return &ProjectProjector{readOnly{metal.KindProject}, s}
}

// NewPartitionProjector returns the projector of MetalStackPartition.
func NewPartitionProjector(s Source) *PartitionProjector {
	return &PartitionProjector{readOnly{metal.KindPartition}, s}
}

// NewSizeProjector returns the projector of MetalStackSize.
func NewSizeProjector(s Source) *SizeProjector {
	return &SizeProjector{readOnly{metal.KindSize}, s}
}

// NewImageProjector returns the projector of MetalStackImage.
func NewImageProjector(s Source) *ImageProjector {
	return &ImageProjector{readOnly{metal.KindImage}, s}
}

// NewNetworkProjector returns the projector of MetalStackNetwork.
func NewNetworkProjector(s Source) *NetworkProjector { return &NetworkProjector{Source: s} }

// NewIPProjector returns the projector of MetalStackIP.
func NewIPProjector(s Source) *IPProjector { return &IPProjector{Source: s} }
