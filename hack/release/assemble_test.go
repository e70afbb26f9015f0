// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// writing is a step that writes a file.
func writing(name, content string) step {
	return step{name, func(directory string) error {
		return os.WriteFile(filepath.Join(directory, name), []byte(content), 0o600)
	}}
}

func names(t *testing.T, directory string) []string {
	t.Helper()
	entries, err := os.ReadDir(directory)
	require.NoError(t, err)
	var all []string
	for _, entry := range entries {
		all = append(all, entry.Name())
	}
	return all
}

func TestAssemble_PutsACompleteReleaseInPlace(t *testing.T) {
	t.Parallel()
	dist := filepath.Join(t.TempDir(), "dist")
	directory := filepath.Join(dist, "v0.1.0")
	var out strings.Builder
	require.NoError(t, assemble(t.Context(), &out, directory, []step{writing("a", "1"), writing("left", "")}))
	require.NoError(t, assemble(t.Context(), &out, directory, []step{writing("a", "2"), writing("b", strings.Repeat("x", 2048))}))
	assert.Equal(t, []string{"a", "b"}, names(t, directory), "no file of an earlier one is left")
	assert.Equal(t, []string{"v0.1.0"}, names(t, dist))
	assert.Regexp(t, `(?m)^  b +2\.0 KiB$`, out.String())
}

func TestAssemble_LeavesWhatWasThereIfItFails(t *testing.T) {
	t.Parallel()
	dist := t.TempDir()
	directory := filepath.Join(dist, "v0.1.0")
	failing := step{"second", func(string) error { return errors.New("no space left") }}
	require.EqualError(t, assemble(t.Context(), io.Discard, directory, []step{writing("a", "1"), failing}), "second: no space left")
	assert.Empty(t, names(t, dist), "no half release")

	require.NoError(t, assemble(t.Context(), io.Discard, directory, []step{writing("a", "1")}))
	require.Error(t, assemble(t.Context(), io.Discard, directory, []step{writing("a", "2"), failing}))
	ctx, cancel := context.WithCancel(t.Context())
	interrupted := step{"a", func(string) error { cancel(); return nil }}
	require.ErrorIs(t, assemble(ctx, io.Discard, directory, []step{interrupted, writing("a", "3")}), context.Canceled)
	content, err := os.ReadFile(filepath.Join(directory, "a"))
	require.NoError(t, err)
	assert.Equal(t, "1", string(content))
	assert.Equal(t, []string{"v0.1.0"}, names(t, dist))
}
