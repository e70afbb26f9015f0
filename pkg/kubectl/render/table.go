// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// Column is a column of a table.
type Column struct {
	Title string
	// Min is the width to which the column may be shrunk. Without one, it is not.
	Min int
	// Optional columns are left out on a terminal, if all cells are empty, and, from the
	// right, if the table does not fit otherwise. In a pipe, no column ever is.
	Optional bool
}

// Cell is a text, and how it is coloured.
type Cell struct {
	Text  string
	Color Color
}

// Row is a row of a table. If it has a group, that is a heading that covers all columns. The
// prefix stands before the group or the first cell.
type Row struct {
	Prefix string
	Group  string
	Cells  []Cell
}

// Table is a table for a terminal.
type Table struct {
	Columns []Column
	Rows    []Row
}

const (
	gap      = "  "
	ellipsis = "…"
	// maxCell bounds a cell of a table that is as wide as it likes.
	maxCell = 1024
)

// Print prints a table in the style.
func (t Table) Print(w io.Writer, s Style) error {
	rows := make([]Row, 0, len(t.Rows)+1)
	heading := Row{}
	for _, c := range t.Columns {
		heading.Cells = append(heading.Cells, Cell{Text: c.Title})
	}
	rows = append(rows, heading)
	for _, row := range t.Rows {
		rows = append(rows, row.sanitized())
	}
	widths := fit(t.Columns, rows, s.Width)
	var b strings.Builder
	for _, row := range rows {
		if row.Group != "" {
			b.WriteString(cut(row.Group, s.Width) + "\n")
			continue
		}
		b.WriteString(s.line(row, widths) + "\n")
	}
	_, err := fmt.Fprint(w, b.String())
	return err
}

// sanitized returns the row with the prefix in its text.
func (r Row) sanitized() Row {
	if r.Group != "" {
		return Row{Group: r.Prefix + oneline.Sanitize(r.Group, maxCell)}
	}
	clean := Row{}
	for i, cell := range r.Cells {
		cell.Text = oneline.Sanitize(cell.Text, maxCell)
		if i == 0 {
			cell.Text = r.Prefix + cell.Text
		}
		clean.Cells = append(clean.Cells, cell)
	}
	return clean
}

// line lays out a row. Columns of width 0 are left out.
func (s Style) line(row Row, widths []int) string {
	var b strings.Builder
	pending := ""
	for i, cell := range row.Cells {
		if widths[i] == 0 {
			continue
		}
		text := cut(cell.Text, widths[i])
		b.WriteString(pending + s.paint(cell.Color, text))
		pending = strings.Repeat(" ", widths[i]-length(text)) + gap
	}
	return strings.TrimRight(b.String(), " ")
}

// fit returns the width of each column, of which rows[0] has the titles, and 0 for those that are left out. Of those that may be
// shrunk, the widest is.
func fit(columns []Column, rows []Row, limit int) []int {
	widths := make([]int, len(columns))
	hasText := make([]bool, len(columns))
	for n, row := range rows {
		for i, cell := range row.Cells {
			widths[i] = max(widths[i], length(cell.Text))
			hasText[i] = hasText[i] || n > 0 && cell.Text != ""
		}
	}
	if limit == 0 {
		return widths
	}
	for i := range columns {
		if columns[i].Optional && !hasText[i] {
			widths[i] = 0
		}
	}
	least := func() int { // the width of the table with every column as narrow as it may be
		sum := -len(gap)
		for i, width := range widths {
			if width > 0 {
				sum += len(gap) + narrowest(columns[i], width)
			}
		}
		return sum
	}
	for i := len(columns) - 1; i >= 0 && least() > limit; i-- {
		if columns[i].Optional {
			widths[i] = 0
		}
	}
	for total(widths) > limit {
		widest := -1
		for i, width := range widths {
			if width > 0 && width > narrowest(columns[i], width) && (widest < 0 || width > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
	}
	return widths
}

// narrowest is how narrow a column may become: not narrower than its title.
func narrowest(c Column, width int) int {
	if c.Min == 0 {
		return width
	}
	return min(width, max(c.Min, length(c.Title)))
}

func total(widths []int) int {
	sum := -len(gap)
	for _, width := range widths {
		if width > 0 {
			sum += len(gap) + width
		}
	}
	return sum
}

func length(text string) int { return utf8.RuneCountInString(text) }

// cut shortens a text to a width, unless that is 0.
func cut(text string, width int) string {
	if width == 0 || length(text) <= width {
		return text
	}
	runes := []rune(text)
	return string(runes[:max(0, width-1)]) + ellipsis
}
