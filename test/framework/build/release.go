// SPDX-License-Identifier: Apache-2.0

package build

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Release is what was made of one commit of this repository.
type Release struct {
	// Version is what its programs print with --version.
	Version string
	// Commit is the hash of the commit; empty for the present source.
	Commit string
	// Source is the directory of its files, and Programs that of its programs.
	Source, Programs string
}

// ErrNoCommit is the error for a commit that this clone does not have, because it is
// shallow, or no clone at all.
var ErrNoCommit = errors.New("this repository does not have the commit")

// ReleaseOf checks out a commit, or a tag, below .cache/releases, and builds packages of it
// that say they are of the version. What was built of the same commit is used again.
func ReleaseOf(version, commit string, packages ...string) (Release, error) {
	home := filepath.Join(Root(), ".cache", "releases", version)
	return releaseOf(Root(), home, version, commit, packages)
}

func releaseOf(repository, home, version, commit string, packages []string) (Release, error) {
	unlock, err := lock(home)
	if err != nil {
		return Release{}, err
	}
	defer unlock()
	hash, err := git(repository, nil, "rev-parse", "--verify", "--quiet", "--end-of-options", commit+"^{commit}")
	if err != nil {
		return Release{}, fmt.Errorf("%w %q: %w", ErrNoCommit, commit, err)
	}
	r := Release{Version: version, Commit: hash, Source: filepath.Join(home, "src"), Programs: filepath.Join(home, "bin")}
	// It is written when all else is there.
	made, is := filepath.Join(home, "made"), strings.Join(append([]string{hash}, packages...), "\n")
	if was, err := os.ReadFile(made); err == nil && string(was) == is && exist(r, packages) {
		return r, nil
	}
	index := filepath.Join(home, "index")
	for _, old := range []string{made, r.Source, r.Programs, index, index + ".lock"} {
		if err := os.RemoveAll(old); err != nil {
			return Release{}, err
		}
	}
	// With an index of its own: the repository's stays as it is.
	env := []string{"GIT_INDEX_FILE=" + index}
	if _, err := git(repository, env, "read-tree", hash); err != nil {
		return Release{}, err
	}
	if _, err := git(repository, env, "checkout-index", "--all", "--prefix="+r.Source+"/"); err != nil {
		return Release{}, err
	}
	if err := compile(r.Source, r.Programs, stamp(version, hash), packages); err != nil {
		return Release{}, fmt.Errorf("%s, commit %s: %w", version, hash, err)
	}
	return r, os.WriteFile(made, []byte(is), 0o600)
}

// exist returns whether what was made of a commit has not been removed since.
func exist(r Release, packages []string) bool {
	paths := []string{filepath.Join(r.Source, "go.mod")}
	for _, name := range packages {
		paths = append(paths, filepath.Join(r.Programs, filepath.Base(name)))
	}
	return !slices.ContainsFunc(paths, func(path string) bool {
		_, err := os.Stat(path)
		return err != nil
	})
}

// Present builds packages of the present source that say they are of the version.
func Present(version string, packages ...string) (Release, error) {
	r := Release{Version: version, Source: Root(), Programs: filepath.Join(Root(), ".cache", "programs", version)}
	unlock, err := lock(r.Programs)
	if err != nil {
		return Release{}, err
	}
	defer unlock()
	return r, compile(r.Source, r.Programs, stamp(version, "present"), packages)
}

// stamp are flags of go build, as the Makefile's LDFLAGS. The commit is not what Go finds
// of git: below .cache, that would be this repository's.
func stamp(version, commit string) []string {
	const pkg = "metal-stack.io/infrastructure-apiserver/pkg/version"
	return []string{"-buildvcs=false", fmt.Sprintf("-ldflags=-X %s.version=%s -X %s.commit=%s", pkg, version, pkg, commit)}
}

// ofRepository are the environment variables that say where a repository is.
var ofRepository = []string{"GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_NAMESPACE"}

// git runs git in a directory. Which repository and index that is must not be taken from
// the environment: git hooks, which may run tests, have both there.
func git(dir string, env []string, args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	inherited := slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.Contains(ofRepository, name)
	})
	cmd.Dir, cmd.Env = dir, append(inherited, env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}
