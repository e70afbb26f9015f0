// SPDX-License-Identifier: Apache-2.0

package render

import (
	"io"
	"os"
	"strconv"

	"golang.org/x/term"
	"k8s.io/cli-runtime/pkg/printers"
)

// Color is the colour of a text on a terminal.
type Color int

// The colours.
const (
	Plain Color = iota
	Good
	Warning
	Bad
	Faint
)

var codes = map[Color]string{Good: "32", Warning: "33", Bad: "31", Faint: "2"}

// Style is what a terminal can show. The zero value is that of a file or pipe.
type Style struct {
	// Colors is true if colours may be used.
	Colors bool
	// Width is the number of columns, or 0 if lines may be as long as they like.
	Width int
}

// StyleOf returns the style of an output.
func StyleOf(out io.Writer) Style {
	file, isFile := out.(*os.File)
	if !isFile || !printers.IsTerminal(out) {
		return Style{}
	}
	s := Style{Colors: printers.AllowsColorOutput(out)}
	if width, _, err := term.GetSize(int(file.Fd())); err == nil {
		s.Width = width
	}
	if width, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && width > 0 {
		s.Width = width
	}
	return s
}

// paint colours a text.
func (s Style) paint(c Color, text string) string {
	if !s.Colors || c == Plain || text == "" {
		return text
	}
	return "\x1b[" + codes[c] + "m" + text + "\x1b[0m"
}
