package apiserver

import (
	"context"
	"errors"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
)

// NewFreshener returns what has metal looked at for reads: for a namespace, its
// project.
func NewFreshener(observer *metal.Observer, bindings tenancy.Bindings) storage.Freshener {
	return freshener{observer, bindings}
}

type freshener struct {
	observer *metal.Observer
	bindings tenancy.Bindings
}

// Confirm implements storage.Freshener.
func (f freshener) Confirm(ctx context.Context, scope storage.Scope) (time.Time, error) {
	want := metal.Want{Fleet: scope.Fleet}
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
