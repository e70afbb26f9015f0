// SPDX-License-Identifier: Apache-2.0

package architecture

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

const page = "../../docs/architecture.md"

// layer is a row of the table of packages: the patterns of its packages, and of
// what they must not link.
type layer struct {
	packages, forbidden []string
}

// privilege is a row of the table of imports: which packages alone may import
// something, besides tools and tests of the whole.
type privilege struct {
	imported, importers []string
}

var code = regexp.MustCompile("`([^`]+)`")

// patterns are the words in code format of a cell.
func patterns(cell string) []string {
	var all []string
	for _, m := range code.FindAllStringSubmatch(cell, -1) {
		all = append(all, m[1])
	}
	return all
}

// table returns the cells of the table with that header, row by row.
func table(header string) ([][]string, error) {
	text, err := os.ReadFile(page)
	if err != nil {
		return nil, err
	}
	_, rest, found := strings.Cut(string(text), "\n"+header+"\n")
	if !found {
		return nil, fmt.Errorf("%s has no table with the header %q", page, header)
	}
	var rows [][]string
	for line := range strings.Lines(rest) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			break
		}
		if strings.HasPrefix(line, "| ---") {
			continue
		}
		rows = append(rows, strings.Split(strings.Trim(line, "|"), "|"))
	}
	return rows, nil
}

// layers reads the table of packages, from top to bottom.
func layers() ([]layer, error) {
	rows, err := table("| package | its one job | must never | links none of |")
	if err != nil {
		return nil, err
	}
	var all []layer
	for _, row := range rows {
		l := layer{packages: patterns(row[0]), forbidden: patterns(row[len(row)-1])}
		if len(row) != 4 || len(l.packages) == 0 {
			return nil, fmt.Errorf("%s: unexpected row %q", page, row)
		}
		all = append(all, l)
	}
	return all, nil
}

// privileges reads the table of imports.
func privileges() ([]privilege, error) {
	rows, err := table("| import | only by |")
	if err != nil {
		return nil, err
	}
	var all []privilege
	for _, row := range rows {
		p := privilege{patterns(row[0]), patterns(row[len(row)-1])}
		if len(row) != 2 || len(p.imported) == 0 {
			return nil, fmt.Errorf("%s: unexpected row %q", page, row)
		}
		all = append(all, p)
	}
	return all, nil
}

// layerOf returns the index of the layer that a package is in, by the most
// specific pattern; -1 if none matches.
func layerOf(all []layer, pkg string) int {
	best, longest := -1, 0
	for i, l := range all {
		for _, pattern := range l.packages {
			if specific := len(strings.TrimRight(pattern, ".*/")) + 1; matches(pattern, pkg) && specific > longest {
				best, longest = i, specific
			}
		}
	}
	return best
}

// anyMatches reports whether one of the patterns names a package.
func anyMatches(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, pkg) })
}
