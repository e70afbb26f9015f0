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
	unlock, err := lock(dir)
	if err != nil {
		return "", err
	}
	defer unlock()
	return dir, compile(root, dir, flags, packages)
}

// lock makes a directory if it does not exist, and locks it for this process.
func lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		file.Close()
		return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	return func() { file.Close() }, nil // and so it is unlocked
}

// compile builds packages of the module in the directory source into dir.
func compile(source, dir string, flags, packages []string) error {
	// A go.work above a checkout of another commit does not have that one's module.
	args, env := []string{"build", "-o", dir + "/"}, append(os.Environ(), "GOWORK=off")
	if !slices.Contains(flags, "-race") {
		// As `make build` does, so that packages are compiled once for both.
		args, env = append(args, "-trimpath"), append(env, "CGO_ENABLED=0")
	}
	cmd := exec.Command("go", slices.Concat(args, flags, packages)...)
	cmd.Dir, cmd.Env = source, env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", strings.Join(packages, " "), err, out)
	}
	return nil
}
