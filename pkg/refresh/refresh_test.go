// SPDX-License-Identifier: Apache-2.0

package refresh

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
)

const project = "10000000-0000-4000-8000-00000000000a"

// fakeObserver records the scopes that it is to observe.
type fakeObserver struct {
	scopes []metal.Scope
	err    error
}

func (o *fakeObserver) Refresh(_ context.Context, scope metal.Scope) error {
	o.scopes = append(o.scopes, scope)
	return o.err
}

func newRefresher(t *testing.T, o *fakeObserver) storage.Refresher {
	t.Helper()
	bindings, err := tenancy.NewStatic([]string{"team-a=" + project})
	require.NoError(t, err)
	return New(o, bindings)
}

func TestRefresh_TranslatesScope(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		scope storage.Scope
		want  metal.Scope
	}{
		"all namespaces":    {storage.Scope{AllNamespaces: true}, metal.Scope{Fleet: true}},
		"bound namespace":   {storage.Scope{Namespace: "team-a"}, metal.Scope{Project: project}},
		"unbound namespace": {storage.Scope{Namespace: "team-b"}, metal.Scope{}},
		"objects": {
			storage.Scope{Refs: []metal.Ref{
				{Kind: metal.KindMachine, ID: "m1"}, {Kind: metal.KindNetwork, ID: "n1"}, {Kind: metal.KindIP, ID: "203.0.113.1"}, {Kind: metal.KindMachine, ID: "m2"},
			}},
			metal.Scope{Machines: []string{"m1", "m2"}, Networks: []string{"n1"}, IPs: []string{"203.0.113.1"}},
		},
		"namespace with objects": {
			storage.Scope{Namespace: "team-a", Refs: []metal.Ref{{Kind: metal.KindNetwork, ID: "n1"}}},
			metal.Scope{Project: project, Networks: []string{"n1"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &fakeObserver{}
			since, err := newRefresher(t, o).Refresh(t.Context(), c.scope)
			require.NoError(t, err)
			assert.Zero(t, since)
			assert.Equal(t, []metal.Scope{c.want}, o.scopes)
		})
	}
}

func TestRefresh_StaleScopeHasTimeAndCause(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	o := &fakeObserver{err: fmt.Errorf("wrapped: %w", &metal.StaleError{Since: since, Cause: metal.ErrBudgetExceeded})}
	got, err := newRefresher(t, o).Refresh(t.Context(), storage.Scope{AllNamespaces: true})
	assert.Equal(t, since, got)
	assert.Equal(t, metal.ErrBudgetExceeded, err, "the cause alone: the time is in the result")
}

func TestRefresh_OtherErrorIsNoSuccess(t *testing.T) {
	t.Parallel()
	failed := errors.New("failed")
	since, err := newRefresher(t, &fakeObserver{err: failed}).Refresh(t.Context(), storage.Scope{AllNamespaces: true})
	assert.Zero(t, since)
	assert.Equal(t, failed, err)
}
