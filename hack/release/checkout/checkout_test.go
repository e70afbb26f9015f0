// SPDX-License-Identifier: Apache-2.0

package checkout

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestState_KnowsTagAndChanges(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	run := func(arguments ...string) {
		t.Helper()
		_, err := git(t.Context(), directory, append([]string{"-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"}, arguments...)...)
		require.NoError(t, err)
	}
	write := func(name string) {
		require.NoError(t, os.WriteFile(filepath.Join(directory, name), []byte(name), 0o600))
	}
	_, err := Read(t.Context(), directory)
	require.ErrorContains(t, err, "a release is made from a checkout of git")

	run("init", "-q")
	write("a")
	run("add", "a")
	run("commit", "-q", "-m", "First", "--date=2026-11-29T20:00:00Z")
	state, err := Read(t.Context(), directory)
	require.NoError(t, err)
	assert.Regexp(t, `^[0-9a-f]{40}$`, state.Commit)
	assert.False(t, state.Time.IsZero())
	assert.Equal(t, []string{"v0.1.0 is not a tag of HEAD (" + state.Commit[:12] + "): it has no tag"}, state.Differences("v0.1.0"))

	run("tag", "v0.1.0")
	run("tag", "-a", "v0.1.1", "-m", "annotated")
	state, err = Read(t.Context(), directory)
	require.NoError(t, err)
	assert.Empty(t, state.Differences("v0.1.0"))
	assert.Empty(t, state.Differences("v0.1.1"))
	assert.Equal(t, []string{"v0.1 is not a tag of HEAD (" + state.Commit[:12] + "): its tags are v0.1.0, v0.1.1"}, state.Differences("v0.1"))

	for _, setting := range []string{"status.showUntrackedFiles=no", "log.showSignature=true"} {
		name, value, _ := strings.Cut(setting, "=")
		run("config", name, value)
	}
	for _, name := range []string{"b", "c", "d", "e"} {
		write(name)
	}
	state, err = Read(t.Context(), directory)
	require.NoError(t, err)
	assert.Equal(t, []string{"files are not as in HEAD: b, c, d and 1 more"}, state.Differences("v0.1.0"))
}
