// SPDX-License-Identifier: Apache-2.0

// Package licences finds out under which licences modules of Go are, by the texts in
// the module cache.
package licences

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/licenseclassifier/v2/assets"
	"golang.org/x/mod/module"

	classifier "github.com/google/licenseclassifier/v2"
)

// Finder finds the licences of modules.
type Finder struct {
	cache string

	mu    sync.Mutex
	known map[module.Version][]string
}

// texts classifies them; it takes a second to load.
var texts = sync.OnceValues(func() (*classifier.Classifier, error) { return assets.DefaultClassifier() })

// NewFinder returns one that reads the module cache of `go`.
func NewFinder() (*Finder, error) {
	output, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOMODCACHE: %w", err)
	}
	return &Finder{cache: strings.TrimSpace(string(output)), known: map[module.Version][]string{}}, nil
}

// Of returns the SPDX identifiers of a module's licences, in order. A module whose
// texts are not known has none; one that is not in the cache is an error.
func (f *Finder) Of(path, version string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := module.Version{Path: path, Version: version}
	if found, ok := f.known[m]; ok {
		return found, nil
	}
	escapedPath, err := module.EscapePath(path)
	if err != nil {
		return nil, err
	}
	escapedVersion, err := module.EscapeVersion(version)
	if err != nil {
		return nil, err
	}
	found, err := inDirectory(filepath.Join(f.cache, filepath.FromSlash(escapedPath)+"@"+escapedVersion))
	if err != nil {
		return nil, fmt.Errorf("licences of %s %s: %w", path, version, err)
	}
	f.known[m] = found
	return found, nil
}

func inDirectory(directory string) ([]string, error) {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return nil, err
	}
	classify, err := texts()
	if err != nil {
		return nil, err
	}
	var found []string
	for _, entry := range entries {
		if !entry.Type().IsRegular() || !isLicence(entry.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(directory, entry.Name()))
		if err != nil {
			return nil, err
		}
		for _, match := range classify.Match(text).Matches {
			if match.MatchType == "License" {
				found = append(found, match.Name)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

// isLicence reports whether a file at the root of a module has the text of a licence,
// such as LICENSE, LICENSE.md, LICENSE-MIT or COPYING.
func isLicence(name string) bool {
	name = strings.ToLower(name)
	return !strings.HasSuffix(name, ".go") && (strings.HasPrefix(name, "license") || strings.HasPrefix(name, "licence") || strings.HasPrefix(name, "copying"))
}
