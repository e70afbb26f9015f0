// SPDX-License-Identifier: Apache-2.0

// Package build builds the programs of a release from source: static, for any
// platform, and the same bytes from the same source with the same Go.
package build

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/mod/semver"
)

// Stamp is what programs say of themselves with --version and as User-Agent.
type Stamp struct {
	// Version is that of the release, as in its tag.
	Version string
	// Commit is the hash of the commit, or empty.
	Commit string
}

// Validate returns an error unless the version is a semantic one with a leading v, in
// full and without build metadata, which tags of images cannot have.
func (s Stamp) Validate() error {
	if !semver.IsValid(s.Version) || semver.Canonical(s.Version) != s.Version {
		return fmt.Errorf("invalid version %q: must be a semantic version with a leading v, such as v0.1.0 or v0.1.0-rc.1", s.Version)
	}
	return nil
}

const module = "metal-stack.io/infrastructure-apiserver"

// LDFlags returns the flags by which the linker puts the stamp into a program.
func (s Stamp) LDFlags() string {
	return strings.Join([]string{
		"-s", "-w", "-buildid=",
		"-X", module + "/pkg/version.version=" + s.Version,
		"-X", module + "/pkg/version.commit=" + s.Commit,
		"-X", "k8s.io/client-go/pkg/version.gitVersion=" + s.Version,
		"-X", "k8s.io/client-go/pkg/version.gitCommit=" + s.Commit,
	}, " ")
}

// Platform is an operating system and a processor, in Go's words.
type Platform struct{ OS, Arch string }

// String returns, for example, linux/amd64.
func (p Platform) String() string { return p.OS + "/" + p.Arch }

// Program builds ./cmd/<name> of the repository in source for a platform into
// directory, and returns the path of the program.
func Program(ctx context.Context, source, directory, name string, platform Platform, stamp Stamp) (string, error) {
	path := filepath.Join(directory, name)
	if platform.OS == "windows" {
		path += ".exe"
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	// No stamp of the checkout: it would differ between a clone and an archive of the same source.
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", stamp.LDFlags(), "-o", path, "./cmd/"+name)
	command.Dir = source
	command.Env = append(os.Environ(), environment(platform)...)
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s for %s: %w: %s", name, platform, err, output)
	}
	return path, nil
}

// environment is what changes the bytes of a program, so that whoever builds has none of
// his own.
func environment(platform Platform) []string {
	return []string{
		"CGO_ENABLED=0", "GOOS=" + platform.OS, "GOARCH=" + platform.Arch, "GOAMD64=v1", "GOARM64=v8.0",
		"GOFLAGS=-mod=readonly", "GOWORK=off", "GOEXPERIMENT=", "GOFIPS140=off", "GO_EXTLINK_ENABLED=",
	}
}
