// SPDX-License-Identifier: Apache-2.0

package render

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func printed(t *testing.T, table Table, s Style) string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, table.Print(&b, s))
	return b.String()
}

func cells(texts ...string) Row {
	row := Row{}
	for _, text := range texts {
		row.Cells = append(row.Cells, Cell{Text: text})
	}
	return row
}

func TestTable_LeavesOutOptionalColumnsThenShrinksOthers(t *testing.T) {
	t.Parallel()
	table := Table{
		Columns: []Column{{Title: "NAME", Min: 6}, {Title: "STATE"}, {Title: "NOTE", Optional: true}, {Title: "IMAGE", Optional: true}},
		Rows:    []Row{cells("worker-number-1", "running", "locked", "ubuntu")},
	}
	assert.Equal(t, "NAME             STATE    NOTE    IMAGE\nworker-number-1  running  locked  ubuntu\n", printed(t, table, Style{}))
	assert.Equal(t, "NAME        STATE    NOTE    IMAGE\nworker-nu…  running  locked  ubuntu\n", printed(t, table, Style{Width: 35}))
	assert.Equal(t, "NAME           STATE    NOTE\nworker-numbe…  running  locked\n", printed(t, table, Style{Width: 30}))
	assert.Equal(t, "NAME         STATE\nworker-num…  running\n", printed(t, table, Style{Width: 20}))
	assert.Equal(t, "NAME    STATE\nworke…  running\n", printed(t, table, Style{Width: 5}), "no narrower than the columns may be")
}

func TestTable_LeavesOutOptionalColumnsWithoutText(t *testing.T) {
	t.Parallel()
	table := Table{Columns: []Column{{Title: "NAME"}, {Title: "NOTE", Optional: true}, {Title: "IMAGE"}}, Rows: []Row{{Group: "g"}, cells("a", "", "")}}
	assert.Equal(t, "NAME  IMAGE\ng\na\n", printed(t, table, Style{Width: 80}))
	assert.Equal(t, "NAME  NOTE  IMAGE\ng\na\n", printed(t, table, Style{}))
}

func TestStyle_OfWhatIsNoTerminal(t *testing.T) {
	t.Parallel()
	assert.Equal(t, Style{}, StyleOf(&strings.Builder{}))
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	require.NoError(t, err)
	defer file.Close()
	assert.Equal(t, Style{}, StyleOf(file))
}

func TestTable_NeverExceedsTheWidthIfItCanFit(t *testing.T) {
	t.Parallel()
	table := Table{
		Columns: []Column{{Title: "A", Min: 3}, {Title: "B", Min: 3}, {Title: "C", Optional: true}},
		Rows:    []Row{cells(strings.Repeat("ä", 40), strings.Repeat("b", 30), "c"), {Group: strings.Repeat("g", 90)}},
	}
	for width := 8; width < 100; width++ {
		for line := range strings.Lines(printed(t, table, Style{Width: width})) {
			assert.LessOrEqual(t, utf8.RuneCountInString(line)-1, width, line)
		}
	}
}

func TestTable_PrintsNoControlCharacters(t *testing.T) {
	t.Parallel()
	table := Table{Columns: []Column{{Title: "A"}}, Rows: []Row{cells("a\x1b[2J\nb"), {Group: "g\rh"}}}
	assert.Equal(t, "A\na [2J b\ng h\n", printed(t, table, Style{}))
}

func TestTree_DrawsBranches(t *testing.T) {
	t.Parallel()
	rows := Tree([]Node{{Text: "p", Children: []Node{
		{Text: "r1", Children: []Node{{Text: "a", Cells: []Cell{{Text: "x"}}}, {Text: "b", Cells: []Cell{{Text: "y"}}}}},
		{Text: "r2", Children: []Node{{Text: "c", Cells: []Cell{{Text: "z"}}}}},
	}}})
	table := Table{Columns: []Column{{Title: "NAME"}, {Title: "X"}}, Rows: rows}
	assert.Equal(t, "NAME     X\np\n├─ r1\n│  ├─ a  x\n│  └─ b  y\n└─ r2\n   └─ c  z\n", printed(t, table, Style{}))
}

func TestStyle_ColorsOnlyTextThatIsShown(t *testing.T) {
	t.Parallel()
	table := Table{Columns: []Column{{Title: "A"}, {Title: "B"}}, Rows: []Row{{Cells: []Cell{{Text: "ok", Color: Good}, {Text: ""}}}}}
	assert.Equal(t, "A   B\n\x1b[32mok\x1b[0m\n", printed(t, table, Style{Colors: true}))
	assert.Equal(t, "A   B\nok\n", printed(t, table, Style{}))
}
