// Package contract_test holds that docs/contract.md names tests that are there.
package contract_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// named is how a row names its tests: the directory of a package, and tests of
// it.
var named = regexp.MustCompile("`((?:pkg|test)/[a-z0-9/]+)`|`(Test[A-Za-z0-9]+)`")

func TestEveryTestThatTheContractNamesIsThere(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/contract.md")
	require.NoError(t, err)
	found := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || strings.HasPrefix(line, "| ---") || strings.HasPrefix(line, "| clause") {
			continue
		}
		directory := ""
		for _, match := range named.FindAllStringSubmatch(cells[3], -1) {
			if match[1] != "" {
				directory = match[1]
				continue
			}
			require.NotEmpty(t, directory, "%s of no package", match[2])
			require.Contains(t, sourcesOf(t, directory), "func "+match[2]+"(t *testing.T)", "in %s", directory)
			found++
		}
	}
	require.Greater(t, found, 30, "the page has a table")
}

func sourcesOf(t *testing.T, directory string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", directory, "*_test.go"))
	require.NoError(t, err)
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		all.Write(text)
	}
	return all.String()
}
