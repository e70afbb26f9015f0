// SPDX-License-Identifier: Apache-2.0

package metal

import (
	"context"
	"time"
)

// Backend is all that this project asks of the metal-api, and the only way to
// it. Whatever speaks its protocol stands behind this interface: pkg/metal/client
// does, for the metal-api's REST interface.
//
// Methods return an *Error when they fail. Reads end with their context. Writes
// do not: a caller whose context ends gets an Uncertain error at once, while the
// call goes on. A backend adds the time that its reads wait for answers to the
// AnswerTime of their context.
type Backend interface {
	Reader
	Inventory
	Writer
	Operator
	WriteNotifier
}

// Observable is what an observer needs of a backend.
type Observable interface {
	Reader
	WriteNotifier
}

// Reader reads metal.
type Reader interface {
	// Machine gets a machine by id. NotFound proves nothing: a machine without an
	// event container answers it, too.
	Machine(ctx context.Context, id string) (*Machine, error)
	// FindMachines returns the machines and firewalls that match.
	FindMachines(ctx context.Context, q MachineQuery) ([]*Machine, error)
	// ListMachines returns all machines and firewalls.
	ListMachines(ctx context.Context) ([]*Machine, error)
	Network(ctx context.Context, id string) (*Network, error)
	FindNetworks(ctx context.Context, q NetworkQuery) ([]*Network, error)
	IP(ctx context.Context, address string) (*IP, error)
	FindIPs(ctx context.Context, q IPQuery) ([]*IP, error)
}

// Inventory reads what can be asked for.
type Inventory interface {
	ListSizes(ctx context.Context) ([]*Size, error)
	ListImages(ctx context.Context) ([]*Image, error)
	ListPartitions(ctx context.Context) ([]*Partition, error)
	ListNetworks(ctx context.Context) ([]*Network, error)
	// ListProjects shows no project's quotas as used: only Project does.
	ListProjects(ctx context.Context) ([]*Project, error)
	Project(ctx context.Context, id string) (*Project, error)
	ListReservations(ctx context.Context) ([]*Reservation, error)
	ListSizeImageConstraints(ctx context.Context) ([]*SizeImageConstraint, error)
	ListLayouts(ctx context.Context) ([]*FilesystemLayout, error)
	PowerState(ctx context.Context, id string) (*PowerState, error)
	Machine(ctx context.Context, id string) (*Machine, error)
	Network(ctx context.Context, id string) (*Network, error)
	IP(ctx context.Context, address string) (*IP, error)
}

// Writer allocates metal and frees it, and changes tags of addresses. An allocation's answer has an allocation,
// with its UUID.
type Writer interface {
	AllocateMachine(ctx context.Context, r MachineRequest) (*Machine, error)
	AllocateFirewall(ctx context.Context, r FirewallRequest) (*Machine, error)
	// FreeMachine ends the allocation of a machine or firewall. It succeeds on one
	// that is not allocated, and takes that out of the pool: find it first.
	FreeMachine(ctx context.Context, id string) (*Machine, error)
	AllocateNetwork(ctx context.Context, r NetworkRequest) (*Network, error)
	// FreeNetwork frees a private network, which must have no addresses left.
	FreeNetwork(ctx context.Context, id string) (*Network, error)
	AllocateIP(ctx context.Context, r IPRequest) (*IP, error)
	FreeIP(ctx context.Context, address string) (*IP, error)
	// SetIPTags replaces all tags of an address. The tags of a machine that has it must be
	// among them: the metal-api would give the address to others while the machine uses it.
	SetIPTags(ctx context.Context, address string, tags []string) (*IP, error)
}

// WriteNotifier notifies of the answers of writes.
type WriteNotifier interface {
	// AddWriteListener adds a listener for the answers of writes, also of those
	// that no caller waits for any more. It is called before the method of Writer
	// returns.
	AddWriteListener(l WriteListener)
}

// WriteListener learns from the answers of writes.
type WriteListener interface {
	// LearnMachine records a machine or firewall that was allocated, freed or operated.
	LearnMachine(m *Machine)
	// LearnNetwork and LearnIP record what was allocated.
	LearnNetwork(n *Network)
	LearnIP(i *IP)
	// LearnFreed records that a network or an IP was freed.
	LearnFreed(ref Ref)
}

// How long writes may take. An allocation that waits for a partition's lock takes
// up to 40 s before the metal-api answers.
const (
	AllocateTimeout = 5 * time.Minute
	FreeTimeout     = 2 * time.Minute
)
