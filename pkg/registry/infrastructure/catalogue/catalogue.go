// SPDX-License-Identifier: Apache-2.0

// Package catalogue checks what a spec asks for against what the metal-api
// offers and against what the namespace's project may use. It answers a user
// at once, and never says more about other projects than that something is
// not to be had.
package catalogue

import (
	"context"
	"net/netip"

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
	// LookupMachine returns a machine that the project can have.
	LookupMachine(ctx context.Context, id, project string) (*metal.Machine, error)
	// LookupAddress returns an address of the project, or the network that the
	// project would have to allocate it in, if it is metal-stack's.
	LookupAddress(ctx context.Context, address netip.Addr, project string) (*metal.IP, *metal.Network, error)
}

// Holder is an object that holds a machine, or asks for it.
type Holder struct {
	Resource, Name string
}

// Holders knows which objects of a namespace name a machine.
type Holders interface {
	// Holder returns an object in the namespace, other than the one that is
	// asking, that holds the machine or asks for it.
	Holder(ctx context.Context, namespace, machineID string, asking Holder) (holder Holder, held bool, err error)
}

// Bindings tell which project a namespace is bound to.
type Bindings interface {
	Project(namespace string) (project string, bound bool)
}

// Validator is what checks are made with.
type Validator struct {
	Catalogue Catalogue
	Bindings  Bindings
	// Holders may be nil while the server is put together.
	Holders Holders
}
