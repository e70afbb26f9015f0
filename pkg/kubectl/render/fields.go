// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"io"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// Field is a line of a description: a name and a value.
type Field struct {
	Name  string
	Value string
	Color Color
}

// Section is a part of a description. Its table, if it has one, follows its fields.
type Section struct {
	Title  string
	Fields []Field
	Table  *Table
}

// Add adds a field, unless its value is empty.
func (s *Section) Add(name, value string) { s.AddColored(name, value, Plain) }

// AddColored adds a field with a colour, unless its value is empty.
func (s *Section) AddColored(name, value string, c Color) {
	if value != "" {
		s.Fields = append(s.Fields, Field{Name: name, Value: oneline.Sanitize(value, oneline.MaxMessage), Color: c})
	}
}

const indentation = "  "

// Print prints sections with something in them. The values of all are in one column.
func Print(w io.Writer, s Style, sections []Section) error {
	width := 0
	for _, section := range sections {
		for _, f := range section.Fields {
			width = max(width, length(f.Name))
		}
	}
	var b strings.Builder
	for _, section := range sections {
		if len(section.Fields) == 0 && (section.Table == nil || len(section.Table.Rows) == 0) {
			continue
		}
		if section.Title != "" {
			fmt.Fprintf(&b, "%s:\n", section.Title)
		}
		indent := ""
		if section.Title != "" {
			indent = indentation
		}
		for _, f := range section.Fields {
			pad := strings.Repeat(" ", width+len(indentation)-len(indent)-length(f.Name))
			fmt.Fprintf(&b, "%s%s:%s%s\n", indent, f.Name, pad+gap, s.paint(f.Color, f.Value))
		}
		if section.Table != nil && len(section.Table.Rows) > 0 {
			if err := printIndented(&b, s, section.Table); err != nil {
				return err
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func printIndented(b *strings.Builder, s Style, t *Table) error {
	if s.Width > len(indentation) {
		s.Width -= len(indentation)
	}
	var table strings.Builder
	if err := t.Print(&table, s); err != nil {
		return err
	}
	for line := range strings.Lines(table.String()) {
		b.WriteString(indentation + line)
	}
	return nil
}

// Age returns how long ago a time was, as kubectl shows it.
func Age(now time.Time, t time.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(max(now.Sub(t), 0)) // clocks differ
}

// Ago returns a time with its age, or "".
func Ago(now time.Time, t *metav1.Time) string {
	if t.IsZero() {
		return ""
	}
	return fmt.Sprintf("%s (%s ago)", t.UTC().Format(time.RFC3339), Age(now, t.Time))
}
