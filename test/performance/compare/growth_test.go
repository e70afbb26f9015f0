// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"context"
	"fmt"
	"math"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	// growthRate is how many writes a second there are for the watchers: few enough
	// for fleets of every size.
	growthRate = 20
	// fasterExponent is the exponent from which on something grows faster than the
	// fleet, and constantExponent the one up to which it does not depend on it. Both
	// are of the last step, in which fixed costs matter least.
	fasterExponent, constantExponent = 1.1, 0.2
	// sweepTime is the interval of sweeps for each machine: what the metal-api's list
	// takes, of which the budget allows a twentieth of the time. A shorter rest would
	// have a sweep or none.
	sweepTime = 500 * time.Microsecond * 20
)

// growthRow is one measure, with a value of each size of the fleet.
type growthRow struct {
	title  string
	unit   unit
	values []float64
}

// growth is what was measured with fleets of several sizes.
type growth struct {
	sizes []int
	rows  []*growthRow
	loads []float64
}

func (g *growth) add(title string, u unit, value float64) {
	g.loads = append(g.loads, loadAverage())
	for _, r := range g.rows {
		if r.title == title {
			r.values = append(r.values, value)
			return
		}
	}
	g.rows = append(g.rows, &growthRow{title: title, unit: u, values: []float64{value}})
}

// exponent is the power of the fleet's size with which a value has grown from one size to
// another.
func (g *growth) exponent(r *growthRow, from, to int) float64 {
	return math.Log(r.values[to]/r.values[from]) / math.Log(float64(g.sizes[to])/float64(g.sizes[from]))
}

func (g *growth) verdict(r *growthRow) string {
	last := len(g.sizes) - 1
	switch exponent := g.exponent(r, last-1, last); {
	case math.IsNaN(exponent) || math.IsInf(exponent, 0):
		return ""
	case exponent > fasterExponent:
		return "faster than the fleet"
	case exponent <= constantExponent:
		return "not with the fleet"
	}
	return "with the fleet"
}

func (g *growth) header() []string {
	cells := []string{"measure"}
	for _, n := range g.sizes {
		cells = append(cells, fmt.Sprintf("%d objects", n))
	}
	for i := range g.sizes[1:] {
		cells = append(cells, "factor (fleet: "+significantFactor(float64(g.sizes[i+1])/float64(g.sizes[i]))+")")
	}
	return append(cells, "exponent, last step", "grows")
}

func significantFactor(factor float64) string { return fmt.Sprintf("%.3g", factor) }

func (g *growth) cells() (all [][]string) {
	for _, r := range g.rows {
		cells := []string{r.title}
		for _, value := range r.values {
			cells = append(cells, r.unit.format(value))
		}
		for i := range g.sizes[1:] {
			cells = append(cells, significantFactor(r.values[i+1]/r.values[i]))
		}
		last := len(g.sizes) - 1
		all = append(all, append(cells, fmt.Sprintf("%.2f", g.exponent(r, last-1, last)), g.verdict(r)))
	}
	return all
}

func (g *growth) conditions() string {
	return fmt.Sprintf("Our kinds alone, %d repetitions (medians), %d watchers, at rest for %s, or for an interval of sweeps if that is longer; %d cores, load average %s (median of the measures)",
		*repetitions, *watchers, *resting, runtime.NumCPU(), significant(median(g.loads)))
}

func (g *growth) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n\n", g.conditions())
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.ToUpper(strings.Join(g.header(), "\t")))
	for _, cells := range g.cells() {
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	_ = w.Flush()
	var faster []string
	for _, r := range g.rows {
		if g.verdict(r) == "faster than the fleet" {
			faster = append(faster, r.title)
		}
	}
	fmt.Fprintf(&b, "\nFaster than the fleet: %d of %d. %s\n", len(faster), len(g.rows), strings.Join(faster, "; "))
	return b.String()
}

func (g *growth) writeMarkdown(file string) error {
	header := g.header()
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\n| %s |\n|%s\n", g.conditions(), strings.Join(header, " | "), strings.Repeat(" --- |", len(header)))
	for _, cells := range g.cells() {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
	}
	return os.WriteFile(file, []byte(b.String()), 0o600)
}

// TestGrowth_AllAnswersAreComplete measures our kinds alone with fleets of several
// sizes, one after the other. It fails as TestCompare does.
func TestGrowth_AllAnswersAreComplete(t *testing.T) {
	if *sizes == "" {
		t.Skip("measures only if -compare.sizes says how many objects there are: make bench-growth")
	}
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	g := &growth{}
	for size := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(size)
		require.NoError(t, err)
		require.GreaterOrEqual(t, n, minObjects)
		g.sizes = append(g.sizes, n)
	}
	require.Greater(t, len(g.sizes), 1, "growth needs two sizes at least")
	for _, n := range g.sizes {
		*objects = n
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			e := newEnvironment(t)
			e.install()
			e.measureGrowth(g)
			if t.Failed() {
				t.FailNow()
			}
		})
		if t.Failed() {
			return
		}
	}
	require.NotEmpty(t, g.rows, "-compare.only=%s selects nothing", *only)
	t.Log(g.text())
	if *markdown != "" {
		require.NoError(t, g.writeMarkdown(*markdown))
	}
}

// measureGrowth takes the selected measures of one size.
func (e *environment) measureGrowth(g *growth) {
	t := e.t
	t.Helper()
	chosen := regexp.MustCompile(*only).MatchString
	if chosen("rest") {
		time.Sleep(settling)
		kubeAPIServer, _, server := e.measureRest(max(*resting, sweepTime*time.Duration(*objects)))
		g.add("CPU at rest", secondsAMinute, server)
		g.add("CPU of the kube-apiserver beside it", secondsAMinute, kubeAPIServer)
	}
	fan := fanOut(growthRate)
	for _, m := range []measure{
		{name: "list-plain", rows: listRows("list of all, rv=0, plain", 0, 0, 0)[:2], run: list(request{version: "0"})},
		{name: "list-gzip", rows: listRows("list of all, rv=0, gzip", 0, 0, 0), run: list(request{version: "0", gzip: true})},
		{name: "watch-list", rows: listRows("watch list", 0, 0, 0)[:2], run: watchList},
		{name: "get", rows: []*row{{subject: "get, rv=0", part: "p50"}}, run: func(ctx context.Context, e *environment, s *side) ([]float64, error) {
			l, err := gets(ctx, e, s, "0")
			return []float64{quantile(l.single, 0.5)}, err
		}},
		{name: "write", rows: []*row{{subject: "label patch", part: "p50"}, {subject: "label patch", part: "CPU"}},
			run: func(ctx context.Context, e *environment, s *side) ([]float64, error) {
				w, err := writes(ctx, e, s)
				if err != nil {
					return nil, err
				}
				return w[:2], nil
			}},
		{name: "fan-out", rows: []*row{fan.rows[0], fan.rows[3]}, run: func(ctx context.Context, e *environment, s *side) ([]float64, error) {
			values, err := fan.run(ctx, e, s)
			if err != nil {
				return nil, err
			}
			return []float64{values[0], values[3]}, nil
		}},
	} {
		if chosen(m.name) {
			e.repeat(g, m.run, m.rows)
		}
	}
	if chosen("memory") {
		memory := e.measureMemory(t.Context(), e.ours)
		g.add("memory of our server", bytesUnit, memory[3])
		g.add("live heap of our server", bytesUnit, memory[5])
		g.add("memory of kube-apiserver and etcd", bytesUnit, memory[1]+memory[2])
	}
	if chosen("start") {
		e.repeat(g, func(context.Context, *environment, *side) ([]float64, error) { return e.measureStart(), nil },
			[]*row{{subject: "start to ready", part: "time"}, {subject: "start to ready", part: "CPU"}})
	}
}

// repeat takes one measure several times, and adds the medians.
func (e *environment) repeat(g *growth, run func(context.Context, *environment, *side) ([]float64, error), rows []*row) {
	e.t.Helper()
	for range *repetitions {
		e.revive()
		ctx, cancel := context.WithTimeout(e.t.Context(), measureLimit)
		values, err := run(ctx, e, e.ours)
		cancel()
		require.NoError(e.t, err, rows[0].title())
		require.Len(e.t, values, len(rows), rows[0].title())
		for i, r := range rows {
			r.ours = append(r.ours, values[i])
		}
	}
	for _, r := range rows {
		g.add(r.title(), r.unit, median(r.ours))
		e.t.Logf("%s: %s", r.title(), r.unit.format(median(r.ours)))
	}
}
