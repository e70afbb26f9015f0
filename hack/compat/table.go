// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
)

const (
	passed  = "✓"
	skipped = "–"
	// failedMark begins the cell of an area in which tests have failed, and which names them.
	failedMark = "✗ "
	// notRun is what a table says of what was not run.
	notRun = "not run"
	// arm64Line begins the line of a table that is not about Kubernetes.
	arm64Line = "- linux/arm64, under qemu-user: "
	// begin and end enclose the table in a page.
	begin = "<!-- compat: what `make compat` printed -->"
	end   = "<!-- compat: end -->"
)

// table says which areas work with which versions.
type table struct {
	areas []area
	rows  []row
	// stack names what else took part.
	stack string
	// arm64 is what became of the programs for linux/arm64.
	arm64 string
}

type row struct {
	version version
	cells   []string
	// notes are lines below the table: why tests were skipped.
	notes []string
	// failures name tests and logs.
	failures []string
}

// add appends what became of one version's tests.
func (t *table) add(v version, outcomes map[string]*outcome) {
	r := row{version: v}
	for _, a := range t.areas {
		verdict := judge(a, outcomes)
		r.cells = append(r.cells, verdict.cell)
		for _, note := range verdict.notes {
			r.notes = append(r.notes, fmt.Sprintf("- %s, %s: %s.", v.minor, a.name, note))
		}
		r.failures = append(r.failures, verdict.failures...)
	}
	t.rows = append(t.rows, r)
}

// verdict is what became of the tests of one area.
type verdict struct {
	cell            string
	notes, failures []string
}

// judge looks at the tests of an area. One that did not run has failed, and so has a package
// whose process failed although its tests passed.
func judge(a area, outcomes map[string]*outcome) verdict {
	var v verdict
	var failed []string
	ran, skips := 0, 0
	for _, p := range a.packages() {
		o := outcomes[p]
		if o == nil {
			o = &outcome{}
		}
		for _, name := range a.tests[p] {
			result, found := o.results[name]
			switch {
			case !found || result == fail:
				for _, b := range brokenBelow(o, name) {
					failed = append(failed, b)
					v.failures = append(v.failures, fmt.Sprintf("%s: %s.%s: see %s", a.name, p, b, o.log))
				}
				continue
			case result == skip:
				skips++
			}
			ran++
			for _, test := range slices.Sorted(maps.Keys(o.reasons)) {
				if test == name || strings.HasPrefix(test, name+"/") {
					v.notes = append(v.notes, o.reasons[test])
				}
			}
		}
		if o.err != nil && !slices.Contains(slices.Collect(maps.Values(o.results)), fail) {
			failed = append(failed, p)
			v.failures = append(v.failures, fmt.Sprintf("%s: %s: %v: see %s", a.name, p, o.err, o.log))
		}
	}
	switch {
	case len(failed) > 0:
		v.cell = failedMark + strings.Join(failed, ", ")
	case skips == ran:
		v.cell = skipped
	case len(v.notes) > 0:
		v.cell = passed + "*"
	default:
		v.cell = passed
	}
	return v
}

// brokenBelow are the innermost tests that have failed, of a test that has failed or did not
// run to its end.
func brokenBelow(o *outcome, name string) []string {
	var broken []string
	for _, test := range slices.Sorted(maps.Keys(o.results)) {
		if o.results[test] != fail || !strings.HasPrefix(test, name+"/") {
			continue
		}
		// Sorted, a test stands before its subtests.
		broken = slices.DeleteFunc(broken, func(b string) bool { return strings.HasPrefix(test, b+"/") })
		broken = append(broken, test)
	}
	if len(broken) == 0 {
		broken = []string{name}
	}
	return broken
}

// failed lists all failures, a line each.
func (t *table) failed() []string {
	var all []string
	for _, r := range t.rows {
		for _, f := range r.failures {
			all = append(all, r.version.full+": "+f)
		}
	}
	if strings.HasPrefix(t.arm64, failedPrefix) {
		all = append(all, "linux/arm64: "+t.arm64)
	}
	return all
}

// row is a version's row, as text for a terminal.
func (t *table) row(v version) string {
	var cells []string
	for i, cell := range t.rowOf(v).cells {
		cells = append(cells, t.areas[i].name+" "+cell)
	}
	return v.full + "  " + strings.Join(cells, "  ")
}

// header is the table's first line.
func (t *table) header() string {
	line := "| Kubernetes |"
	for _, a := range t.areas {
		line += " " + a.name + " |"
	}
	return line
}

// markdown is the whole table.
func (t *table) markdown() string {
	var b strings.Builder
	b.WriteString(t.header() + "\n|" + strings.Repeat(" --- |", len(t.areas)+1) + "\n")
	for _, r := range t.rows {
		fmt.Fprintf(&b, "| %s | %s |\n", r.version.full, strings.Join(r.cells, " | "))
	}
	b.WriteString("\n")
	for _, r := range t.rows {
		for _, note := range r.notes {
			b.WriteString(note + "\n")
		}
	}
	fmt.Fprintf(&b, "- %s\n%s%s\n", t.stack, arm64Line, t.arm64)
	return b.String()
}

// complete adds what was not run now, versions and areas: as an earlier table has it, if that
// has the same columns and is of the same programs, or else as not run.
func (t *table) complete(all []version, areas []area, earlier string) {
	run := *t
	t.areas, t.rows = areas, nil
	lines := strings.Split(earlier, "\n")
	if !slices.Contains(lines, t.header()) || !slices.Contains(lines, "- "+t.stack) {
		lines = nil
	}
	for _, v := range all {
		r := row{version: v, cells: slices.Repeat([]string{notRun}, len(areas))}
		for _, line := range lines {
			if cells, found := strings.CutPrefix(line, "| "+v.full+" | "); found {
				r.cells = strings.Split(strings.TrimSuffix(cells, " |"), " | ")
			}
		}
		for i, a := range areas {
			now := run.rowOf(v)
			j := slices.IndexFunc(run.areas, func(other area) bool { return other.name == a.name })
			about := fmt.Sprintf("- %s, %s: ", v.minor, a.name)
			notes := lines
			if now != nil && j >= 0 {
				r.cells[i], notes = now.cells[j], now.notes
			}
			for _, note := range notes {
				if strings.HasPrefix(note, about) {
					r.notes = append(r.notes, note)
				}
			}
		}
		t.rows = append(t.rows, r)
	}
	for _, line := range lines {
		if was, found := strings.CutPrefix(line, arm64Line); found && t.arm64 != passed {
			t.arm64 = was
		}
	}
}

func (t *table) rowOf(v version) *row {
	if i := slices.IndexFunc(t.rows, func(r row) bool { return r.version == v }); i >= 0 {
		return &t.rows[i]
	}
	return nil
}

var block = regexp.MustCompile("(?s)" + regexp.QuoteMeta(begin) + "\n(.*?)" + regexp.QuoteMeta(end))

// updatePage replaces what stands between the marks of a page by the table, whose cells that
// were not run stay as they are there.
func (t *table) updatePage(page string, all []version, areas []area) error {
	content, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	found := block.FindSubmatch(content)
	if found == nil {
		return fmt.Errorf("%s: no table between %q and %q", page, begin, end)
	}
	t.complete(all, areas, string(found[1]))
	return os.WriteFile(page, block.ReplaceAllLiteral(content, []byte(begin+"\n"+t.markdown()+end)), 0o644) //nolint:gosec // a page of the repository
}
