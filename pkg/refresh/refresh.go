package apiserver

import (
	"context"
	"errors"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/observation"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
)

// NewRefresher returns what has metal looked at for reads: for a namespace, its
// project.
func NewRefresher(observer *observation.Observer, bindings tenancy.Bindings) storage.Refresher {
	return refresher{observer, bindings}
}

type refresher struct {
	observer *observation.Observer
	bindings tenancy.Bindings
}

// Refresh implements storage.Refresher.
func (f refresher) Refresh(ctx context.Context, scope storage.Scope) (time.Time, error) {
	want := metal.Want{Fleet: scope.AllNamespaces}
	if scope.Namespace != "" {
		want.Project, _ = f.bindings.Project(scope.Namespace)
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
	err := f.observer.Confirm(ctx, want)
	if unconfirmed, ok := errors.AsType[*metal.Unconfirmed](err); ok {
		return unconfirmed.Since, unconfirmed.Cause
	}
	return time.Time{}, err
}
