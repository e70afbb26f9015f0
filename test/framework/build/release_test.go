// SPDX-License-Identifier: Apache-2.0

package build

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const anyVersion = "v0.9.0"

// repository is one with a command hello that prints a word, which is another one in each
// commit.
func repository(t *testing.T, words ...string) (dir string, commits []string) {
	t.Helper()
	dir = t.TempDir()
	run := func(args ...string) string {
		t.Helper()
		out, err := git(dir, []string{"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null"}, args...)
		require.NoError(t, err)
		return out
	}
	run("init", "--quiet")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "hello"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.org/test\n\ngo 1.24\n"), 0o600))
	for _, word := range words {
		source := "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Print(\"" + word + "\") }\n"
		require.NoError(t, os.WriteFile(filepath.Join(dir, "hello", "main.go"), []byte(source), 0o600))
		run("add", ".")
		run("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "-m", word)
		commits = append(commits, run("rev-parse", "HEAD"))
	}
	return dir, commits
}

func TestReleaseOf_BuildsCommitOnce(t *testing.T) {
	t.Parallel()
	dir, commits := repository(t, "old", "new")
	home := filepath.Join(t.TempDir(), "release")
	says := func(commit string) string {
		t.Helper()
		r, err := releaseOf(dir, home, anyVersion, commit, []string{"./hello"})
		require.NoError(t, err)
		out, err := exec.Command(filepath.Join(r.Programs, "hello")).Output()
		require.NoError(t, err)
		return string(out)
	}
	assert.Equal(t, "old", says(commits[0]))
	program := filepath.Join(home, "bin", "hello")
	before, err := os.Stat(program)
	require.NoError(t, err)
	assert.Equal(t, "old", says(commits[0][:12]))
	after, err := os.Stat(program)
	require.NoError(t, err)
	assert.Equal(t, before.ModTime(), after.ModTime(), "it was built again")
	assert.Equal(t, "new", says("HEAD"))
	status, err := git(dir, nil, "status", "--porcelain")
	require.NoError(t, err)
	assert.Empty(t, status, "the repository's own index and files are untouched")
}

func TestReleaseOf_RepairsWhatIsLeftOfAnInterruptedBuild(t *testing.T) {
	t.Parallel()
	dir, commits := repository(t, "only")
	home := filepath.Join(t.TempDir(), "release")
	for name, damage := range map[string]func(Release) error{
		"nothing": func(Release) error { return nil },
		"source":  func(r Release) error { return os.RemoveAll(r.Source) },
		"locked": func(r Release) error {
			return errors.Join(os.Remove(filepath.Join(home, "made")), os.WriteFile(filepath.Join(home, "index.lock"), nil, 0o600))
		},
		"index": func(r Release) error {
			return errors.Join(os.Remove(filepath.Join(home, "made")), os.WriteFile(filepath.Join(home, "index"), []byte("x"), 0o600))
		},
		"other files": func(r Release) error {
			return errors.Join(os.Remove(filepath.Join(home, "made")), os.WriteFile(filepath.Join(r.Source, "x.go"), []byte("x"), 0o600))
		},
	} {
		for range 2 {
			r, err := releaseOf(dir, home, anyVersion, commits[0], []string{"./hello"})
			require.NoError(t, err, name)
			out, err := exec.Command(filepath.Join(r.Programs, "hello")).Output()
			require.NoError(t, err, name)
			assert.Equal(t, "only", string(out), name)
			require.NoError(t, damage(r), name)
		}
	}
}

// A git hook that runs tests has the repository that it is for in the environment.
func TestReleaseOf_IgnoresRepositoryOfEnvironment(t *testing.T) {
	other, _ := repository(t, "other")
	t.Setenv("GIT_DIR", filepath.Join(other, ".git"))
	t.Setenv("GIT_WORK_TREE", other)
	t.Setenv("GIT_INDEX_FILE", filepath.Join(other, ".git", "index"))
	dir, commits := repository(t, "mine")
	r, err := releaseOf(dir, t.TempDir(), anyVersion, "HEAD", []string{"./hello"})
	require.NoError(t, err)
	assert.Equal(t, commits[0], r.Commit)
}

func TestReleaseOf_UnknownCommitIsAnError(t *testing.T) {
	t.Parallel()
	dir, _ := repository(t, "only")
	for _, repository := range []string{dir, t.TempDir()} {
		_, err := releaseOf(repository, t.TempDir(), anyVersion, "7acb9dff45", []string{"./hello"})
		require.ErrorIs(t, err, ErrNoCommit)
	}
}

func TestReleaseOf_FailedBuildIsNotKept(t *testing.T) {
	t.Parallel()
	dir, commits := repository(t, `\x`)
	home := t.TempDir()
	for range 2 {
		_, err := releaseOf(dir, home, anyVersion, commits[0], []string{"./hello"})
		require.ErrorContains(t, err, "build ./hello: ")
	}
}
