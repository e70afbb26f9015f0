// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// unit is how the values of a row are shown.
type unit int

const (
	seconds unit = iota
	bytesUnit
	fraction
	secondsAMinute
	number
)

// row is one line of the report.
type row struct {
	// subject is what is measured, and part which of its figures it is.
	subject, part string
	unit          unit
	// goal is the highest ratio of ours to theirs; 0 for none.
	goal float64
	// limit is the highest value of ours, where theirs says nothing; 0 for none.
	limit float64
	// why explains the figures, in particular why a goal is out of reach.
	why string
	// ours and theirs are the values of all repetitions.
	ours, theirs []float64
	// stale is, of each repetition, the part of our answers that had a warning.
	stale []float64
}

func (r *row) title() string {
	if r.part == "" {
		return r.subject
	}
	return r.subject + ": " + r.part
}

// median of an odd or even number of values; NaN of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// quantile is the value that a part q of all does not exceed.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		return math.NaN()
	}
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

func (u unit) format(value float64) string {
	switch u {
	case bytesUnit:
		switch {
		case value >= 1e6:
			return significant(value/1e6) + " MB"
		default:
			return significant(value/1e3) + " kB"
		}
	case fraction:
		return fmt.Sprintf("%.1f %%", 100*value)
	case number:
		return fmt.Sprintf("%g", value)
	case secondsAMinute:
		return significant(value) + " s/min"
	}
	switch {
	case value >= 1:
		return significant(value) + " s"
	case value >= 1e-3:
		return significant(value*1e3) + " ms"
	default:
		return significant(value*1e6) + " µs"
	}
}

// significant shows three digits.
func significant(value float64) string {
	switch {
	case value >= 100:
		return fmt.Sprintf("%.0f", value)
	case value >= 10:
		return fmt.Sprintf("%.1f", value)
	default:
		return fmt.Sprintf("%.2f", value)
	}
}

// show is the median, with the least and the greatest value.
func (r *row) show(values []float64) string {
	switch len(values) {
	case 0:
		return "–"
	case 1:
		return r.unit.format(values[0])
	}
	return fmt.Sprintf("%s (%s–%s)", r.unit.format(median(values)), r.unit.format(slices.Min(values)), r.unit.format(slices.Max(values)))
}

// ratio is the median of the repetitions' ratios, ours to theirs: the two values of
// a repetition were measured one after the other, under much the same load.
func (r *row) ratio() float64 {
	if len(r.ours) != len(r.theirs) {
		return median(r.ours) / median(r.theirs)
	}
	var ratios []float64
	for i, theirs := range r.theirs {
		ratios = append(ratios, r.ours[i]/theirs)
	}
	return median(ratios)
}

func (r *row) showRatio() string {
	ratio := r.ratio()
	if math.IsNaN(ratio) || math.IsInf(ratio, 0) {
		return "–"
	}
	return significant(ratio)
}

func (r *row) showGoal() string {
	switch {
	case r.goal > 0:
		return fmt.Sprintf("≤ %g", r.goal)
	case r.limit > 0:
		return "≤ " + r.unit.format(r.limit)
	}
	return "–"
}

// verdict is whether the goal is met; "" if there is none, or nothing to compare.
func (r *row) verdict() string {
	value, most := math.NaN(), 0.0
	switch {
	case r.goal > 0:
		value, most = r.ratio(), r.goal
	case r.limit > 0:
		value, most = median(r.ours), r.limit
	}
	switch {
	case math.IsNaN(value):
		return ""
	case value > most:
		return "missed"
	}
	return "met"
}

func (r *row) note() string {
	stale := 0.0
	for _, part := range r.stale {
		stale += part / float64(len(r.stale))
	}
	var notes []string
	if stale > 0 {
		notes = append(notes, fmt.Sprintf("%.0f %% stale", math.Ceil(100*stale)))
	}
	if r.why != "" {
		notes = append(notes, r.why)
	}
	return strings.Join(notes, "; ")
}

// report is everything that was measured.
type report struct {
	began time.Time
	loads []float64
	rows  []*row
}

// conditions says under which conditions it was measured.
func (r *report) conditions() string {
	return fmt.Sprintf("%d objects, %d repetitions (median, least and greatest value), %d watchers; %d cores, load average %s (median of the measures; least %s, greatest %s), %s",
		*objects, *repetitions, *watchers, runtime.NumCPU(), significant(median(r.loads)), significant(slices.Min(r.loads)), significant(slices.Max(r.loads)),
		time.Since(r.began).Round(time.Second))
}

var header = []string{"measure", "custom resources", "ours", "ratio", "goal", "", "note"}

func (r *report) cells() [][]string {
	var all [][]string
	for i, row := range r.rows {
		title := row.title()
		if i > 0 && r.rows[i-1].subject == row.subject {
			title = "… " + row.part
		}
		all = append(all, []string{title, row.show(row.theirs), row.show(row.ours), row.showRatio(), row.showGoal(), row.verdict(), row.note()})
	}
	return all
}

// table is the table for a terminal.
func (r *report) table() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.ToUpper(strings.Join(header, "\t")))
	for _, cells := range r.cells() {
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	_ = w.Flush()
	return b.String()
}

// text is the report for a terminal, with the goals that are missed at its end.
func (r *report) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n\n%s", r.conditions(), r.table())
	var missed []string
	goals := 0
	for _, row := range r.rows {
		switch row.verdict() {
		case "missed":
			missed = append(missed, fmt.Sprintf("%s: %s, goal %s", row.title(), row.measured(), row.showGoal()))
			goals++
		case "met":
			goals++
		}
	}
	fmt.Fprintf(&b, "\n%d of %d goals are missed.\n", len(missed), goals)
	for _, line := range missed {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	return b.String()
}

// measured is what the goal is about.
func (r *row) measured() string {
	if r.goal > 0 {
		return r.showRatio()
	}
	return r.unit.format(median(r.ours))
}

// writeMarkdown writes the table to a file.
func (r *report) writeMarkdown(file string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\n| %s |\n|%s\n", r.conditions(), strings.Join(header, " | "), strings.Repeat(" --- |", len(header)))
	for _, cells := range r.cells() {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
	}
	return os.WriteFile(file, []byte(b.String()), 0o600)
}
