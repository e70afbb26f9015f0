// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
	"metal-stack.io/infrastructure-apiserver/pkg/projection"
	allocationrest "metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/allocation"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/machine"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/operations"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
)

// noOperator fails whoever calls it.
type noOperator struct{ operations.Operator }

// Whatever verb a user may use, records of a Namespace that is gone are not there.
func TestHiddenNamespace_NoVerbReachesItsRecords(t *testing.T) {
	t.Parallel()
	var hidden atomic.Pointer[map[string]struct{}]
	hidden.Store(&map[string]struct{}{})
	backend, err := storage.NewBackend(t.Context(), storage.Options{Ledger: memory.New(), HiddenNamespaces: func() map[string]struct{} { return *hidden.Load() }})
	require.NoError(t, err)
	w := &environment{backend: backend, facts: facts{}}
	w.Resources, err = New(NewRESTOptionsGetter(backend, projection.Source{Facts: w.facts, Bindings: teamABinding{}, Clock: clock.RealClock{}}), teamABinding{}, resolverOf(authorizerfactory.NewAlwaysAllowAuthorizer(), backend), anyCatalogue{}, nil)
	require.NoError(t, err)
	require.NoError(t, backend.Start(t.Context()))
	create(t, w, machine.Resource, newMachine("node-1"))
	before, err := w.Machines().Get(t.Context(), "team-a", "node-1")
	require.NoError(t, err)
	hidden.Store(&map[string]struct{}{"team-a": {}})
	backend.HiddenNamespacesChanged()

	main, status := w.all[machine.Resource].main, w.all[machine.Resource].status
	allocation := allocationrest.NewREST(main, allocationrest.Operations[*infrastructure.MetalStackMachine]{
		Allocate: func(context.Context, string, string, *infrastructure.Allocation) (*infrastructure.MetalStackMachine, error) {
			t.Error("allocated")
			return nil, nil
		},
		Release: func(context.Context, string, string, types.UID) (*infrastructure.MetalStackMachine, error) {
			t.Error("released")
			return nil, nil
		},
	}, &infrastructure.MetalStackMachine{})
	served := w.subresources(Backends{Allocator: noAllocator{}, Operator: noOperator{}}, scheme.StorageVersion)
	ctx := in("team-a")
	for name, try := range map[string]func() error{
		"get":        func() error { _, err := main.Get(ctx, "node-1", &metav1.GetOptions{}); return err },
		"get status": func() error { _, err := status.Get(ctx, "node-1", &metav1.GetOptions{}); return err },
		"update": func() error {
			_, err := update(t, main, "node-1", func(m *infrastructure.MetalStackMachine) { m.Labels = map[string]string{"a": "b"} })
			return err
		},
		"update status": func() error {
			_, err := update(t, status, "node-1", func(*infrastructure.MetalStackMachine) {})
			return err
		},
		"delete": func() error {
			_, _, err := main.Delete(ctx, "node-1", rest.ValidateAllObjectFunc, &metav1.DeleteOptions{})
			return err
		},
		"allocate": func() error {
			_, err := allocation.Create(ctx, "node-1", &infrastructure.Allocation{}, nil, &metav1.CreateOptions{})
			return err
		},
		"get power": func() error {
			_, err := served["metalstackmachines/power"].(rest.Getter).Get(ctx, "node-1", &metav1.GetOptions{})
			return err
		},
		"get log": func() error {
			_, err := served["metalstackmachines/log"].(rest.Getter).Get(ctx, "node-1", &metav1.GetOptions{})
			return err
		},
		"request power": func() error {
			body := &infrastructure.MachinePower{Spec: infrastructure.MachinePowerSpec{Action: infrastructure.PowerOff}}
			_, err := served["metalstackmachines/power"].(rest.NamedCreater).Create(ctx, "node-1", body, nil, &metav1.CreateOptions{})
			return err
		},
		"read console password": func() error {
			body := &infrastructure.MachineConsolePassword{Spec: infrastructure.MachineConsolePasswordSpec{Reason: "x"}}
			_, err := served["metalstackmachines/consolepassword"].(rest.NamedCreater).Create(ctx, "node-1", body, nil, &metav1.CreateOptions{})
			return err
		},
		"release": func() error {
			_, _, err := allocation.Delete(ctx, "node-1", nil, &metav1.DeleteOptions{})
			return err
		},
	} {
		assert.True(t, apierrors.IsNotFound(try()), "%s: %v", name, try())
	}
	for _, namespace := range []string{"team-a", ""} {
		list, err := main.List(in(namespace), &metainternalversion.ListOptions{})
		assert.Empty(t, names(t, list, err))
		list, err = main.DeleteCollection(in(namespace), rest.ValidateAllObjectFunc, &metav1.DeleteOptions{}, &metainternalversion.ListOptions{})
		assert.Empty(t, names(t, list, err))
	}
	after, err := w.Machines().Get(t.Context(), "team-a", "node-1")
	require.NoError(t, err, "the allocation protocol knows every record")
	assert.Equal(t, before, after)
	all, err := w.Machines().List(t.Context())
	require.NoError(t, err)
	assert.Len(t, all, 1)
}
