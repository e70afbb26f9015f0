// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/client"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metaltest"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator/simtest"
)

// How many observations reads of one object cost that never rest, over real HTTP.
func BenchmarkSharedReads(b *testing.B) {
	srv := simtest.Start(b, simulator.Config{Costs: true})
	c, err := client.New(client.Options{URL: srv.URL, HMAC: srv.Key(client.AuthEdit)})
	require.NoError(b, err)
	o := New(c, Options{Budget: 1})
	require.NoError(b, o.sweep(b.Context()))
	want := metal.Scope{Machines: []string{srv.Sim.Inventory().Machines[0].ID}}
	const readers = 1000
	srv.Sim.ResetCalls()
	for b.Loop() {
		var wg sync.WaitGroup
		for range readers {
			wg.Go(func() { _ = o.Refresh(b.Context(), want) })
		}
		wg.Wait()
	}
	b.ReportMetric(float64(srv.Sim.CallsOf("machine-get"))/float64(b.N), "calls/1000reads")
}

// What taking in a list of 10,000 machines costs of which nothing changed.
func BenchmarkTakeUnchangedList(b *testing.B) {
	transport := &metaltest.Transport{}
	transport.Answer(metaltest.Respond(200, "application/json", string(metaltest.Fleet(b, 10_000))))
	c, err := client.New(client.Options{URL: "http://metal-api.test", HMAC: "key", Transport: transport})
	require.NoError(b, err)
	machines, err := c.ListMachines(b.Context())
	require.NoError(b, err)
	o := New(c, Options{})
	take := func() {
		m := o.facts.nextObservation(o.opts.Clock.Now())
		o.facts.update(func() {
			var doubtful []string
			o.applyListed(machines, m, &doubtful)
		})
	}
	take()
	b.ReportAllocs()
	for b.Loop() {
		take()
	}
}

// What a round of focus costs of machines of which none is in transition.
func BenchmarkFocusAtRest(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			refs := make([]metal.Ref, n)
			o := New(noBackend{}, Options{Referenced: func(since uint64) metal.RefChanges {
				if since != 0 {
					return metal.RefChanges{Position: since}
				}
				return metal.RefChanges{Complete: true, Added: refs, Position: 1}
			}})
			for i := range refs {
				refs[i] = metal.Ref{Kind: metal.KindMachine, ID: fmt.Sprintf("m-%d", i)}
				o.LearnMachine(&metal.Machine{
					ID: refs[i].ID, Liveliness: metal.LivelinessAlive, LastEventTime: time.Now(),
					Events:     []metal.Event{{Event: metal.EventPhonedHome}},
					Allocation: &metal.Allocation{UUID: refs[i].ID, Project: "p"},
				})
			}
			b.ReportAllocs()
			for b.Loop() {
				o.updateReferenced()
				o.dueMachines()
			}
		})
	}
}
