// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
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
	// corner is the first cell of a table.
	corner = "Area"
	// arm64Line begins the line of a table that is not about Kubernetes.
	arm64Line = "- linux/arm64, under qemu-user: "
	// begin and end enclose the table in a page.
	begin = "<!-- compat: what `make compat` printed -->"
	end   = "<!-- compat: end -->"
)

// table says which areas work with which versions: a row for each area, a column for each version.
type table struct {
	areas   []area
	columns []column
	// stack names what else took part.
	stack string
	// arm64 is what became of the programs for linux/arm64.
	arm64 string
}

type column struct {
	version version
	// cells are in the order of the table's areas.
	cells []string
	// notes are lines below the table: why tests were skipped.
	notes []string
	// failures name tests and logs.
	failures []string
}

// add appends what became of one version's tests.
func (t *table) add(v version, outcomes map[string]*outcome) {
	c := column{version: v}
	for _, a := range t.areas {
		verdict := judge(a, outcomes)
		c.cells = append(c.cells, verdict.cell)
		for _, note := range verdict.notes {
			c.notes = append(c.notes, fmt.Sprintf("- %s, %s: %s.", v.minor, a.name, note))
		}
		c.failures = append(c.failures, verdict.failures...)
	}
	t.columns = append(t.columns, c)
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
	for _, c := range t.columns {
		for _, f := range c.failures {
			all = append(all, c.version.full+": "+f)
		}
	}
	if strings.HasPrefix(t.arm64, failedPrefix) {
		all = append(all, "linux/arm64: "+t.arm64)
	}
	return all
}

// line is a version's column, as a line for a terminal.
func (t *table) line(v version) string {
	var cells []string
	for i, cell := range t.columnOf(v).cells {
		cells = append(cells, t.areas[i].name+" "+cell)
	}
	return v.full + "  " + strings.Join(cells, "  ")
}

// markdown is the whole table.
func (t *table) markdown() string {
	var b strings.Builder
	write := func(first string, cell func(c column) string) {
		b.WriteString("| " + first + " |")
		for _, c := range t.columns {
			b.WriteString(" " + cell(c) + " |")
		}
		b.WriteString("\n")
	}
	write(corner, func(c column) string { return c.version.full })
	write("---", func(column) string { return "---" })
	for i, a := range t.areas {
		write(a.name, func(c column) string { return c.cells[i] })
	}
	b.WriteString("\n")
	for _, c := range t.columns {
		for _, note := range c.notes {
			b.WriteString(note + "\n")
		}
	}
	fmt.Fprintf(&b, "- %s\n%s%s\n", t.stack, arm64Line, t.arm64)
	return b.String()
}

// complete adds what was not run now, versions and areas: as an earlier table has it, if that
// is of the same programs, or else as not run.
func (t *table) complete(all []version, areas []area, earlier string) {
	run := *t
	t.areas, t.columns = areas, nil
	lines := strings.Split(earlier, "\n")
	if !slices.Contains(lines, "- "+t.stack) {
		lines = nil
	}
	cells := cellsOf(lines)
	for _, v := range all {
		c := column{version: v}
		for _, a := range areas {
			cell := cmp.Or(cells[v.full][a.name], notRun)
			notes := lines
			now := run.columnOf(v)
			i := slices.IndexFunc(run.areas, func(other area) bool { return other.name == a.name })
			if now != nil && i >= 0 {
				cell, notes = now.cells[i], now.notes
			}
			c.cells = append(c.cells, cell)
			about := fmt.Sprintf("- %s, %s: ", v.minor, a.name)
			for _, note := range notes {
				if strings.HasPrefix(note, about) {
					c.notes = append(c.notes, note)
				}
			}
		}
		t.columns = append(t.columns, c)
	}
	for _, line := range lines {
		if was, found := strings.CutPrefix(line, arm64Line); found && t.arm64 != passed {
			t.arm64 = was
		}
	}
}

// cellsOf returns the cells of a table by version and area.
func cellsOf(lines []string) map[string]map[string]string {
	cells := map[string]map[string]string{}
	var versions []string
	for _, line := range lines {
		row, found := strings.CutPrefix(line, "| ")
		if !found {
			continue
		}
		first, rest, _ := strings.Cut(strings.TrimSuffix(row, " |"), " | ")
		if first == corner {
			versions = strings.Split(rest, " | ")
			continue
		}
		for i, cell := range strings.Split(rest, " | ") {
			if i >= len(versions) {
				break
			}
			if cells[versions[i]] == nil {
				cells[versions[i]] = map[string]string{}
			}
			cells[versions[i]][first] = cell
		}
	}
	return cells
}

func (t *table) columnOf(v version) *column {
	if i := slices.IndexFunc(t.columns, func(c column) bool { return c.version == v }); i >= 0 {
		return &t.columns[i]
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
