// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"context"
	"fmt"
	"slices"
)

// measures are those of both kinds in one cluster, in the order in which they are
// taken: what spends the savings of consistent reads comes last.
func measures() []measure {
	all := fmt.Sprintf("list of %d", *objects)
	large, small := largeNamespace(*objects), smallNamespace(*objects)
	return []measure{
		fanOut(25),
		fanOut(50),
		{
			name: "list-plain",
			rows: listRows(all+", rv=0, plain", 0.3, 0.4, 0)[:2],
			run:  list(request{version: "0"}),
		},
		{
			name: "list-gzip",
			rows: listRows(all+", rv=0, gzip, as client-go asks", 0.35, 0, 1.2),
			run:  list(request{version: "0", gzip: true}),
		},
		{
			name: "list-table",
			rows: listRows(all+", rv=0, gzip, as Table", 0.3, 0, 0),
			run:  list(request{version: "0", gzip: true, accept: acceptTable}),
		},
		{
			name: "list-metadata",
			rows: listRows(all+", rv=0, gzip, as PartialObjectMetadata", 0.2, 0, 0),
			run:  list(request{version: "0", gzip: true, accept: acceptMetadata}),
		},
		{
			name: "watch-list",
			rows: listRows(fmt.Sprintf("watch list, initial events of %d", *objects), 0.4, 0, 0)[:2],
			run:  watchList,
		},
		{
			name: "write",
			rows: slices.Concat(writeRows("label patch"), writeRows("apply"), writeRows("create"), writeRows("delete")),
			run:  writes,
		},
		{
			name: "get",
			rows: []*row{
				{subject: "get, rv=0", part: "p50", goal: 1.5},
				{subject: "get, rv=0", part: fmt.Sprintf("%d at a time, p50", getters), goal: 1.5},
			},
			run: func(ctx context.Context, e *environment, s *side) ([]float64, error) {
				g, err := gets(ctx, e, s, "0")
				return []float64{quantile(g.single, 0.5), quantile(g.parallel, 0.5)}, err
			},
		},
		{
			name: "get-consistent", prepare: save,
			rows: consistentGetRows("consistent get, savings there", 1.2),
			run:  consistentGets,
		},
		{
			name: "list-consistent", prepare: save,
			rows: listRows("consistent "+all+", gzip", 0.6, 0, 0),
			run:  list(request{gzip: true}),
		},
		{
			name: "list-consistent-namespace", prepare: save,
			rows: listRows(fmt.Sprintf("consistent list of a namespace of %d, gzip", large), 1, 0, 0),
			run:  list(request{gzip: true, team: 0, items: large}),
		},
		{
			name: "list-consistent-spent", prepare: spend,
			rows: listRows(fmt.Sprintf("consistent list of a namespace of %d, gzip, savings spent", small), 1, 0, 0),
			run:  list(request{gzip: true, team: 1, items: small}),
		},
		{
			name: "get-consistent-spent", prepare: spend,
			rows: consistentGetRows("consistent get, savings spent", 1.5),
			run:  consistentGets,
		},
		{
			name: "kubectl",
			rows: []*row{
				{subject: fmt.Sprintf("kubectl get -A of %d", *objects), goal: 0.6},
				{subject: fmt.Sprintf("kubectl get -A of %d", *objects), part: "its memory", unit: bytesUnit, goal: 0.6},
			},
			run: kubectlGet,
		},
	}
}

// listRows are the time, the CPU and the bytes of a list, with the goals of each.
func listRows(subject string, took, cpu, size float64) []*row {
	return []*row{
		{subject: subject, part: "time", goal: took},
		{subject: subject, part: "CPU", goal: cpu},
		{subject: subject, part: "bytes", unit: bytesUnit, goal: size},
	}
}

func writeRows(verb string) []*row {
	return []*row{{subject: verb, part: "p50", goal: 1.4}, {subject: verb, part: "CPU"}}
}

func consistentGetRows(subject string, goal float64) []*row {
	return []*row{
		{subject: subject, part: "p50", goal: goal},
		{subject: subject, part: "p99", goal: goal},
		{subject: subject, part: fmt.Sprintf("%d at a time, p50", getters), goal: goal},
		{subject: subject, part: fmt.Sprintf("%d at a time, p99", getters), goal: goal},
	}
}
