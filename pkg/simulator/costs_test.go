// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestCosts_AnswerTimesFollowTable(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		machines   int
		find, list time.Duration // docs/metal-api.md, Q63
	}{
		{8, 9 * time.Millisecond, 12 * time.Millisecond},
		{1000, 100 * time.Millisecond, 520 * time.Millisecond},
		{5000, 470 * time.Millisecond, 2800 * time.Millisecond},
		{10000, 900 * time.Millisecond, 5100 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBubble(t, simulator.Config{Costs: true, DataCentre: simulator.DefaultDataCentre(tc.machines)})
			b.sim.ResetCalls()
			near := func(want, got time.Duration) {
				t.Helper()
				require.InEpsilon(t, want.Seconds(), got.Seconds(), 0.2)
			}
			near(3500*time.Microsecond, b.ask("GET", "/v1/machine/"+b.sim.MachineIDs()[0], nil).Took)
			near(tc.find, b.ask("POST", "/v1/machine/find", map[string]string{"allocation_project": simulator.ProjectA}).Took)
			near(tc.list, b.ask("GET", "/v1/machine", nil).Took)
			near(tc.find+tc.list+3500*time.Microsecond, b.sim.BusyTime())
			require.Equal(t, 1, b.sim.CallsOf("machine-list"))
		})
	}
}

func TestBusyTime_IsCountedWhenCostsAreDisabled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, simulator.Config{DataCentre: simulator.DefaultDataCentre(100)})
		require.Zero(t, b.ask("GET", "/v1/machine", nil).Took)
		require.Positive(t, b.sim.BusyTime())
		require.Equal(t, 404, b.ask("GET", "/v1/machine/nope", nil).Status)
		require.Equal(t, []simulator.CallStat{
			{Endpoint: "machine-get", Calls: 1, Errors: 1, Busy: 3500 * time.Microsecond},
			{Endpoint: "machine-list", Calls: 1, Busy: b.sim.Calls()[1].Busy},
		}, b.sim.Calls())
		b.sim.ResetCalls()
		require.Zero(t, b.sim.BusyTime())
		require.Zero(t, b.sim.CallsOf("machine-list"))

		b.sim.SetCosts(true)
		require.Positive(t, b.ask("GET", "/v1/machine", nil).Took)
	})
}

// TestCosts_CallsOverlap: all calls but allocations by size are answered in
// parallel.
func TestCosts_CallsOverlap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, simulator.Config{Costs: true, DataCentre: simulator.DefaultDataCentre(1000)})
		alone := b.ask("GET", "/v1/machine", nil).Took
		start := time.Now()
		done := make(chan reply, 4)
		for range 4 {
			go func() { done <- b.ask("GET", "/v1/machine", nil) }()
		}
		for range 4 {
			<-done
		}
		require.Equal(t, alone, time.Since(start))
	})
}

func TestSetSlowdown_MultipliesAnswerTimesAndBusyTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, simulator.Config{Costs: true, DataCentre: simulator.DefaultDataCentre(100)})
		b.sim.ResetCalls()
		usual := b.ask("GET", "/v1/machine", nil).Took
		b.sim.SetSlowdown(100)
		require.Equal(t, 100*usual, b.ask("GET", "/v1/machine", nil).Took)
		require.Equal(t, 101*usual, b.sim.BusyTime())
		b.sim.SetSlowdown(1)
		require.Equal(t, usual, b.ask("GET", "/v1/machine", nil).Took)
	})
}
