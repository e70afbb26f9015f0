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
	// notRun fills the row of a version that was not run.
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
	for _, r := range t.rows {
		if r.version == v {
			for i, cell := range r.cells {
				cells = append(cells, t.areas[i].name+" "+cell)
			}
		}
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

// complete adds rows for the versions that were not run now: those of an earlier table, if
// that has the same areas and the same programs, or else "not run".
func (t *table) complete(all []version, earlier string) {
	lines := strings.Split(earlier, "\n")
	same := slices.Contains(lines, t.header()) && slices.Contains(lines, "- "+t.stack)
	var rows []row
	for _, v := range all {
		if i := slices.IndexFunc(t.rows, func(r row) bool { return r.version == v }); i >= 0 {
			rows = append(rows, t.rows[i])
			continue
		}
		r := row{version: v, cells: slices.Repeat([]string{notRun}, len(t.areas))}
		for _, line := range lines {
			if cells, found := strings.CutPrefix(line, "| "+v.full+" | "); same && found {
				r.cells = strings.Split(strings.TrimSuffix(cells, " |"), " | ")
			}
			if same && strings.HasPrefix(line, "- "+v.minor+", ") {
				r.notes = append(r.notes, line)
			}
		}
		rows = append(rows, r)
	}
	t.rows = rows
	for _, line := range lines {
		if earlier, found := strings.CutPrefix(line, arm64Line); same && found && t.arm64 != passed {
			t.arm64 = earlier
		}
	}
}

var block = regexp.MustCompile("(?s)" + regexp.QuoteMeta(begin) + "\n(.*?)" + regexp.QuoteMeta(end))

// updatePage replaces what stands between the marks of a page by the table, whose versions that
// were not run stay as they are there.
func (t *table) updatePage(page string, all []version) error {
	content, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	found := block.FindSubmatch(content)
	if found == nil {
		return fmt.Errorf("%s: no table between %q and %q", page, begin, end)
	}
	t.complete(all, string(found[1]))
	return os.WriteFile(page, block.ReplaceAllLiteral(content, []byte(begin+"\n"+t.markdown()+end)), 0o644) //nolint:gosec // a page of the repository
}
