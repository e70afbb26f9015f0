// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"errors"
	"net/http"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// Offers are what there is to be allocated, and how much of it is left. A dry run answers from
// them what an allocation would be refused for.
type Offers struct {
	Catalogue  Catalogue
	Capacities Capacities
}

// Catalogue is what the metal-api offers; pkg/metal/catalogue implements it. An error means that
// it cannot be known now.
type Catalogue interface {
	// WithAllowance returns a context for one request of a namespace, whose lookups are limited.
	// Beyond a limit they end with a *metal.LookupLimitError.
	WithAllowance(ctx context.Context, namespace string) context.Context
	LookupSize(ctx context.Context, id string) (*metal.Size, []string, error)
	LookupImage(ctx context.Context, id, feature string) (*metal.Image, []string, error)
	LookupPartition(ctx context.Context, id string) (*metal.Partition, []string, error)
	LookupNetwork(ctx context.Context, id, project string) (*metal.Network, []string, error)
	// LookupMachine returns a machine that a project can have.
	LookupMachine(ctx context.Context, id, project string) (*metal.Machine, error)
	LookupLayouts(ctx context.Context) ([]*metal.FilesystemLayout, error)
	// AcquireMachineLookup counts one read past the cache as a look-up.
	AcquireMachineLookup(ctx context.Context, id string) error
	// LookupSuperNetwork returns the network that private networks of a partition are
	// allocated from, as networks were listed last; nil if none was known then.
	LookupSuperNetwork(ctx context.Context, partition string) (*metal.Network, error)
	// CurrentLayouts are LookupLayouts, read again unless that was done just now. Its error is a
	// *metal.StaleError.
	CurrentLayouts(ctx context.Context) ([]*metal.FilesystemLayout, error)
	// Refresh reads lists again, unless they were read just now; SizeImageConstraints are of
	// metal.KindSize. Its error is a *metal.StaleError. Loaded reports whether all lists of a kind
	// were read once.
	Refresh(ctx context.Context, kinds ...metal.RefKind) error
	Loaded(kind metal.RefKind) bool
	SizeImageConstraints() []*metal.SizeImageConstraint
	// RefreshProject reads what a project has used of its quotas, and Project returns it.
	RefreshProject(ctx context.Context, id string) error
	Project(id string) *metal.Project
	CurrentReservations(ctx context.Context) ([]*metal.Reservation, error)
	// CachedReservations reads nothing. read is when they were read; zero: never.
	CachedReservations() (all []*metal.Reservation, read time.Time)
}

// Capacities are the sums of the machines that were observed; pkg/metal/observation implements
// them.
type Capacities interface {
	// Refresh observes metal again, within the polling budget. Its error is a
	// *metal.StaleError.
	Refresh(ctx context.Context, scope metal.Scope) error
	Capacity(partition, size string) (metal.Capacity, bool)
	// CapacityObserved is when all machines were observed last; zero: never.
	CapacityObserved() time.Time
	// AllocatedOf is how many machines and firewalls of a size a project has in a partition.
	AllocatedOf(project, partition, size string) int
}

// cached returns the offers that a dry run looks up what a spec names in; nil for what has to be
// read from the metal-api itself.
func (p *Protocol) cached(ctx context.Context) *Offers {
	if IsDryRun(ctx) {
		return p.opts.Offers
	}
	return nil
}

// lookUpNetwork returns a network of any project, nil if there is none.
func (p *Protocol) lookUpNetwork(ctx context.Context, id, project string) (*metal.Network, error) {
	if offers := p.cached(ctx); offers != nil {
		n, _, err := offers.Catalogue.LookupNetwork(ctx, id, project)
		return n, err
	}
	found, err := p.opts.Metal.FindNetworks(ctx, metal.NetworkQuery{ID: id})
	if err != nil {
		return nil, err
	}
	for _, n := range found {
		if n.ID == id {
			return n, nil
		}
	}
	return nil, nil
}

// lookUpMachine returns a machine, nil if there is none. In a dry run, another project's is as
// unknown as none.
func (p *Protocol) lookUpMachine(ctx context.Context, id, project string) (*metal.Machine, error) {
	if offers := p.cached(ctx); offers != nil {
		return offers.Catalogue.LookupMachine(ctx, id, project)
	}
	return p.findMachine(ctx, id)
}

// lookupRefusal is refusalOf for lookups.
func lookupRefusal(err error) *refusal {
	if limit, ok := errors.AsType[*metal.LookupLimitError](err); ok {
		return &refusal{code: http.StatusTooManyRequests, message: limit.Error(), retryAfter: limit.RetryAfter}
	}
	return refusalOf(err)
}
