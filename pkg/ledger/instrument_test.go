// SPDX-License-Identifier: Apache-2.0

package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"k8s.io/component-base/metrics/legacyregistry"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/ledgertest"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
)

func TestInstrument_KeepsTheContract(t *testing.T) {
	ledgertest.Run(t, ledgertest.Harness{New: func(t *testing.T) ledger.Ledger { return ledger.Instrument(memory.New(), "contract") }})
}

// failing fails every Create, and can be closed.
type failing struct {
	ledger.Ledger
	err    error
	closed bool
}

func (l *failing) Create(context.Context, string, []byte) (string, error) { return "", l.err }

func (l *failing) Close() error {
	l.closed = true
	return nil
}

func TestInstrument_CountsEveryOutcome(t *testing.T) {
	f := &failing{Ledger: memory.New()}
	l := ledger.Instrument(f, "counted")
	for _, f.err = range []error{nil, ledger.ErrExists, ledger.ErrNotFound, ledger.ErrConflict, ledger.ErrNotWritten, ledger.ErrTooLarge, errors.New("lost")} {
		if f.err != nil {
			f.err = fmt.Errorf("wrapped: %w", f.err)
		}
		if _, err := l.Create(t.Context(), "a/b", nil); !errors.Is(err, f.err) {
			t.Errorf("%v became %v", f.err, err)
		}
	}
	if _, err := l.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := outcomes(t, "counted")
	for _, want := range []string{"create done", "create exists", "create not_found", "create conflict", "create not_done", "create too_large", "create error", "list done"} {
		if got[want] != 1 {
			t.Errorf("%s was counted %d times", want, got[want])
		}
	}
}

func TestInstrument_ClosesTheLedgerBelow(t *testing.T) {
	f := &failing{}
	if err := ledger.Instrument(f, "closed").(interface{ Close() error }).Close(); err != nil || !f.closed {
		t.Errorf("closed: %t, %v", f.closed, err)
	}
	if err := ledger.Instrument(memory.New(), "closed").(interface{ Close() error }).Close(); err != nil {
		t.Errorf("a ledger that cannot be closed: %v", err)
	}
}

// outcomes are the counts of a ledger, by "verb outcome".
func outcomes(t *testing.T, kind string) map[string]uint64 {
	t.Helper()
	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]uint64{}
	for _, f := range families {
		if f.GetName() != "metalstack_ledger_operation_duration_seconds" {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["ledger"] == kind {
				counts[labels["verb"]+" "+labels["outcome"]] = m.GetHistogram().GetSampleCount()
			}
		}
	}
	return counts
}
