// SPDX-License-Identifier: Apache-2.0

package architecture

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDevelopment_MapsEveryFolder holds the tables of folders in
// docs/development.md to the packages and folders that there are.
func TestDevelopment_MapsEveryFolder(t *testing.T) {
	text, err := os.ReadFile("../../docs/development.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n## Folders\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	var named []string
	for line := range strings.Lines(section) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			named = append(named, patterns(cells[1])...)
		}
	}
	for _, folder := range named {
		assert.DirExists(t, filepath.Join("../..", strings.TrimSuffix(folder, "/...")))
	}
	for _, pkg := range imports(t).own() {
		mapped := strings.HasPrefix(pkg, "cmd/")
		for _, folder := range named {
			mapped = mapped || matches(folder, pkg)
		}
		assert.True(t, mapped, "%s is not in docs/development.md", pkg)
	}
}
