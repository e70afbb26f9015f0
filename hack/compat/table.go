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
	notes   []string
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
			r.notes = append(r.notes, fmt.Sprintf("%s, %s: %s.", v.minor, a.name, note))
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

// judge looks at the tests of an area. One that did not run has failed.
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
				broken := brokenBelow(o, name)
				failed = append(failed, broken...)
				for _, b := range broken {
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
	}
	switch {
	case len(failed) > 0:
		v.cell = strings.Join(failed, ", ")
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

// markdown is the whole table.
func (t *table) markdown() string {
	var b strings.Builder
	b.WriteString("| Kubernetes |")
	for _, a := range t.areas {
		b.WriteString(" " + a.name + " |")
	}
	b.WriteString("\n|" + strings.Repeat(" --- |", len(t.areas)+1) + "\n")
	for _, r := range t.rows {
		fmt.Fprintf(&b, "| %s | %s |\n", r.version.full, strings.Join(r.cells, " | "))
	}
	b.WriteString("\n")
	for _, r := range t.rows {
		for _, note := range r.notes {
			b.WriteString("- " + note + "\n")
		}
	}
	fmt.Fprintf(&b, "- %s\n- linux/arm64, under qemu-user: %s\n", t.stack, t.arm64)
	return b.String()
}

// replaceTable replaces what stands between the marks of a page.
func replaceTable(page, markdown string) error {
	content, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	block := regexp.MustCompile("(?s)" + regexp.QuoteMeta(begin) + ".*?" + regexp.QuoteMeta(end))
	if !block.Match(content) {
		return fmt.Errorf("%s: no table between %q and %q", page, begin, end)
	}
	return os.WriteFile(page, block.ReplaceAllLiteral(content, []byte(begin+"\n"+markdown+end)), 0o644) //nolint:gosec // a page of the repository
}
