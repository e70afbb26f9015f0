// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// CallStat sums up the calls of one endpoint since the start or ResetCalls.
type CallStat struct {
	Endpoint string `json:"endpoint"`
	Calls    int    `json:"calls"`
	// Errors counts answers of 400 and above and calls without an answer.
	Errors int `json:"errors"`
	// Busy is what the calls cost the metal-api after the cost table,
	// whether or not Costs is on; in nanoseconds.
	Busy time.Duration `json:"busy"`
}

type stats struct {
	mu    sync.Mutex
	calls map[string]*CallStat
}

func newStats() *stats { return &stats{calls: map[string]*CallStat{}} }

func (st *stats) count(name string, busy time.Duration, failed bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	c := st.calls[name]
	if c == nil {
		c = &CallStat{Endpoint: name}
		st.calls[name] = c
	}
	c.Calls++
	c.Busy += busy
	if failed {
		c.Errors++
	}
}

// Calls returns the statistics of every endpoint called, by name.
func (s *Simulator) Calls() []CallStat {
	s.stats.mu.Lock()
	defer s.stats.mu.Unlock()
	all := make([]CallStat, 0, len(s.stats.calls))
	for _, c := range s.stats.calls {
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b CallStat) int { return strings.Compare(a.Endpoint, b.Endpoint) })
	return all
}

// CallsOf returns the number of calls of one endpoint.
func (s *Simulator) CallsOf(endpoint string) int {
	s.stats.mu.Lock()
	defer s.stats.mu.Unlock()
	if c := s.stats.calls[endpoint]; c != nil {
		return c.Calls
	}
	return 0
}

// BusyTime is how long the metal-api was busy with all calls together,
// after the cost table, whether or not Costs is on.
func (s *Simulator) BusyTime() time.Duration {
	var sum time.Duration
	for _, c := range s.Calls() {
		sum += c.Busy
	}
	return sum
}

// ResetCalls starts the statistics anew.
func (s *Simulator) ResetCalls() {
	s.stats.mu.Lock()
	defer s.stats.mu.Unlock()
	clear(s.stats.calls)
}

// Endpoints returns the names of all endpoints, sorted: what a Fault may name.
func (s *Simulator) Endpoints() []string {
	seen := map[string]bool{}
	var names []string
	for _, routes := range s.routes.routes {
		for _, r := range routes {
			if !seen[r.name] {
				seen[r.name] = true
				names = append(names, r.name)
			}
		}
	}
	slices.Sort(names)
	return names
}
