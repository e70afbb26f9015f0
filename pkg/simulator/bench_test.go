// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/metal-stack/security"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func benchmark(b *testing.B, method, path, body string) {
	sim, err := simulator.New(simulator.Config{DataCentre: simulator.DefaultDataCentre(10000)})
	require.NoError(b, err)
	nw, err := sim.AllocateNetworkFor(simulator.ProjectA, simulator.DefaultPartition, "net", nil)
	require.NoError(b, err)
	for range 100 {
		_, err := sim.AllocateFor(simulator.AllocateRequest{
			Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Size: simulator.SmallSize, Networks: []string{nw},
		})
		require.NoError(b, err)
	}
	mac := security.NewHMACAuth("Metal-Admin", []byte(simulator.DefaultHMAC.Admin))
	h := sim.Handler()
	ask := func() int {
		req := httptest.NewRequest(method, path, strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		mac.AddAuth(req, time.Now(), nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		require.Equal(b, 200, w.Code)
		return w.Body.Len()
	}
	start := time.Now()
	size := ask()
	first := time.Since(start)
	for b.Loop() {
		ask()
	}
	b.ReportMetric(first.Seconds()*1000, "ms-first")
	b.ReportMetric(float64(size)/1e6, "MB")
}

func BenchmarkList_10000Machines(b *testing.B) { benchmark(b, "GET", "/v1/machine", "") }

func BenchmarkFind_ProjectOf10000Machines(b *testing.B) {
	benchmark(b, "POST", "/v1/machine/find", fmt.Sprintf(`{"allocation_project":%q}`, simulator.ProjectA))
}

func BenchmarkGet_10000Machines(b *testing.B) {
	benchmark(b, "GET", "/v1/machine/00000000-0000-4000-8000-000000000001", "")
}

func BenchmarkNew_10000Machines(b *testing.B) {
	for b.Loop() {
		_, err := simulator.New(simulator.Config{DataCentre: simulator.DefaultDataCentre(10000)})
		require.NoError(b, err)
	}
}
