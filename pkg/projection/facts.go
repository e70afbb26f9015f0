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
