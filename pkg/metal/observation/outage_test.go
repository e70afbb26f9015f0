package observation

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/client"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestWhileTheMetalApiIsAwayFactsStayAndStalenessGrows(t *testing.T) {
	for name, fault := range map[string]simulator.Fault{
		"refused":   {Kind: simulator.FaultRefused},
		"hang":      {Kind: simulator.FaultHang},
		"gateway":   {Kind: simulator.FaultStatus, Status: 502, Message: "bad gateway"},
		"rethinkdb": {Kind: simulator.FaultBackendDown, Backend: "rethinkdb"},
	} {
		t.Run(name, func(t *testing.T) {
			inBed(t, bedConfig{costs: true}, func(t *testing.T, b *bed) {
				ids := b.allocated(simulator.ProjectA, 3)
				n := b.machineNetwork(ids[0])
				b.name(metal.Ref{Kind: metal.KindNetwork, ID: n})
				b.run()
				time.Sleep(30 * time.Second)
				require.Less(t, b.obs.Staleness(), 11*time.Second)
				b.told()

				began := time.Now()
				b.sim.ResetCalls()
				fault.Endpoint = "*"
				remove := b.sim.Inject(fault)
				for time.Since(began) < 10*time.Minute {
					waited := time.Now()
					var u *metal.Unconfirmed
					require.ErrorAs(t, b.obs.Confirm(t.Context(), metal.Want{Machines: ids[:1]}), &u)
					require.LessOrEqual(t, time.Since(waited), DefaultReadLimit)
					require.WithinDuration(t, began, u.Since, 11*time.Second)
					require.Error(t, u.Cause)
					time.Sleep(5 * time.Second)
				}
				require.Greater(t, b.obs.Staleness(), 10*time.Minute-time.Second)
				require.Len(t, b.obs.AllocatedIn(simulator.ProjectA), 3)
				_, presence := b.obs.Network(n)
				require.Equal(t, metal.Present, presence)
				require.Empty(t, b.told())
				t.Logf("%s: %d calls in 10 minutes", name, allCalls(b.sim))
				require.Less(t, allCalls(b.sim), 1000)

				remove()
				// The last of the calls that hang has to end first.
				time.Sleep(client.DefaultTimeouts.List + 2*mostBackoff)
				require.Less(t, b.obs.Staleness(), 11*time.Second, "it recovers by itself")
				require.NoError(t, b.obs.Confirm(t.Context(), metal.Want{Machines: ids[:1]}))
				require.Empty(t, b.told())
			})
		})
	}
}

func TestAReadIsNotMadeToWaitForAMetalApiThatIsAway(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		id := b.allocated(simulator.ProjectA, 1)[0]
		b.swept()
		b.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultHang})
		var u *metal.Unconfirmed
		require.ErrorAs(t, b.obs.Confirm(t.Context(), metal.Want{Machines: []string{id}}), &u)
		time.Sleep(5 * time.Second)
		// Known to be away: one look each backoff finds out whether it still is.
		quick := 0
		for range 100 {
			began := time.Now()
			require.ErrorAs(t, b.obs.Confirm(t.Context(), metal.Want{Machines: []string{id}}), &u)
			if time.Since(began) == 0 {
				quick++
			}
		}
		require.GreaterOrEqual(t, quick, 98)
	})
}

func TestBeforeTheFirstSweepNothingIsKnownAndStalenessCounts(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		remove := b.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultRefused})
		b.run()
		time.Sleep(time.Minute)
		require.False(t, b.obs.Swept())
		require.Equal(t, time.Minute, b.obs.Staleness())
		err := b.obs.Confirm(t.Context(), metal.Want{Project: simulator.ProjectA})
		require.ErrorContains(t, err, "never confirmed")
		remove()
		time.Sleep(20 * time.Second)
		require.True(t, b.obs.Swept())
	})
}

// A metal-api that is stopped and goes on answers what had been asked of it. The
// time that it stood still is no time in which it was busy.
func TestAMetalApiThatStoodStillIsNotTakenForABusyOne(t *testing.T) {
	inBed(t, bedConfig{costs: true}, func(t *testing.T, b *bed) {
		ids := b.allocated(simulator.ProjectA, 3)
		b.run()
		time.Sleep(30 * time.Second)
		remove := b.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultLatency, Latency: 8 * time.Second})
		for range 60 {
			time.Sleep(time.Second)
			var u *metal.Unconfirmed
			require.ErrorAs(t, b.obs.Confirm(t.Context(), metal.Want{Project: simulator.ProjectA}), &u)
		}
		remove()
		time.Sleep(10 * time.Second)
		for range 30 {
			require.NoError(t, b.obs.Confirm(t.Context(), metal.Want{Machines: ids}))
			time.Sleep(time.Second)
		}
	})
}
