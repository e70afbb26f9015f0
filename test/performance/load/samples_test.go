// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// sample is what the server's process says of itself.
type sample struct {
	after                                                      time.Duration
	resident, heap, goroutines, objects, watches, events, done float64
}

// samples are taken over the whole time.
type samples struct {
	all  []sample
	errs []error
}

// take takes n samples spread over d, until ctx ends.
func (s *samples) take(ctx context.Context, server *server, d time.Duration, n int) {
	began := time.Now()
	tick := time.NewTicker(d / time.Duration(n))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		f, err := server.figures(ctx)
		if err != nil {
			if ctx.Err() == nil {
				s.errs = append(s.errs, err)
			}
			continue
		}
		s.all = append(s.all, sample{
			after: time.Since(began), resident: f["process_resident_memory_bytes"], heap: f["go_memstats_heap_inuse_bytes"],
			goroutines: f["go_goroutines"], objects: f["metalstack_storage_objects"], watches: f["metalstack_storage_watches"],
			events: f["metalstack_storage_history_events"], done: f["metalstack_storage_commits_total"],
		})
	}
}

// quarter returns the medians of one of the quarters that are left when a tenth
// of the time has passed, in which the history fills and caches do.
func (s *samples) quarter(i int) (m sample) {
	steady := s.all[len(s.all)/10:]
	part := steady[len(steady)*i/4 : len(steady)*(i+1)/4]
	median := func(of func(sample) float64) float64 {
		var values []float64
		for _, x := range part {
			values = append(values, of(x))
		}
		slices.Sort(values)
		if len(values) == 0 {
			return 0
		}
		return values[len(values)/2]
	}
	m.resident = median(func(x sample) float64 { return x.resident })
	m.heap = median(func(x sample) float64 { return x.heap })
	m.goroutines = median(func(x sample) float64 { return x.goroutines })
	return m
}

// table shows every sample, and the quarters.
func (s *samples) table() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "AFTER\tRESIDENT MB\tHEAP MB\tGOROUTINES\tOBJECTS\tWATCHES\tHISTORY\tCOMMITS\t")
	for _, x := range s.all {
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t\n", x.after.Round(time.Second),
			x.resident/1e6, x.heap/1e6, x.goroutines, x.objects, x.watches, x.events, x.done)
	}
	for i := range 4 {
		m := s.quarter(i)
		fmt.Fprintf(w, "quarter %d\t%.0f\t%.0f\t%.0f\t\t\t\t\t\n", i+1, m.resident/1e6, m.heap/1e6, m.goroutines)
	}
	_ = w.Flush()
	return b.String()
}
