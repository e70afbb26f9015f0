// SPDX-License-Identifier: Apache-2.0

// Package refresh has the metal-api observed for consistent reads: it translates
// what a read of the storage covers into what the observer has to observe, and what
// the catalogue has to read, by the kind of metal that it is about. It must never answer a
// read, or know what objects look like.
package refresh

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/catalogue"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/observation"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
)

// Observer observes a scope of the metal-api.
type Observer interface {
	// Refresh returns a *metal.StaleError if the scope could not be observed.
	Refresh(ctx context.Context, scope metal.Scope) error
	// HasSynced reports whether all machines were observed once, NetworksObserved and IPsObserved
	// whether those of a project were.
	HasSynced() bool
	NetworksObserved(project string) bool
	IPsObserved(project string) bool
	// AllNetworksObserved and AllIPsObserved report whether those of all projects were.
	AllNetworksObserved() bool
	AllIPsObserved() bool
	// Watching has the networks or addresses of a project observed until stop is called.
	Watching(kind metal.RefKind, project string) (stop func())
}

var (
	_ Observer  = &observation.Observer{}
	_ Catalogue = &catalogue.Catalogue{}
)

// Catalogue reads what can be asked for.
type Catalogue interface {
	// Refresh reads lists of kinds, RefreshProject reads one project. They return a
	// *metal.StaleError if they could not.
	Refresh(ctx context.Context, kinds ...metal.RefKind) error
	RefreshProject(ctx context.Context, id string) error
	// Loaded reports whether the list of a kind was read once.
	Loaded(kind metal.RefKind) bool
	// ProjectLoaded reports whether one project was read once, also if it does not exist.
	ProjectLoaded(id string) bool
	// Watching keeps the lists of a kind fresh until stop is called.
	Watching(kind metal.RefKind) (stop func())
}

// New returns a storage.Refresher that observes by the observer, and reads by the
// catalogue, which can be nil if no read covers its kinds; a namespace is that of its project.
func New(observer Observer, catalogue Catalogue, bindings tenancy.Bindings) *Refresher {
	return &Refresher{observer: observer, catalogue: catalogue, bindings: bindings, watches: map[watchKey]*watches{}}
}

var (
	_ storage.Refresher     = &Refresher{}
	_ storage.WatchObserver = &Refresher{}
)

// Refresher implements storage.Refresher.
type Refresher struct {
	observer  Observer
	catalogue Catalogue
	bindings  tenancy.Bindings

	mu sync.Mutex
	// watches are those that are open.
	watches map[watchKey]*watches
}

// Refresh implements storage.Refresher.
func (r *Refresher) Refresh(ctx context.Context, scope storage.Scope) (time.Time, error) {
	project, bound := r.project(scope)
	switch scope.Kind {
	case metal.KindPartition:
		return r.refreshPartitions(ctx)
	case metal.KindSize, metal.KindImage:
		return result(r.catalogue.Refresh(ctx, scope.Kind))
	case metal.KindProject:
		if scope.AllNamespaces {
			return result(r.catalogue.Refresh(ctx, metal.KindProject))
		}
		for _, ref := range scope.Refs {
			if ref.Kind == metal.KindProject && !bound {
				project, bound = ref.ID, true
			}
		}
		if !bound {
			return time.Time{}, nil
		}
		return result(r.catalogue.RefreshProject(ctx, project))
	}
	return result(r.observer.Refresh(ctx, r.metalScope(scope, project)))
}

// metalScope is what the observer has to observe for a scope.
func (r *Refresher) metalScope(scope storage.Scope, project string) metal.Scope {
	var want metal.Scope
	switch scope.Kind {
	case metal.KindNetwork:
		want.AllNetworks, want.ProjectNetworks = scope.AllNamespaces, project
	case metal.KindIP:
		want.AllIPs, want.ProjectIPs = scope.AllNamespaces, project
	default:
		want.Fleet, want.Project = scope.AllNamespaces, project
	}
	for _, ref := range scope.Refs {
		switch ref.Kind {
		case metal.KindMachine:
			want.Machines = append(want.Machines, ref.ID)
		case metal.KindNetwork:
			want.Networks = append(want.Networks, ref.ID)
		case metal.KindNetworkIn:
			if _, id, ok := strings.Cut(ref.ID, "/"); ok {
				want.Networks = append(want.Networks, id)
			}
		case metal.KindIP:
			want.IPs = append(want.IPs, ref.ID)
		}
	}
	return want
}

// refreshPartitions counts all machines, and reads the partitions and reservations. If both
// are stale, the older one says since when.
func (r *Refresher) refreshPartitions(ctx context.Context) (time.Time, error) {
	var both errgroup.Group
	var catalogue error
	both.Go(func() error {
		catalogue = r.catalogue.Refresh(ctx, metal.KindPartition)
		return nil
	})
	capacities := r.observer.Refresh(ctx, metal.Scope{Capacities: true})
	_ = both.Wait()
	since, err := result(capacities)
	if other, otherErr := result(catalogue); err == nil || otherErr != nil && other.Before(since) {
		return other, otherErr
	}
	return since, err
}

// Known implements storage.Refresher.
func (r *Refresher) Known(scope storage.Scope) bool {
	project, bound := r.project(scope)
	switch scope.Kind {
	case metal.KindPartition:
		return r.observer.HasSynced() && r.catalogue.Loaded(metal.KindPartition)
	case metal.KindSize, metal.KindImage:
		return r.catalogue.Loaded(scope.Kind)
	case metal.KindProject:
		return r.catalogue.Loaded(metal.KindProject) || !scope.AllNamespaces && (!bound || r.catalogue.ProjectLoaded(project))
	case metal.KindNetwork:
		if scope.AllNamespaces {
			return r.observer.AllNetworksObserved()
		}
		return !bound || r.observer.NetworksObserved(project)
	case metal.KindIP:
		if scope.AllNamespaces {
			return r.observer.AllIPsObserved()
		}
		return !bound || r.observer.IPsObserved(project)
	}
	return true
}

// project is that of a scope's namespace.
func (r *Refresher) project(scope storage.Scope) (project string, bound bool) {
	if scope.Namespace == "" {
		return "", false
	}
	return r.bindings.Project(scope.Namespace)
}

func result(err error) (time.Time, error) {
	if stale, ok := errors.AsType[*metal.StaleError](err); ok {
		return stale.Since, stale.Cause
	}
	return time.Time{}, err
}
