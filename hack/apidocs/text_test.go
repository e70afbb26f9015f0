// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCell_IsOneLineOfMarkdown(t *testing.T) {
	t.Parallel()
	for doc, want := range map[string]string{
		"of two\nlines": "of two lines",
		"a list:\n  - one\n    long item\n  - two": "a list:<ul><li>one long item</li><li>two</li></ul>",
		"`a|b` or <id>, not `<id>`":                "`a\\|b` or &lt;id>, not `<id>`",
		"one\n\nparagraph":                         "one<br>paragraph",
		"a:\n  - one\n\nB:\n  - two\n\nend":        "a:<ul><li>one</li></ul>B:<ul><li>two</li></ul>end",
	} {
		assert.Equal(t, want, cell(doc))
	}
}

func TestEnumerations_RefuseFolderWithoutTypes(t *testing.T) {
	t.Parallel()
	_, err := readEnumerations(t.TempDir(), "pkg/apis")
	assert.ErrorContains(t, err, "run it in the root of the repository")
}

func TestEnumerations_RefuseValueThatIsNotDescribed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(constants string) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "types.go"), []byte("package p\n\n// Plum is a fruit.\ntype Plum string\n\n"+constants), 0o600))
	}
	write("const (\n\tBlue Plum = \"Blue\"\n)\n")
	_, err := readEnumerations(dir, ".")
	require.EqualError(t, err, `Blue has no comment that says what "Blue" means`)
	write("// Blue: it is ripe.\nconst Blue Plum = \"Blue\"\n")
	e, err := readEnumerations(dir, ".")
	require.NoError(t, err)
	assert.Equal(t, []value{{value: "Blue", doc: "It is ripe."}}, e.types["Plum"].values)
}
