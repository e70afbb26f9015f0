// SPDX-License-Identifier: Apache-2.0

package upgrade_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"metal-stack.io/infrastructure-apiserver/test/framework/build"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

// fromVariable names a commit or tag to upgrade from, instead of the newest release.
const fromVariable = "UPGRADE_FROM"

// next is the version that the present source is called in the test.
const next = "next"

// release is an entry of testdata/releases.yaml.
type release struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
}

func releases(t testing.TB) (all []release) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "releases.yaml"))
	require.NoError(t, err)
	require.NoError(t, yaml.UnmarshalStrict(text, &all))
	require.NotEmpty(t, all)
	return all
}

// previous is the release to upgrade from.
func previous(t testing.TB) build.Release {
	t.Helper()
	programs := []string{"./cmd/" + cluster.APIServer, "./cmd/" + cluster.Manager}
	if from := os.Getenv(fromVariable); from != "" {
		r, err := build.ReleaseOf(strings.ReplaceAll(from, "/", "-"), from, programs...)
		require.NoError(t, err, fromVariable)
		return r
	}
	newest := releases(t)[0]
	r, err := build.ReleaseOf(newest.Version, newest.Commit, programs...)
	if errors.Is(err, build.ErrNoCommit) {
		if os.Getenv("GITHUB_ACTIONS") != "" {
			t.Fatalf("the workflow needs the commits of releases, in a clone that is not shallow: %v", err)
		}
		t.Logf("%v: upgrading from the present source, built as %s", err, newest.Version)
		r, err = build.Present(newest.Version, programs...)
	}
	require.NoError(t, err)
	return r
}

// present is what the release is upgraded to.
func present(t testing.TB) build.Release {
	t.Helper()
	return build.Release{Version: next, Source: build.Root(), Programs: filepath.Dir(cluster.Binary(t, cluster.APIServer))}
}

// overlay is a directory to apply: the installation of a release, with its images.
func overlay(t testing.TB, r build.Release) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	deploy, err := filepath.EvalSymlinks(filepath.Join(r.Source, "artifacts", "deploy"))
	require.NoError(t, err)
	base, err := filepath.Rel(dir, deploy) // kustomize wants paths that are relative
	require.NoError(t, err)
	var images []map[string]string
	for _, name := range []string{cluster.APIServer, cluster.Manager} {
		images = append(images, map[string]string{"name": "ghcr.io/metal-stack/" + name, "newTag": r.Version})
	}
	content, err := yaml.Marshal(map[string]any{"resources": []string{base}, "images": images})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kustomization.yaml"), content, 0o600))
	return dir
}

// A release is upgraded from once the next one is made, at the latest.
func TestReleases_AreThoseOfTheChangelog(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(build.Root(), "CHANGELOG.md"))
	require.NoError(t, err)
	var listed []string
	for _, r := range releases(t) {
		listed = append(listed, r.Version)
		assert.Regexp(t, "^[0-9a-f]{40}$", r.Commit, r.Version)
	}
	for _, version := range missing(string(text), listed) {
		t.Errorf("testdata/releases.yaml has no commit for %s", version)
	}
	assert.Equal(t, []string{"v0.2.1", "v0.2.0"}, missing("## Unreleased\n## v0.3.0 - 2027-02-01\n## v0.2.1 - 2027-01-02\n\n## v0.2.0 - 2027-01-01\n## v0.1.0 - 2026-12-01\n", []string{"v0.1.0"}))
}

// missing are the versions of a changelog that are not listed. The newest may be about to
// be made: then its commit is not known yet.
func missing(changelog string, listed []string) (versions []string) {
	for _, found := range regexp.MustCompile(`(?m)^## \[?(v[0-9]+\.[0-9]+\.[0-9]+)`).FindAllStringSubmatch(changelog, -1) {
		versions = append(versions, found[1])
	}
	return slices.DeleteFunc(versions[min(len(versions), 1):], func(version string) bool { return slices.Contains(listed, version) })
}

func TestPrevious_SaysItsVersion(t *testing.T) {
	t.Parallel()
	r := previous(t)
	for _, name := range []string{cluster.APIServer, cluster.Manager} {
		out, err := exec.Command(filepath.Join(r.Programs, name), "--version").Output()
		require.NoError(t, err)
		assert.Contains(t, string(out), name+" "+r.Version+" (commit "+r.Commit[:min(len(r.Commit), 12)])
	}
}
