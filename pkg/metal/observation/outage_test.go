// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/require"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/client"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestOutage_KeepsFactsAndGrowsStaleness(t *testing.T) {
	for name, fault := range map[string]simulator.Fault{
		"refused":   {Kind: simulator.FaultRefused},
		"hang":      {Kind: simulator.FaultHang},
		"gateway":   {Kind: simulator.FaultStatus, Status: 502, Message: "bad gateway"},
		"rethinkdb": {Kind: simulator.FaultBackendDown, Backend: "rethinkdb"},
	} {
		t.Run(name, func(t *testing.T) {
			runTest(t, envConfig{costs: true}, func(t *testing.T, e *env) {
				ids := e.allocate(simulator.ProjectA, 3)
				n := e.machineNetwork(ids[0])
				e.reference(metal.Ref{Kind: metal.KindNetwork, ID: n})
				e.run()
				time.Sleep(30 * time.Second)
				require.Less(t, e.observer.Staleness(), 11*time.Second)
				e.changed()

				began := time.Now()
				e.sim.ResetCalls()
				fault.Endpoint = "*"
				remove := e.sim.Inject(fault)
				for time.Since(began) < 10*time.Minute {
					waited := time.Now()
					var u *metal.StaleError
					require.ErrorAs(t, e.observer.Refresh(t.Context(), metal.Scope{Machines: ids[:1]}), &u)
					require.LessOrEqual(t, time.Since(waited), DefaultRefreshTimeout)
					require.WithinDuration(t, began, u.Since, 11*time.Second)
					require.Error(t, u.Cause)
					time.Sleep(5 * time.Second)
				}
				require.Greater(t, e.observer.Staleness(), 10*time.Minute-time.Second)
				require.Len(t, e.observer.AllocatedIn(simulator.ProjectA), 3)
				_, presence := e.observer.Network(n)
				require.Equal(t, metal.Present, presence)
				require.Empty(t, e.changed())
				t.Logf("%s: %d calls in 10 minutes", name, allCalls(e.sim))
				require.Less(t, allCalls(e.sim), 1000)

				remove()
				// The last of the calls that hang has to end first.
				time.Sleep(client.DefaultTimeouts.List + 2*maxBackoff)
				require.Less(t, e.observer.Staleness(), 11*time.Second, "it recovers by itself")
				require.NoError(t, e.observer.Refresh(t.Context(), metal.Scope{Machines: ids[:1]}))
				require.Empty(t, e.changed())
			})
		})
	}
}

func TestOutage_IsLoggedOnceAMinute(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		var lines []string
		logger := funcr.New(func(_, line string) { lines = append(lines, line) }, funcr.Options{})
		ctx, cancel := context.WithCancel(klog.NewContext(t.Context(), logger))
		var stopped sync.WaitGroup
		stopped.Go(func() { e.observer.Run(ctx) })
		time.Sleep(time.Minute)
		remove := e.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultStatus, Status: 403, Message: "wrong key"})
		time.Sleep(5 * time.Minute)
		remove()
		time.Sleep(time.Minute)
		cancel()
		stopped.Wait()

		last := len(lines) - 1
		require.GreaterOrEqual(t, last, 4)
		require.LessOrEqual(t, last, 6)
		for _, line := range lines[:last] {
			require.Contains(t, line, "Failed to observe all machines: retrying")
			require.Contains(t, line, "wrong key", "the metal-api's words")
		}
		require.Contains(t, lines[last], "Observed all machines again")
	})
}

func TestOutage_ReadsDoNotWait(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		id := e.allocate(simulator.ProjectA, 1)[0]
		e.sweep()
		e.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultHang})
		var u *metal.StaleError
		require.ErrorAs(t, e.observer.Refresh(t.Context(), metal.Scope{Machines: []string{id}}), &u)
		time.Sleep(5 * time.Second)
		// Known to be away: one observation each backoff finds out whether it still is.
		quick := 0
		for range 100 {
			began := time.Now()
			require.ErrorAs(t, e.observer.Refresh(t.Context(), metal.Scope{Machines: []string{id}}), &u)
			if time.Since(began) == 0 {
				quick++
			}
		}
		require.GreaterOrEqual(t, quick, 98)
	})
}

func TestStaleness_CountsFromCreationBeforeInitialSync(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		remove := e.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultRefused})
		e.run()
		time.Sleep(time.Minute)
		require.False(t, e.observer.HasSynced())
		require.Equal(t, time.Minute, e.observer.Staleness())
		err := e.observer.Refresh(t.Context(), metal.Scope{Project: simulator.ProjectA})
		require.ErrorContains(t, err, "not observed since the server started")
		remove()
		time.Sleep(20 * time.Second)
		require.True(t, e.observer.HasSynced())
	})
}

// A metal-api that is stopped and goes on answers what had been asked of it. The
// time that it stood still is no time in which it was busy.
func TestOutage_StandstillIsNotTakenForLoad(t *testing.T) {
	runTest(t, envConfig{costs: true}, func(t *testing.T, e *env) {
		ids := e.allocate(simulator.ProjectA, 3)
		e.run()
		time.Sleep(30 * time.Second)
		remove := e.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultLatency, Latency: 8 * time.Second})
		for range 60 {
			time.Sleep(time.Second)
			var u *metal.StaleError
			require.ErrorAs(t, e.observer.Refresh(t.Context(), metal.Scope{Project: simulator.ProjectA}), &u)
		}
		remove()
		time.Sleep(10 * time.Second)
		for range 30 {
			require.NoError(t, e.observer.Refresh(t.Context(), metal.Scope{Machines: ids}))
			time.Sleep(time.Second)
		}
	})
}

func TestOutage_OneBadGatewayDoesNotMakeOtherReadsStale(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		ids := e.allocate(simulator.ProjectA, 2)
		e.sweep()
		bad := simulator.Fault{Endpoint: "*", Kind: simulator.FaultStatus, Status: 502, Message: "bad gateway", Times: 1}
		var u *metal.StaleError
		for range 3 {
			e.sim.Inject(bad)
			require.ErrorAs(t, e.observer.Refresh(t.Context(), metal.Scope{Machines: ids[:1]}), &u)
			require.NoError(t, e.observer.Refresh(t.Context(), metal.Scope{Machines: ids[1:]}))
		}
		bad.Times = 2
		e.sim.Inject(bad)
		require.ErrorAs(t, e.observer.Refresh(t.Context(), metal.Scope{Machines: ids[:1]}), &u)
		require.False(t, e.observer.breaker.isOpen())
		require.ErrorAs(t, e.observer.Refresh(t.Context(), metal.Scope{Machines: ids[:1]}), &u)
		require.True(t, e.observer.breaker.isOpen(), "two in a row are an outage")
	})
}
