// SPDX-License-Identifier: Apache-2.0

// Package build finds this repository and builds its programs, once for all
// test packages that run at the same time and after each other.
package build

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Programs builds packages of this module, such as ./cmd/metalstack-apiserver,
// with flags of go build, and returns the directory that they are in. That is
// the same one for the same flags, so that nothing is linked again that has not
// changed.
func Programs(flags []string, packages ...string) (dir string, err error) {
	root := Root()
	dir = filepath.Join(root, ".cache", "programs", strings.Join(append([]string{"go"}, flags...), ""))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close() // and so it is unlocked
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	args, env := []string{"build", "-o", dir + "/"}, os.Environ()
	if !slices.Contains(flags, "-race") {
		// As `make build` does, so that packages are compiled once for both.
		args, env = append(args, "-trimpath"), append(env, "CGO_ENABLED=0")
	}
	cmd := exec.Command("go", slices.Concat(args, flags, packages)...)
	cmd.Dir, cmd.Env = root, env
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", strings.Join(packages, " "), err, out)
	}
	return dir, nil
}
