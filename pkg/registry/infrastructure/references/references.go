// SPDX-License-Identifier: Apache-2.0

// Package references checks what a spec refers to against what the metal-api
// offers and against what the namespace's project may use. It answers a user
// at once, and never says more about other projects than that something is
// not to be had.
package references

import (
	"context"
	"net/netip"
	"time"

	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// Catalogue is what the metal-api offers. A lookup returns the entry, or nil
// and the ids that there are; an error means that it cannot be known now. A
// network of another project is found, but is not among the ids.
type Catalogue interface {
	// WithAllowance returns a context for one request of a namespace, whose
	// lookups are limited. Beyond a limit they end with a *metal.LookupLimitError.
	WithAllowance(ctx context.Context, namespace string) context.Context
	LookupSize(ctx context.Context, id string) (*metal.Size, []string, error)
	LookupImage(ctx context.Context, id, feature string) (*metal.Image, []string, error)
	LookupPartition(ctx context.Context, id string) (*metal.Partition, []string, error)
	LookupNetwork(ctx context.Context, id, project string) (*metal.Network, []string, error)
	// LookupSuperNetwork returns the network that private networks of a partition are
	// allocated from; nil if none is known.
	LookupSuperNetwork(ctx context.Context, partition string) (*metal.Network, error)
	// LookupMachine returns a machine that the project can have.
	LookupMachine(ctx context.Context, id, project string) (*metal.Machine, error)
	// LookupAddress returns an address of the project, or the network that the
	// project would have to allocate it in, if it is metal-stack's.
	LookupAddress(ctx context.Context, address netip.Addr, project string) (*metal.IP, *metal.Network, error)
}

// Referrer is an object whose record refers to a machine: it has it, or asks for it.
type Referrer struct {
	Resource, Name string
}

// Referrers know which objects of a namespace refer to a machine.
type Referrers interface {
	// Referrer returns an object in the namespace, other than the one that is
	// asking, that refers to the machine.
	Referrer(ctx context.Context, namespace, machineID string, asking Referrer) (referrer Referrer, found bool, err error)
}

// ProjectLookup looks up which project a namespace is bound to.
type ProjectLookup interface {
	Project(namespace string) (project string, bound bool)
}

// Validator is what checks are made with.
type Validator struct {
	Catalogue Catalogue
	Projects  ProjectLookup
	// Referrers, Allocations and Addresses may be nil while the server is put together.
	Referrers   Referrers
	Allocations Allocations
	Addresses   Addresses
	// Clock is the real one if it is nil.
	Clock clock.PassiveClock
}

func (v *Validator) now() time.Time {
	if v.Clock == nil {
		return time.Now()
	}
	return v.Clock.Now()
}

// Addresses know which addresses are for nothing new.
type Addresses interface {
	// IsAddressReleasing reports whether the claim of an address of a project is deleted or being
	// released.
	IsAddressReleasing(ctx context.Context, project, address string) (bool, error)
}

func (v *Validator) isReleasing(ctx context.Context, project, address string) (bool, error) {
	if v.Addresses == nil {
		return false, nil
	}
	return v.Addresses.IsAddressReleasing(ctx, project, address)
}

// Allocations know what an allocation would be refused for now: each line is a warning. A check
// changes nothing, and is for an object that does not exist.
type Allocations interface {
	CheckMachine(ctx context.Context, m *infrastructure.MetalStackMachine) []string
	CheckFirewall(ctx context.Context, f *infrastructure.MetalStackFirewall) []string
}

// CheckMachine returns what the allocation of a machine would be refused for now.
func (v *Validator) CheckMachine(ctx context.Context, m *infrastructure.MetalStackMachine) []string {
	if v.Allocations == nil {
		return nil
	}
	return v.Allocations.CheckMachine(ctx, m)
}

// CheckFirewall is CheckMachine for a firewall.
func (v *Validator) CheckFirewall(ctx context.Context, f *infrastructure.MetalStackFirewall) []string {
	if v.Allocations == nil {
		return nil
	}
	return v.Allocations.CheckFirewall(ctx, f)
}
