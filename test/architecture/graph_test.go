// SPDX-License-Identifier: Apache-2.0

package architecture

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
)

const module = "metal-stack.io/infrastructure-apiserver"

// graph is who imports whom, without tests' files. Packages of this module are
// named by their folder, all others by their import path.
type graph map[string][]string

// load asks the go command for the module's packages and all that they link.
func load() (graph, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Imports", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			return nil, fmt.Errorf("go list: %w: %s", err, failed.Stderr)
		}
		return nil, fmt.Errorf("go list: %w", err)
	}
	g := graph{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return g, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		imports := make([]string, len(p.Imports))
		for i, path := range p.Imports {
			imports[i] = folder(path)
		}
		g[folder(p.ImportPath)] = imports
	}
}

// folder is a package's folder, if it is one of this module.
func folder(path string) string { return strings.TrimPrefix(path, module+"/") }

// own returns the packages of this module.
func (g graph) own() []string {
	var own []string
	for p := range g {
		if first, _, _ := strings.Cut(p, "/"); slices.Contains([]string{"cmd", "generated", "hack", "pkg", "test"}, first) {
			own = append(own, p)
		}
	}
	slices.Sort(own)
	return own
}

// path returns the imports that lead from a package to one that matches a pattern,
// nil if none do.
func (g graph) path(from, pattern string) []string {
	before := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		for _, next := range g[queue[0]] {
			if _, seen := before[next]; seen {
				continue
			}
			before[next] = queue[0]
			if matches(pattern, next) {
				var path []string
				for p := next; p != ""; p = before[p] {
					path = append(path, p)
				}
				slices.Reverse(path)
				return path
			}
			queue = append(queue, next)
		}
	}
	return nil
}

// matches reports whether a pattern names a package: `a/b` names a/b alone, `a/*`
// those directly below a, `a/...` a and all that is below it.
func matches(pattern, pkg string) bool {
	if all, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == all || strings.HasPrefix(pkg, all+"/")
	}
	if below, ok := strings.CutSuffix(pattern, "/*"); ok {
		rest, ok := strings.CutPrefix(pkg, below+"/")
		return ok && !strings.Contains(rest, "/")
	}
	return pkg == pattern
}
