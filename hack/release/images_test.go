// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSourceDate_IsTheEnvironments(t *testing.T) {
	for value, want := range map[string]time.Time{"": time.Unix(0, 0), "1764446400": time.Unix(1764446400, 0)} {
		t.Setenv("SOURCE_DATE_EPOCH", value)
		got, err := sourceDate()
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	for _, value := range []string{"yesterday", "-1", "1.5", "253402300800", "9223372036854775807"} {
		t.Setenv("SOURCE_DATE_EPOCH", value)
		_, err := sourceDate()
		assert.ErrorContains(t, err, "SOURCE_DATE_EPOCH")
	}
}

// They fail before anything is built.
func TestImages_RefusesFlags(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"--tag":                    {"--tag", "0.1.0"},
		"windows/amd64":            {"--tag", "v0.1.0", "--platform", "linux/amd64,windows/amd64"},
		"--platform":               {"--tag", "v0.1.0", "--platform", ""},
		"--overwrite":              {"--tag", "v0.1.0", "--overwrite"},
		"--registry":               {"--tag", "v0.1.0", "--registry", "metal-stack"},
		"without credentials":      {"--tag", "v0.1.0", "--registry", "robot:t0ps3cret@ghcr.io/metal-stack"},
		"unknown command \"more\"": {"--tag", "v0.1.0", "more"},
	} {
		command := newCommand()
		command.SetArgs(append([]string{"images", "--output", t.TempDir(), "--source", t.TempDir()}, args...))
		var out bytes.Buffer
		command.SetOut(&out)
		command.SetErr(&out)
		err := command.ExecuteContext(t.Context())
		require.ErrorContains(t, err, name)
		assert.NotContains(t, err.Error()+out.String(), "t0ps3cret")
	}
}
