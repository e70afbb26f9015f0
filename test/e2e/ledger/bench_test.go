// SPDX-License-Identifier: Apache-2.0

package ledger_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
)

// typical is a value of the size that a machine's record has.
var typical = `{"object":{"kind":"MetalStackMachine","metadata":{"managedFields":[` +
	strings.TrimSuffix(strings.Repeat(`{"manager":"manager","operation":"Update","fieldsV1":{"f:spec":{"f:image":{},"f:machineType":{},"f:partition":{}}}},`, 25), ",") + `]}}}`

// BenchmarkLoad shows how long a server reads 5,000 records when it starts.
func BenchmarkLoad(b *testing.B) {
	const records = 5000
	env := newEnvironment(b)
	l := env.ledger(nil)
	env.fill(l, records)
	b.ReportMetric(float64(len(typical)), "B/record")
	for b.Loop() {
		list, err := l.List(b.Context())
		require.NoError(b, err)
		require.Len(b, list, records)
	}
	b.ReportMetric(float64(records*b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkLoadAgain shows how long it reads them when it has become the active one, if
// none has changed.
func BenchmarkLoadAgain(b *testing.B) {
	const records = 5000
	env := newEnvironment(b)
	l := env.ledger(nil)
	env.fill(l, records)
	list, err := l.List(b.Context())
	require.NoError(b, err)
	known := map[string]string{}
	for _, r := range list {
		known[r.Key] = r.Version
	}
	for b.Loop() {
		list, err := ledger.ListChanged(b.Context(), l, known)
		require.NoError(b, err)
		require.Len(b, list, records)
	}
	b.ReportMetric(float64(records*b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkUpdate shows what a write costs one writer.
func BenchmarkUpdate(b *testing.B) {
	env := newEnvironment(b)
	l := env.ledger(nil)
	version := env.create(l, key, typical)
	for i := 0; b.Loop(); i++ {
		var err error
		version, err = l.Update(b.Context(), key, version, fmt.Append(nil, typical, i))
		require.NoError(b, err)
	}
}
