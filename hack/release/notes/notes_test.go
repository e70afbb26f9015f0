// SPDX-License-Identifier: Apache-2.0

package notes

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const changelog = `# Changelog

Newest first. There has been no release yet.

## Unreleased

### Added

- A thing, see [its page](docs/thing.md#part), [there](https://example.org/x) and [above](#added).

` + "```" + `
## not a heading
` + "```" + `

## v0.2.0 - 2026-10-01

- Second.

## v0.1.0 - 2026-09-01
`

func TestFor_HasTheSectionAlone(t *testing.T) {
	t.Parallel()
	text, err := For(changelog, "v0.2.0", "v0.2.0")
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(text, "- Second.\n\n## Install\n"), text)
	assert.NotContains(t, text, "A thing")
	assert.Contains(t, text, "/releases/download/v0.2.0/install.yaml")

	text, err = For(changelog, Unreleased, "v0.3.0")
	require.NoError(t, err)
	assert.Contains(t, text, "## not a heading\n")
	assert.NotContains(t, text, "Second")
}

func TestFor_LinksToFilesOfTheTag(t *testing.T) {
	t.Parallel()
	text, err := For(changelog, Unreleased, "v0.3.0")
	require.NoError(t, err)
	assert.Contains(t, text, "[its page](https://github.com/metal-stack/metalstack-apiserver/blob/v0.3.0/docs/thing.md#part)")
	assert.Contains(t, text, "[there](https://example.org/x)")
	assert.Contains(t, text, "[above](https://github.com/metal-stack/metalstack-apiserver/blob/v0.3.0/CHANGELOG.md#added)")
}

func TestFor_RefusesWhatHasNoNotes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ changelog, version, message string }{
		"no section":    {changelog, "v0.3.0", "no section v0.3.0, only: Unreleased, v0.2.0 - 2026-10-01, v0.1.0"},
		"a prefix":      {changelog, "v0.2", "no section v0.2,"},
		"empty section": {changelog, "v0.1.0", "v0.1.0 of CHANGELOG.md is empty"},
		"two sections":  {changelog + "\n## v0.2.0\n\n- Again.\n", "v0.2.0", "has 2 sections v0.2.0"},
		"too long":      {"## v1.0.0\n\n" + strings.Repeat("- A line of it.\n", 10_000), "v1.0.0", "GitHub takes 125000 at most"},
		"no headings":   {"", "v1.0.0", "no section v1.0.0"},
	} {
		_, err := For(test.changelog, test.version, test.version)
		assert.ErrorContains(t, err, test.message, name)
	}
}

func TestCut_MakesTheSectionOfTheVersion(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 11, 29, 23, 0, 0, 0, time.UTC)
	cut, err := Cut(changelog, "v0.3.0", day)
	require.NoError(t, err)
	assert.Contains(t, cut, "Newest first.\n\n## Unreleased\n\n## v0.3.0 - 2026-11-29\n\n### Added\n")
	assert.NotContains(t, cut, "no release yet")
	before, err := For(changelog, Unreleased, "v0.3.0")
	require.NoError(t, err)
	after, err := For(cut, "v0.3.0", "v0.3.0")
	require.NoError(t, err)
	assert.Equal(t, before, after, "the rehearsal's notes are the release's")

	_, err = Cut(cut, "v0.4.0", day)
	assert.ErrorContains(t, err, "nothing to release")
	_, err = Cut(cut, "v0.3.0", day)
	assert.ErrorContains(t, err, "already has a section v0.3.0")
	_, err = Cut("# Changelog\n", "v0.3.0", day)
	assert.ErrorContains(t, err, "no section Unreleased")
}

// What is released next has notes, and the day of a release can be cut.
func TestChangelog_OfThisRepository(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../../CHANGELOG.md")
	require.NoError(t, err)
	found := sections(strings.Split(string(content), "\n"))
	require.NotEmpty(t, found)
	assert.Equal(t, Unreleased, found[0].title)
	for _, s := range found[1:] {
		assert.Regexp(t, `^v\d+\.\d+\.\d+(-\S+)? - \d{4}-\d\d-\d\d$`, s.title)
		_, err := For(string(content), s.version(), s.version())
		assert.NoError(t, err)
	}
}
