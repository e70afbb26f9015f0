// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

// version is one of Kubernetes.
type version struct {
	// full is v1.33.13, and minor v1.33.
	full, minor string
	// bin is the directory of its programs, relative to the repository.
	bin string
}

// pinnedVersions are those that the modules in hack/compat and hack/controlplane pin, the
// oldest first.
func pinnedVersions(root string) ([]version, error) {
	modules, err := filepath.Glob(filepath.Join(root, "hack", "compat", "v*", "go.mod"))
	if err != nil {
		return nil, err
	}
	var all []version
	for _, module := range append(modules, filepath.Join(root, "hack", "controlplane", "go.mod")) {
		full, err := pinned(module, "k8s.io/kubernetes")
		if err != nil {
			return nil, err
		}
		v := version{full: full, minor: semver.MajorMinor(full), bin: "bin"}
		if dir := filepath.Base(filepath.Dir(module)); dir != "controlplane" {
			if dir != v.minor {
				return nil, fmt.Errorf("%s: pins Kubernetes %s: want a version of %s", module, v.full, dir)
			}
			v.bin = filepath.Join("bin", "compat", v.minor)
		}
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b version) int { return semver.Compare(a.full, b.full) })
	return all, nil
}

// pinned is the version of a module that a go.mod requires.
func pinned(file, module string) (string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	mod, err := modfile.ParseLax(file, content, nil)
	if err != nil {
		return "", err
	}
	for _, require := range mod.Require {
		if require.Mod.Path == module {
			return require.Mod.Version, nil
		}
	}
	return "", fmt.Errorf("%s: does not require %s", file, module)
}

// choose returns the versions whose minor versions are named, in order, or all.
func choose(all []version, names string) ([]version, error) {
	if strings.TrimSpace(names) == "" {
		return all, nil
	}
	var minors []string
	for _, v := range all {
		minors = append(minors, v.minor)
	}
	wanted := strings.Fields(names)
	for _, name := range wanted {
		if !slices.Contains(minors, name) {
			return nil, fmt.Errorf("versions: %q: want some of %s", name, strings.Join(minors, ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(v version) bool { return !slices.Contains(wanted, v.minor) }), nil
}

// stack names what else took part in a run.
func stack(ctx context.Context) (string, error) {
	capi, err := pinned(filepath.Join("hack", "capi", "go.mod"), "sigs.k8s.io/cluster-api")
	if err != nil {
		return "", err
	}
	etcd, err := pinned(filepath.Join("hack", "controlplane", "go.mod"), "go.etcd.io/etcd/server/v3")
	if err != nil {
		return "", err
	}
	goVersion, err := exec.CommandContext(ctx, "go", "env", "GOVERSION").Output()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("With Cluster API %s and etcd %s; all programs built with %s.", capi, etcd, bytes.TrimSpace(goVersion)), nil
}
