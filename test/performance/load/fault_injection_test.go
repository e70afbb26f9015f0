// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// faultPhase is a time of the metal-api's; no faults are a good one.
type faultPhase struct {
	name   string
	faults []simulator.Fault
}

// phases come one after the other, each followed by as long a good time.
var phases = []faultPhase{
	{"half of all calls are answered 500", []simulator.Fault{
		{Kind: simulator.FaultStatus, Status: http.StatusInternalServerError, Message: "internal server error", Fraction: 0.5},
	}},
	{"the database is away: 422 for everything", []simulator.Fault{{Kind: simulator.FaultBackendDown, Backend: "rethinkdb"}}},
	{"answers take two seconds longer", []simulator.Fault{{Kind: simulator.FaultLatency, Latency: 2 * time.Second}}},
	{"lists lack half of the machines", []simulator.Fault{{Endpoint: "machine-list", Kind: simulator.FaultTruncatedList, Fraction: 0.5}}},
	{"half of the allocations and frees are done and their answers lost", []simulator.Fault{
		{Endpoint: "machine-allocate", Kind: simulator.FaultCommitThenLose, Fraction: 0.5},
		{Endpoint: "machine-free", Kind: simulator.FaultCommitThenLose, Fraction: 0.5},
	}},
	{"a third of all connections are closed", []simulator.Fault{{Kind: simulator.FaultRefused, Fraction: 0.33}}},
	{"nothing is answered", []simulator.Fault{{Kind: simulator.FaultHang}}},
}

// injectFaults lets the metal-api go through all phases, step for each, over and
// over until ctx ends, and returns what it did.
func injectFaults(ctx context.Context, sim *simulator.Simulator, step time.Duration) (went []string) {
	tick := time.NewTicker(step)
	defer tick.Stop()
	times := map[string]int{}
	for i := 0; ctx.Err() == nil; i++ {
		var remove []func()
		if i%2 == 1 {
			t := phases[i/2%len(phases)]
			times[t.name]++
			for _, f := range t.faults {
				remove = append(remove, sim.Inject(f))
			}
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		for _, end := range remove {
			end()
		}
	}
	for _, t := range phases {
		went = append(went, fmt.Sprintf("%d × %s for %s", times[t.name], t.name, step))
	}
	return went
}
