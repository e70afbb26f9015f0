package metal

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator/simtest"
)

// How many looks reads of one object cost that never rest, over real HTTP.
func BenchmarkSharedReads(b *testing.B) {
	srv := simtest.Start(b, simulator.Config{Costs: true})
	c, err := NewClient(Options{URL: srv.URL, HMAC: srv.Key(AuthEdit)})
	require.NoError(b, err)
	o := NewObserver(c, ObserverOptions{Budget: 1})
	require.NoError(b, o.sweep(b.Context()))
	want := Want{Machines: []string{srv.Sim.Books().Machines[0].ID}}
	const readers = 1000
	srv.Sim.ResetCalls()
	for b.Loop() {
		var wg sync.WaitGroup
		for range readers {
			wg.Go(func() { _ = o.Confirm(b.Context(), want) })
		}
		wg.Wait()
	}
	b.ReportMetric(float64(srv.Sim.CallsOf("machine-get"))/float64(b.N), "looks/1000reads")
}

// What taking in a list of 10,000 machines costs of which nothing changed.
func BenchmarkTakeUnchangedList(b *testing.B) {
	var l lean
	require.NoError(b, readFleet(b, &l, 10_000))
	o := NewObserver(&Client{}, ObserverOptions{})
	take := func() {
		m := o.facts.next(o.opts.Clock.Now())
		o.facts.update(func() {
			var doubtful []string
			o.takeShown(l.machines, m, &doubtful)
		})
	}
	take()
	b.ReportAllocs()
	for b.Loop() {
		take()
	}
}
