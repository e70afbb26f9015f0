// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/replica"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
)

// unreadableLedger is a ledger that answers no list.
type unreadableLedger struct{ ledger.Ledger }

var errUnreadable = errors.New("the ledger cannot be read")

func (unreadableLedger) List(context.Context) ([]ledger.Record, error) { return nil, errUnreadable }

func TestRunLeaderElection_TerminatesReplicaThatCannotReadRecords(t *testing.T) {
	t.Parallel()
	backend, err := storage.NewBackend(t.Context(), storage.Options{Ledger: unreadableLedger{memory.New()}})
	require.NoError(t, err)
	var cause error
	s := &Server{
		extra: &ExtraConfig{Replica: &replica.Replica{}}, backend: backend, ready: &readiness{}, preloaded: make(chan struct{}),
		terminateRun: func(err error) { cause = err },
	}
	s.gate = newServingGate(s.unavailableReason)
	s.runLeaderElection(t.Context())
	require.ErrorIs(t, cause, errUnreadable)
	select {
	case <-s.preloaded:
		t.Error("no record was read")
	default:
	}
}
