// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/krew/pkg/index"
	"sigs.k8s.io/yaml"

	"metal-stack.io/infrastructure-apiserver/hack/release/build"
)

var stamp = build.Stamp{Version: "v0.1.0", Commit: strings.Repeat("0c", 20)}

// compile builds a main package, and returns the program.
func compile(t *testing.T, mainPackage string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), filepath.Base(mainPackage))
	command := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", file, mainPackage)
	// As the plugin is built, so that what both have in common is compiled once.
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	output, err := command.CombinedOutput()
	require.NoError(t, err, string(output))
	return file
}

// krew returns a program of krew, which is built.
func krew(t *testing.T, name string) string {
	t.Helper()
	return compile(t, "sigs.k8s.io/krew/cmd/"+name)
}

// TestWrite_IsWhatKrewInstalls builds for this machine, with which krew and the plugin run:
// by the command that makes releases, because that has no race detector, with which
// compression takes a minute.
func TestWrite_IsWhatKrewInstalls(t *testing.T) {
	t.Parallel()
	platform := build.Platform{OS: runtime.GOOS, Arch: runtime.GOARCH}
	release := compile(t, "metal-stack.io/infrastructure-apiserver/hack/release")
	write := func() (directory string) {
		directory = t.TempDir()
		output, err := exec.CommandContext(t.Context(), release, "plugin", "--source", "../../..", "--output", directory,
			"--tag", stamp.Version, "--commit", stamp.Commit, "--platforms", platform.String()).CombinedOutput()
		require.NoError(t, err, string(output))
		made := strings.Fields(string(output))
		assert.Equal(t, []string{filepath.Join(directory, Archive(platform)), filepath.Join(directory, "metal.yaml")}, made)
		return directory
	}
	directory := write()

	home := t.TempDir()
	install := exec.CommandContext(t.Context(), krew(t, "krew"), "install",
		"--manifest", filepath.Join(directory, "metal.yaml"), "--archive", filepath.Join(directory, Archive(platform)))
	install.Env = append(os.Environ(), "KREW_ROOT="+home, "KREW_NO_UPGRADE_CHECK=1")
	output, err := install.CombinedOutput()
	require.NoError(t, err, string(output))
	output, err = exec.CommandContext(t.Context(), filepath.Join(home, "bin", "kubectl-metal"), "--version").CombinedOutput()
	require.NoError(t, err, string(output))
	assert.Contains(t, string(output), "v0.1.0 (commit "+stamp.Commit[:12])

	// What the manifest has people type for completion.
	manifest, err := readTemplate(filepath.Join(directory, "metal.yaml"))
	require.NoError(t, err)
	line := regexp.MustCompile(`(?m)^ +cp .*$`).FindString(manifest.Spec.Caveats)
	require.NotEmpty(t, line, manifest.Spec.Caveats)
	complete := exec.CommandContext(t.Context(), "sh", "-c", line+` && kubectl_complete-metal offe`)
	complete.Env = append(os.Environ(), "KREW_ROOT="+home, "PATH="+filepath.Join(home, "bin")+":"+os.Getenv("PATH"))
	output, err = complete.CombinedOutput()
	require.NoError(t, err, string(output))
	assert.Contains(t, string(output), "offers")

	first, err := os.ReadFile(filepath.Join(directory, Archive(platform)))
	require.NoError(t, err)
	second, err := os.ReadFile(filepath.Join(write(), Archive(platform)))
	require.NoError(t, err)
	assert.True(t, bytes.Equal(first, second), "the archive is not the same when it is made again")
}

// TestManifest_OfAllPlatforms holds the manifest of a release to krew's own validation,
// which also sees that no two platforms are for the same machine.
func TestManifest_OfAllPlatforms(t *testing.T) {
	t.Parallel()
	manifest, err := readTemplate("../../../artifacts/krew/metal.yaml")
	require.NoError(t, err)
	manifest.Spec.Version = stamp.Version
	for _, platform := range Platforms {
		manifest.Spec.Platforms = append(manifest.Spec.Platforms, entry(platform, stamp, []byte(platform.String())))
	}
	content, err := yaml.Marshal(manifest)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "metal.yaml")
	require.NoError(t, os.WriteFile(file, content, 0o600))
	output, err := exec.CommandContext(t.Context(), krew(t, "validate-krew-manifest"), "--manifest", file, "--skip-install").CombinedOutput()
	require.NoError(t, err, string(output))
	// What krew-index asks for beyond that.
	assert.LessOrEqual(t, len(manifest.Spec.ShortDescription), 50)
	assert.NotContains(t, string(content), "creationTimestamp")

	var read index.Plugin
	require.NoError(t, yaml.UnmarshalStrict(content, &read))
	assert.Equal(t, "https://github.com/metal-stack/metalstack-apiserver/releases/download/v0.1.0/kubectl-metal_windows_arm64.tar.gz", read.Spec.Platforms[5].URI)
	assert.Equal(t, "kubectl-metal.exe", read.Spec.Platforms[5].Bin)
}

func TestSelect_NamesWhatIsSupported(t *testing.T) {
	t.Parallel()
	all, err := Select(" ")
	require.NoError(t, err)
	assert.Equal(t, Platforms, all)
	some, err := Select("darwin/arm64, linux/amd64")
	require.NoError(t, err)
	assert.Equal(t, []build.Platform{{OS: "darwin", Arch: "arm64"}, {OS: "linux", Arch: "amd64"}}, some)
	for _, bad := range []string{"plan9/386", "linux", "linux/amd64;darwin/arm64", "linux/amd64,linux/amd64"} {
		_, err := Select(bad)
		assert.Error(t, err, bad)
	}
	_, err = Select("plan9/386")
	assert.ErrorContains(t, err, `unsupported platform "plan9/386": supported are linux/amd64, linux/arm64, darwin/amd64`)
}
