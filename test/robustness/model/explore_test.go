// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"slices"
	"strings"
)

// found is what an exploration ends with.
type found struct {
	states, quiet int
	// wrong is the promise that was broken, and trace the shortest way there.
	wrong string
	trace []string
}

func (f found) String() string {
	if f.wrong == "" {
		return fmt.Sprintf("%d states, %d of them quiet: all promises are kept", f.states, f.quiet)
	}
	return f.wrong + ":\n" + strings.Join(f.trace, "\n")
}

// space is what is explored: where it starts, what can come after a state, which
// promise a state breaks, and in which nobody has anything to do any more.
type space[S comparable] struct {
	start S
	next  func(S) []step[S]
	wrong func(*S) string
	quiet func(*S) bool
	// who are those who take steps.
	who []string
}

// visit is a state that was reached, and how.
type visit[S comparable] struct {
	state S
	from  int32
	who   uint8
	what  string
}

// explore visits every state that can be reached within the bounds, the nearest
// first, until a promise is broken.
func explore(b bounds) found {
	m := &model{bounds: b}
	return space[state]{
		start: b.start(), next: m.next, wrong: m.wrong,
		quiet: func(s *state) bool { return s.quiet(&b) },
		who:   []string{"server A", "server B", "metal-api", "environment", "clock"},
	}.explore()
}

func (s space[S]) explore() found {
	visits := []visit[S]{{state: s.start, from: -1}}
	known := map[S]int32{visits[0].state: 0}
	// The ways on from a state: ahead[offsets[i]:offsets[i+1]].
	var ahead []int32
	offsets := []int32{0}
	quiet := []int32{}
	for i := 0; i < len(visits); i++ {
		for _, next := range s.next(visits[i].state) {
			at, seen := known[next.to]
			if !seen {
				at = int32(len(visits))
				known[next.to] = at
				visits = append(visits, visit[S]{next.to, int32(i), next.who, next.what})
			}
			if next.wrong == "" && !seen {
				next.wrong = s.wrong(&next.to)
			}
			if next.wrong != "" {
				way := append(s.trace(visits, int32(i)), s.line(next.who, next.what))
				return found{states: len(visits), wrong: next.wrong, trace: way}
			}
			ahead = append(ahead, at)
		}
		offsets = append(offsets, int32(len(ahead)))
		if s.quiet(&visits[i].state) {
			quiet = append(quiet, int32(i))
		}
	}
	if stuck := unreaching(offsets, ahead, quiet); stuck >= 0 {
		return found{
			states: len(visits), quiet: len(quiet), wrong: "it never becomes quiet from here",
			trace: append(s.trace(visits, stuck), fmt.Sprintf("%+v", visits[stuck].state)),
		}
	}
	return found{states: len(visits), quiet: len(quiet)}
}

// wrong says which promise a state breaks.
func (m *model) wrong(s *state) string {
	held, named := 0, false
	for i, f := range s.machines {
		if f.owner == us {
			held++
			named = named || (s.record.machine == uint8(i+1) && s.record.uuid == f.uuid)
		}
	}
	switch {
	case held > 1 && m.lateCalls == 0:
		return "two machines are allocated for one object"
	case held > 0 && s.record.phase == forgotten:
		return "a machine is left over that belongs to no record"
	case !s.quiet(&m.bounds):
		return ""
	case held > 1:
		return "two machines are allocated for one object, and nobody does anything about it"
	case held > 0 && !named:
		return "a machine is allocated that no record names, and nobody does anything about it"
	case held == 0 && s.record.phase == allocated && m.foreignFrees == 0:
		return "the record names a machine that was freed by nobody else"
	}
	return ""
}

// unreaching returns the first state from which no quiet one can be reached, or -1.
func unreaching(offsets, ahead, quiet []int32) int32 {
	n := len(offsets) - 1
	// The ways back, in the same form.
	back := make([]int32, len(ahead))
	ends := make([]int32, n+1)
	for _, to := range ahead {
		ends[to+1]++
	}
	for i := range n {
		ends[i+1] += ends[i]
	}
	fill := slices.Clone(ends)
	for i := range n {
		for _, to := range ahead[offsets[i]:offsets[i+1]] {
			back[fill[to]] = int32(i)
			fill[to]++
		}
	}
	reaches := make([]bool, n)
	queue := slices.Clone(quiet)
	for _, q := range queue {
		reaches[q] = true
	}
	for len(queue) > 0 {
		at := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, from := range back[ends[at]:ends[at+1]] {
			if !reaches[from] {
				reaches[from] = true
				queue = append(queue, from)
			}
		}
	}
	return int32(slices.Index(reaches, false))
}

func (s space[S]) trace(visits []visit[S], at int32) []string {
	var way []string
	for ; visits[at].from >= 0; at = visits[at].from {
		way = append(way, s.line(visits[at].who, visits[at].what))
	}
	slices.Reverse(way)
	return way
}

func (s space[S]) line(who uint8, what string) string {
	return fmt.Sprintf("  %-10s %s", s.who[who], what)
}
