// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMake_BuildsEachProgramOnce reads what `make demo` and `make run`
// would do. Packages are compiled once only if all builds have the same flags,
// and programs only if what is run gets their paths.
func TestMake_BuildsEachProgramOnce(t *testing.T) {
	t.Parallel()
	for target, programs := range map[string]int{"demo": 3, "run": 2} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), "make", "--dry-run", "--no-print-directory", target)
			cmd.Dir = "../.."
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, string(out))
			builds, said := 0, false
			for line := range strings.Lines(string(out)) {
				line = strings.TrimSpace(line)
				if strings.HasPrefix(line, "echo \"building ") {
					said = true
					continue
				}
				// Modules of their own share little with this one.
				if strings.Contains(line, "go build") && !strings.Contains(line, " -C ") {
					builds++
					assert.Regexp(t, `^CGO_ENABLED=0 go build -trimpath (-ldflags '[^']*' )?-o bin/`, line)
					assert.True(t, said, "%s: nothing says what is built", line)
				}
				said = false
			}
			assert.Equal(t, programs, builds, "the programs, hack/%s, and what it needs", target)
			assert.Contains(t, string(out), "bin/"+target+" --bin bin")
		})
	}
}
