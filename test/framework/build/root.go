// SPDX-License-Identifier: Apache-2.0

package build

import (
	"os"
	"path/filepath"
	"runtime"
)

// Root is the directory of this repository, by the path of this file. What was
// built with -trimpath does not know that: then it is the nearest directory
// with a go.mod, from the working directory upwards; "" if there is none.
func Root() string {
	if _, here, _, _ := runtime.Caller(0); filepath.IsAbs(here) {
		return filepath.Join(filepath.Dir(here), "..", "..", "..")
	}
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	return moduleOf(dir)
}

func moduleOf(dir string) string {
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return ""
		}
		dir = parent
	}
}
