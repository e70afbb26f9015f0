// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"context"
	"fmt"
	"math"
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
		floor(),
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
			name: "get-consistent", prepare: save, quick: true,
			rows: consistentGetRows("consistent get, savings there, metal-api answers at once", 1.2),
			run:  consistentGets,
		},
		{
			name: "list-consistent", prepare: save, quick: true,
			rows: listRows("consistent "+all+", gzip, metal-api answers at once", 0.6, 0, 0),
			run:  list(request{gzip: true}),
		},
		{
			name: "list-consistent-namespace", prepare: save, quick: true,
			rows: append(listRows(fmt.Sprintf("consistent list of a namespace of %d, gzip, metal-api answers at once", large), 1, 0, 0),
				&row{subject: fmt.Sprintf("consistent list of a namespace of %d, gzip, metal-api answers at once", large), part: "the simulator's find alone",
					why: "by metal-go, which decodes it"}),
			run: func(ctx context.Context, e *environment, s *side) ([]float64, error) {
				values, err := list(request{gzip: true, team: 0, items: large})(ctx, e, s)
				if err != nil || s == e.theirs {
					return append(values, math.NaN()), err
				}
				took, err := e.find(ctx, e.teams[0].Project, large)
				return append(values, took), err
			},
		},
		{
			name: "get-consistent-real", prepare: save,
			rows: explained(consistentGetRows("consistent get, savings there, metal-api as slow as a real one", 0), realGet),
			run:  consistentGets,
		},
		{
			name: "list-consistent-real", prepare: save,
			rows: explained(listRows("consistent "+all+", gzip, metal-api as slow as a real one", 0, 0, 0), realList(*objects)),
			run:  list(request{gzip: true}),
		},
		{
			name: "list-consistent-namespace-real", prepare: save,
			rows: explained(listRows(fmt.Sprintf("consistent list of a namespace of %d, gzip, metal-api as slow as a real one", large), 0, 0, 0), realFind(*objects, large)),
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
				{subject: fmt.Sprintf("kubectl get -A of %d", *objects), part: "time", goal: 0.6, why: "kubectl's own CPU is in it"},
				{subject: fmt.Sprintf("kubectl get -A of %d", *objects), part: "CPU of kubectl itself"},
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

// realGet, realList and realFind are what the real metal-api takes to answer
// (docs/metal-api.md, Q63).
const realGet = "3.5 ms are the metal-api's get"

func realList(objects int) string {
	return fmt.Sprintf("the metal-api's list takes %.3g s", 0.0005*float64(objects))
}

func realFind(objects, hits int) string {
	return fmt.Sprintf("the metal-api's find takes %.3g s, %d gets %.3g s of its time", 0.0075+0.00009*float64(objects)+0.00045*float64(hits), hits, 0.0035*float64(hits))
}

// explained gives the first of the rows a note.
func explained(rows []*row, why string) []*row {
	rows[0].why = why
	return rows
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
