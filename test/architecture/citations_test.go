// SPDX-License-Identifier: Apache-2.0

package architecture

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	quirk    = regexp.MustCompile(`(?m)^<a id="q(\d+)"></a>\*\*Q(\d+)\. `)
	citation = regexp.MustCompile(`docs/metal-api\.md,(?: |\s+// )((?:Q\d+(?:, | and | to )?)+)`)
	number   = regexp.MustCompile(`Q(\d+)`)
)

// TestMetalAPIPage_QuirksAreNumberedOnce: numbers are anchors that code cites.
func TestMetalAPIPage_QuirksAreNumberedOnce(t *testing.T) {
	seen := quirks(t)
	for n, times := range seen {
		assert.Equal(t, 1, times, "Q%s", n)
	}
}

// TestMetalAPIPage_CitedQuirksExist looks at all Go files.
func TestMetalAPIPage_CitedQuirksExist(t *testing.T) {
	seen := quirks(t)
	cited := 0
	for _, dir := range []string{"cmd", "hack", "pkg", "test"} {
		require.NoError(t, filepath.WalkDir(filepath.Join("../..", dir), func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(file) != ".go" {
				return err
			}
			text, err := os.ReadFile(file)
			for _, c := range citation.FindAllStringSubmatch(string(text), -1) {
				for _, n := range number.FindAllStringSubmatch(c[1], -1) {
					assert.Contains(t, seen, n[1], "%s cites Q%s, which docs/metal-api.md does not have", file, n[1])
					cited++
				}
			}
			return err
		}))
	}
	assert.Greater(t, cited, 30)
}

// quirks counts the quirks of docs/metal-api.md by their number.
func quirks(t *testing.T) map[string]int {
	t.Helper()
	text, err := os.ReadFile("../../docs/metal-api.md")
	require.NoError(t, err)
	seen := map[string]int{}
	for _, m := range quirk.FindAllStringSubmatch(string(text), -1) {
		assert.Equal(t, m[1], m[2], "the anchor of Q%s", m[2])
		seen[m[2]]++
	}
	require.Greater(t, len(seen), 60)
	return seen
}
