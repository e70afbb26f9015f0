// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestStamp_NeedsASemanticVersion(t *testing.T) {
	t.Parallel()
	for version, valid := range map[string]bool{
		"v0.1.0": true, "v1.20.3-rc.1": true, "v0.1.0-12-g0123abc-dirty": true,
		"": false, "0.1.0": false, "v0.1": false, "v01.0.0": false, "v0.1.0 -X main.a=b": false, "latest": false,
		"v0.1.0-rc.01": false, "v0.1.0-..": false, "v0.1.0+meta": false, "v0.1.0;id": false, "v0.1.0/..": false, "v0.1.0\n": false,
	} {
		if err := (Stamp{Version: version}).Validate(); (err == nil) != valid {
			t.Errorf("%q: %v", version, err)
		}
	}
}

// What the shell of whoever builds has set is not in a program.
func TestProgram_IsTheSameInEachEnvironment(t *testing.T) {
	source := t.TempDir()
	for path, content := range map[string]string{
		"go.mod":            "module " + module + "\n\ngo 1.26.0\n",
		"cmd/hello/main.go": "package main\n\nfunc main() { println(kind) }\n",
		"cmd/hello/a.go":    "//go:build !race && !other\n\npackage main\n\nconst kind = \"released\"\n",
		"cmd/hello/b.go":    "//go:build race || other\n\npackage main\n\nconst kind = \"other\"\n",
	} {
		path = filepath.Join(source, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	built := func() []byte {
		path, err := Program(t.Context(), source, t.TempDir(), "hello", Platform{OS: "linux", Arch: "amd64"}, Stamp{Version: "v0.1.0"})
		require.NoError(t, err)
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		return content
	}
	first := built()
	for name, value := range map[string]string{
		"GOFLAGS": "-tags=other", "CGO_ENABLED": "1", "GOAMD64": "v3", "GOEXPERIMENT": "jsonv2", "GOFIPS140": "v1.0.0",
		"GO_EXTLINK_ENABLED": "1", "GOWORK": filepath.Join(source, "go.work"),
	} {
		t.Setenv(name, value)
	}
	assert.True(t, bytes.Equal(first, built()), "it differs with the environment")
}
