// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"context"
	"math"
	"regexp"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// measureLimit is how long one measure of one side may take.
const measureLimit = 15 * time.Minute

// measure is something that is measured on both sides in turn.
type measure struct {
	// name is what -compare.only selects.
	name string
	rows []*row
	// quick is whether the metal-api answers at once, instead of as late as a real one.
	quick bool
	// prepare is called before each repetition, for both sides; it may be nil.
	prepare func(ctx context.Context, e *environment)
	// run measures one side, and returns a value for each row. An error is an
	// answer that is wrong.
	run func(ctx context.Context, e *environment, s *side) ([]float64, error)
}

// TestCompare_AllAnswersAreComplete fails if an answer lacks objects or a watcher
// misses events. What it measures it reports, and never judges.
func TestCompare_AllAnswersAreComplete(t *testing.T) {
	if *objects == 0 {
		t.Skip("measures only if -compare.objects says how many objects there are: make bench-compare")
	}
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	require.GreaterOrEqual(t, *objects, minObjects)
	c := &comparison{report: report{began: time.Now()}, selected: regexp.MustCompile(*only)}
	c.together(t)
	c.apart(t)
	require.NotEmpty(t, c.report.rows, "-compare.only=%s selects nothing", *only)
	if len(c.loads) == 0 { // failed before the first measure
		return
	}
	t.Log(c.report.text())
	if *markdown != "" {
		require.NoError(t, c.report.writeMarkdown(*markdown))
	}
}

// comparison is one run of the selected measures.
type comparison struct {
	report
	selected *regexp.Regexp
}

// choose returns the measures that are selected, and adds their rows to the report.
func (c *comparison) choose(all []measure) (chosen []measure) {
	for _, m := range all {
		if c.selected.MatchString(m.name) {
			chosen = append(chosen, m)
			c.rows = append(c.rows, m.rows...)
		}
	}
	return chosen
}

// together measures both kinds in one cluster.
func (c *comparison) together(t *testing.T) {
	chosen := c.choose(measures())
	if len(chosen) == 0 {
		return
	}
	t.Run("Together", func(t *testing.T) {
		e := newEnvironment(t)
		e.install()
		e.fill(e.content())
		for _, m := range chosen {
			for i := range *repetitions {
				e.revive()
				e.setQuick(m.quick)
				if m.prepare != nil {
					m.prepare(t.Context(), e)
				}
				sides := []*side{e.theirs, e.ours}
				if i%2 == 1 {
					sides = []*side{e.ours, e.theirs}
				}
				for _, s := range sides {
					e.revive()
					c.take(t, m, e, s)
				}
			}
			t.Logf("%s: done after %s\n%s", m.name, time.Since(c.began).Round(time.Second), (&report{rows: m.rows}).table())
		}
	})
}

// take measures one side once.
func (c *comparison) take(t *testing.T, m measure, e *environment, s *side) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), measureLimit+*slice)
	defer cancel()
	s.client.answers.Store(0)
	s.client.stale.Store(0)
	values, err := m.run(ctx, e, s)
	c.loads = append(c.loads, loadAverage())
	if err != nil {
		t.Errorf("%s of %s: %v", m.name, s.name, err)
		return
	}
	require.Len(t, values, len(m.rows), m.name)
	for i, r := range m.rows {
		if math.IsNaN(values[i]) { // the kind has none
			continue
		}
		if s == e.theirs {
			r.theirs = append(r.theirs, values[i])
			continue
		}
		r.ours = append(r.ours, values[i])
		if n := s.client.answers.Load(); n > 0 {
			r.stale = append(r.stale, float64(s.client.stale.Load())/float64(n))
		}
	}
}
