// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSourceDate_IsTheEnvironments(t *testing.T) {
	for value, want := range map[string]time.Time{"": time.Unix(0, 0), "1764446400": time.Unix(1764446400, 0)} {
		t.Setenv("SOURCE_DATE_EPOCH", value)
		got, err := sourceDate()
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	for _, value := range []string{"yesterday", "-1", "1.5", "253402300800", "9223372036854775807"} {
		t.Setenv("SOURCE_DATE_EPOCH", value)
		_, err := sourceDate()
		assert.ErrorContains(t, err, "SOURCE_DATE_EPOCH")
	}
}

// They fail before anything is built.
func TestImages_RefusesFlags(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"--tag":                    {"--tag", "0.1.0"},
		"windows/amd64":            {"--tag", "v0.1.0", "--platform", "linux/amd64,windows/amd64"},
		"--platform":               {"--tag", "v0.1.0", "--platform", ""},
		"--overwrite":              {"--tag", "v0.1.0", "--overwrite"},
		"--push needs --registry":  {"--tag", "v0.1.0", "--push"},
		"--registry":               {"--tag", "v0.1.0", "--registry", "metal-stack"},
		"without credentials":      {"--tag", "v0.1.0", "--registry", "robot:t0ps3cret@ghcr.io/metal-stack"},
		"unknown command \"more\"": {"--tag", "v0.1.0", "more"},
	} {
		command := newCommand()
		command.SetArgs(append([]string{"images", "--output", t.TempDir(), "--source", t.TempDir()}, args...))
		var out bytes.Buffer
		command.SetOut(&out)
		command.SetErr(&out)
		err := command.ExecuteContext(t.Context())
		require.ErrorContains(t, err, name)
		assert.NotContains(t, err.Error()+out.String(), "t0ps3cret")
	}
}

// What has the tag of a release where releases are published is a release.
func TestImages_PushesNoRehearsalToWhereReleasesAre(t *testing.T) {
	t.Parallel()
	source := t.TempDir()
	git := func(arguments ...string) string {
		settings := []string{"-C", source, "-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgSign=false", "-c", "tag.gpgSign=false"}
		output, err := exec.CommandContext(t.Context(), "git", append(settings, arguments...)...).CombinedOutput()
		require.NoError(t, err, "%s", output)
		return strings.TrimSpace(string(output))
	}
	git("init", "--quiet")
	require.NoError(t, os.WriteFile(filepath.Join(source, "file"), nil, 0o600))
	git("add", "file")
	git("commit", "--quiet", "--message=first")
	commit := git("rev-parse", "HEAD")
	push := func(registry, commit string) error {
		command := newCommand()
		// With this platform, it ends after the check.
		command.SetArgs([]string{"images", "--source", source, "--output", t.TempDir(), "--tag", "v0.1.0", "--commit", commit, "--push", "--registry", registry, "--platform", "none/none"})
		return command.ExecuteContext(t.Context())
	}
	const passed = "unsupported platform"
	require.ErrorContains(t, push(published, commit), "a rehearsal is not pushed to ghcr.io/metal-stack: v0.1.0 is not a tag of HEAD")
	require.ErrorContains(t, push("GHCR.io/metal-stack", commit), "make images TAG=v0.1.0 REGISTRY=…")
	require.ErrorContains(t, push("registry.example.com/metal", commit), passed)
	git("tag", "v0.1.0")
	require.ErrorContains(t, push(published, commit), passed)
	require.ErrorContains(t, push(published, strings.Repeat("0c", 20)), "it was made from 0c0c0c0c0c0c, and HEAD is")
	require.NoError(t, os.WriteFile(filepath.Join(source, "file"), []byte("changed"), 0o600))
	require.ErrorContains(t, push(published, commit), "files are not as in HEAD: file")
}
