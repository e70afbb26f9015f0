// SPDX-License-Identifier: Apache-2.0

// Package refresh has the metal-api observed for consistent reads: it translates
// what a read of the storage covers into what the observer has to observe. It
// must never answer a read, or know a kind.
package refresh

import (
	"context"
	"errors"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/observation"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
)

// Observer observes a scope of the metal-api.
type Observer interface {
	// Refresh returns a *metal.StaleError if the scope could not be observed.
	Refresh(ctx context.Context, scope metal.Scope) error
}

var _ Observer = &observation.Observer{}

// New returns a storage.Refresher that observes by the observer; a namespace is
// that of its project.
func New(observer Observer, bindings tenancy.Bindings) storage.Refresher {
	return refresher{observer, bindings}
}

type refresher struct {
	observer Observer
	bindings tenancy.Bindings
}

// Refresh implements storage.Refresher.
func (r refresher) Refresh(ctx context.Context, scope storage.Scope) (time.Time, error) {
	want := metal.Scope{Fleet: scope.AllNamespaces}
	if scope.Namespace != "" {
		want.Project, _ = r.bindings.Project(scope.Namespace)
	}
	for _, ref := range scope.Refs {
		switch ref.Kind {
		case metal.KindMachine:
			want.Machines = append(want.Machines, ref.ID)
		case metal.KindNetwork:
			want.Networks = append(want.Networks, ref.ID)
		case metal.KindIP:
			want.IPs = append(want.IPs, ref.ID)
		}
	}
	err := r.observer.Refresh(ctx, want)
	if stale, ok := errors.AsType[*metal.StaleError](err); ok {
		return stale.Since, stale.Cause
	}
	return time.Time{}, err
}

// Known implements storage.Refresher.
func (r refresher) Known(storage.Scope) bool { return true }
