// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestQuantile_IsAValueThatWasMeasured(t *testing.T) {
	t.Parallel()
	values := []float64{4, 1, 3, 2}
	assert.InDelta(t, 2.5, median(values), 0)
	assert.InDelta(t, 2, quantile(values, 0.5), 0)
	assert.InDelta(t, 4, quantile(values, 0.99), 0)
	assert.Equal(t, []float64{4, 1, 3, 2}, values)
}

func TestRow_ComparesMedianWithGoal(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		row            row
		ratio, verdict string
	}{
		"ratio at the goal":    {row{goal: 1.5, ours: []float64{3, 30, 9}, theirs: []float64{2, 10, 9}}, "1.50", "met"},
		"ratio above the goal": {row{goal: 1.4, ours: []float64{3}, theirs: []float64{2}}, "1.50", "missed"},
		"no goal":              {row{ours: []float64{3}, theirs: []float64{2}}, "1.50", ""},
		"nothing to compare":   {row{goal: 1, ours: []float64{3}}, "–", ""},
		"below the limit":      {row{limit: 5, ours: []float64{4}}, "–", "met"},
		"above the limit":      {row{limit: 5, ours: []float64{6}}, "–", "missed"},
		"not measured":         {row{limit: 5}, "–", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, c.ratio, c.row.showRatio())
			assert.Equal(t, c.verdict, c.row.verdict())
		})
	}
}

func TestUnit_ShowsThreeDigits(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "1.23 s", seconds.format(1.234))
	assert.Equal(t, "12.3 ms", seconds.format(0.01234))
	assert.Equal(t, "123 µs", seconds.format(0.0001234))
	assert.Equal(t, "451 kB", bytesUnit.format(451_000))
	assert.Equal(t, "1.10 MB", bytesUnit.format(1_100_000))
	assert.Equal(t, "28.0 %", fraction.format(0.28))
	assert.Equal(t, "7.60 s/min", secondsAMinute.format(7.6))
}

func TestReport_NamesMissedGoals(t *testing.T) {
	t.Parallel()
	r := &report{began: time.Now(), loads: []float64{1}, rows: []*row{
		{subject: "list", part: "time", goal: 1, ours: []float64{2, 4}, theirs: []float64{1, 1}},
		{subject: "list", part: "CPU", goal: 1, ours: []float64{1}, theirs: []float64{1}},
	}}
	text := r.text()
	assert.Contains(t, text, "1 of 2 goals are missed.\n  list: time: 3.00, goal ≤ 1\n")
	file := filepath.Join(t.TempDir(), "table.md")
	require.NoError(t, r.writeMarkdown(file))
	table, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Contains(t, string(table), "| list: time | 1.00 s (1.00 s–1.00 s) | 3.00 s (2.00 s–4.00 s) | 3.00 | ≤ 1 | missed |  |\n| … CPU | 1.00 s | 1.00 s | 1.00 | ≤ 1 | met |  |\n")
}

func TestProcess_TellsCPUAndMemory(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	size, err := residentMemory(os.Getpid())
	require.NoError(t, err)
	assert.Greater(t, size, 1e6)
	_, err = cpuTime(os.Getpid())
	require.NoError(t, err)
}

func TestLayout_VisitsEveryObjectOnce(t *testing.T) {
	t.Parallel()
	for _, n := range []int{minObjects, 40, 1000, 10_000, 50_000} {
		l, seen := newLayout(n), map[member]bool{}
		for i := range l.members {
			seen[l.at(i)] = true
		}
		assert.Len(t, seen, n)
		assert.Greater(t, len(l.teams), 1)
	}
}

func TestGrowth_ComparesLastStepWithFleet(t *testing.T) {
	t.Parallel()
	g := &growth{sizes: []int{1000, 10_000, 40_000}, loads: []float64{1}}
	for title, values := range map[string][]float64{
		"with the fleet":        {1, 2, 7},
		"faster than the fleet": {1, 2, 16},
		"not with the fleet":    {1, 20, 21},
		"":                      {0, 0, 0},
	} {
		r := &growthRow{title: title, values: values}
		assert.Equal(t, title, g.verdict(r))
		g.rows = append(g.rows, r)
	}
	text := g.text()
	assert.Contains(t, text, "FACTOR (FLEET: 4)")
	assert.Contains(t, text, "Faster than the fleet: 1 of 4. faster than the fleet\n")
}
