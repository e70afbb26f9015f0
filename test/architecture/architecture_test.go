// SPDX-License-Identifier: Apache-2.0

package architecture

import (
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	loaded = sync.OnceValues(load)
	tools  = []string{"hack/...", "test/..."}
)

func imports(t *testing.T) graph {
	t.Helper()
	g, err := loaded()
	require.NoError(t, err)
	return g
}

// TestArchitecture_TableNamesAllPackages holds the first column to the folders
// that there are, in both directions.
func TestArchitecture_TableNamesAllPackages(t *testing.T) {
	all, err := layers()
	require.NoError(t, err)
	named := map[string]bool{}
	for _, pkg := range imports(t).own() {
		if assert.GreaterOrEqual(t, layerOf(all, pkg), 0, "%s is in no row of docs/architecture.md", pkg) {
			for _, pattern := range all[layerOf(all, pkg)].packages {
				named[pattern] = named[pattern] || matches(pattern, pkg)
			}
		}
	}
	for _, l := range all {
		for _, pattern := range l.packages {
			assert.True(t, named[pattern], "no package is %s of docs/architecture.md", pattern)
		}
	}
}

// TestArchitecture_LayersImportDownwards: rows stand in the order of the layers.
func TestArchitecture_LayersImportDownwards(t *testing.T) {
	all, err := layers()
	require.NoError(t, err)
	g := imports(t)
	for _, pkg := range g.own() {
		for _, imported := range g[pkg] {
			if to := layerOf(all, imported); to >= 0 {
				assert.LessOrEqual(t, layerOf(all, pkg), to, "%s imports %s, whose row stands above", pkg, imported)
			}
		}
	}
}

// TestArchitecture_LinksNoneOf checks the fourth column, row by row.
func TestArchitecture_LinksNoneOf(t *testing.T) {
	all, err := layers()
	require.NoError(t, err)
	g := imports(t)
	for i, l := range all {
		t.Run(strings.Join(l.packages, " "), func(t *testing.T) {
			for _, pkg := range g.own() {
				if layerOf(all, pkg) != i {
					continue
				}
				for _, forbidden := range l.forbidden {
					path := g.path(pkg, forbidden)
					assert.Nil(t, path, "%s links %s: %s", pkg, forbidden, strings.Join(path, " → "))
				}
			}
		})
	}
}

// TestArchitecture_ImportedOnlyBy checks the table of imports, row by row. Tools
// and tests of the whole may import anything.
func TestArchitecture_ImportedOnlyBy(t *testing.T) {
	all, err := privileges()
	require.NoError(t, err)
	g := imports(t)
	for _, p := range all {
		t.Run(strings.Join(p.imported, " "), func(t *testing.T) {
			importers := map[string]bool{}
			for _, pkg := range g.own() {
				for _, imported := range g[pkg] {
					if !anyMatches(p.imported, imported) || anyMatches(p.imported, pkg) || anyMatches(tools, pkg) {
						continue
					}
					assert.True(t, anyMatches(p.importers, pkg), "%s imports %s, which is reserved for %q", pkg, imported, p.importers)
					for _, pattern := range p.importers {
						importers[pattern] = importers[pattern] || matches(pattern, pkg)
					}
				}
			}
			for _, pattern := range p.importers {
				assert.True(t, importers[pattern], "%s may import %q and does not", pattern, p.imported)
			}
		})
	}
}

func TestPattern_Matches(t *testing.T) {
	for _, tc := range []struct {
		pattern, pkg string
		want         bool
	}{
		{"pkg/a", "pkg/a", true},
		{"pkg/a", "pkg/a/b", false},
		{"pkg/a/*", "pkg/a", false},
		{"pkg/a/*", "pkg/a/b", true},
		{"pkg/a/*", "pkg/a/b/c", false},
		{"pkg/a/...", "pkg/a", true},
		{"pkg/a/...", "pkg/a/b/c", true},
		{"pkg/a/...", "pkg/ab", false},
	} {
		assert.Equal(t, tc.want, matches(tc.pattern, tc.pkg), "%s %s", tc.pattern, tc.pkg)
	}
}

func TestGraph_Path(t *testing.T) {
	g := graph{"a": {"b", "c"}, "b": {"d"}, "c": {"b"}, "d": {"e/f"}}
	assert.Equal(t, []string{"a", "b", "d", "e/f"}, g.path("a", "e/..."))
	assert.Nil(t, g.path("b", "c"))
}
