// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

const (
	// memoryInterval is how often a sample is taken, and shownSamples how many of them
	// the report shows at most.
	memoryInterval = 5 * time.Second
	shownSamples   = 60
)

// memorySamples are the resident memory of the programs over time.
type memorySamples struct {
	began time.Time

	mu     sync.Mutex
	loaded string // the kind that is under load
	first  int    // sample since then
	all    []memorySample
}

type memorySample struct {
	after                       time.Duration
	loaded                      string
	kubeAPIServer, etcd, server float64
}

// begin says which kind is under load from now on.
func (m *memorySamples) begin(loaded string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loaded, m.first = loaded, len(m.all)
}

// take takes samples until ctx ends.
func (m *memorySamples) take(ctx context.Context, e *environment) {
	tick := time.NewTicker(memoryInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		pids := e.plane.PIDs()
		m.mu.Lock()
		s := memorySample{after: time.Since(m.began), loaded: m.loaded}
		// A program that is started again has no memory for a moment.
		s.kubeAPIServer, _ = residentMemory(pids["kube-apiserver"])
		s.etcd, _ = residentMemory(pids["etcd"])
		s.server, _ = residentMemory(e.serverPID())
		m.all = append(m.all, s)
		m.mu.Unlock()
	}
}

// peak is the most memory of all programs together since the last begin.
func (m *memorySamples) peak() (peak float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.all[m.first:] {
		peak = max(peak, s.kubeAPIServer+s.etcd+s.server)
	}
	return peak
}

// table shows samples over the whole time.
func (m *memorySamples) table() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "AFTER\tUNDER LOAD\tKUBE-APISERVER MB\tETCD MB\tOUR SERVER MB\t")
	for i := 0; i < len(m.all); i += 1 + len(m.all)/shownSamples {
		s := m.all[i]
		fmt.Fprintf(w, "%s\t%s\t%.0f\t%.0f\t%.0f\t\n", s.after.Round(time.Second), s.loaded, s.kubeAPIServer/1e6, s.etcd/1e6, s.server/1e6)
	}
	_ = w.Flush()
	return b.String()
}
