// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"net/http"
	"runtime"
	"testing"

	"github.com/metal-stack/metal-go/api/models"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metaltest"
)

// What a list of 10,000 machines costs this side of the wire, by the way in
// which it is read.
func BenchmarkListDecode(b *testing.B) {
	body := metaltest.Fleet(b, 10_000)
	ways := map[string]func() (int, any, error){
		"partial": func() (int, any, error) {
			var l machineDecoder
			err := l.decodeList(newMachineReader(bytes.NewReader(body)))
			return len(l.machines), l.machines, err
		},
		"metal-go": func() (int, any, error) {
			var all []*models.V1MachineResponse
			err := strictJSON(bytes.NewReader(body), &all)
			return len(all), all, err
		},
	}
	for name, read := range ways {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			var kept any
			for b.Loop() {
				n, value, err := read()
				require.NoError(b, err)
				require.Equal(b, 10_000, n)
				kept = value
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB-kept")
			runtime.KeepAlive(kept)
		})
	}
}

// BenchmarkMachineGet is what a get of a machine costs this process, without the network.
func BenchmarkMachineGet(b *testing.B) {
	body := metaltest.Fleet(b, 1)
	api := &answering{status: http.StatusOK, body: body[1 : len(body)-1]}
	c := api.client(b)
	b.SetBytes(int64(len(api.body)))
	b.ReportAllocs()
	for b.Loop() {
		m, err := c.Machine(b.Context(), "00000000-0000-4000-8000-000000000000")
		require.NoError(b, err)
		require.NotNil(b, m.Allocation)
	}
}
