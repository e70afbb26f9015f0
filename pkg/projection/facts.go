package projection

import (
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
)

// Facts is what is known of metal at the moment. A fact that a machine, a
// network or an address is gone, or that a machine's allocation ended, is held
// back by whoever observes until it is confirmed: here it is taken as it is.
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

// Source is what projections are made from.
type Source struct {
	Facts    Facts
	Bindings tenancy.Bindings
	Sizes    Sizes
	// Clock dates the one transition that nothing in metal dates: metal that
	// is not in the metal-api at all any more.
	Clock clock.PassiveClock
}

// Joiners by what they join.
var (
	_ storage.Joiner    = &servers{}
	_ storage.Joiner    = &clusters{}
	_ storage.Metalless = &machineTemplates{}
)

// Machines returns the joiner of MetalStackMachine.
func Machines(s Source) storage.Joiner { return &servers{Source: s, role: metal.RoleMachine} }

// Firewalls returns the joiner of MetalStackFirewall.
func Firewalls(s Source) storage.Joiner { return &servers{Source: s, role: metal.RoleFirewall} }

// Clusters returns the joiner of MetalStackCluster.
func Clusters(s Source) storage.Joiner { return &clusters{Source: s} }

// MachineTemplates returns the joiner of MetalStackMachineTemplate.
func MachineTemplates(s Source) storage.Joiner { return &machineTemplates{s.Sizes} }
