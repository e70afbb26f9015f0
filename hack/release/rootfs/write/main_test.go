// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/hack/release/rootfs"
)

func TestRun_WritesAllFiles(t *testing.T) {
	t.Parallel()
	directory := filepath.Join(t.TempDir(), "rootfs")
	require.NoError(t, run(t.Context(), []string{directory}))
	goroot, err := rootfs.GOROOT(t.Context(), ".")
	require.NoError(t, err)
	files, err := rootfs.Files(goroot)
	require.NoError(t, err)
	for _, file := range files {
		info, err := os.Stat(filepath.Join(directory, file.Path))
		require.NoError(t, err)
		assert.Equal(t, file.Mode, info.Mode(), file.Path)
		if !file.Mode.IsDir() {
			content, err := os.ReadFile(filepath.Join(directory, file.Path))
			require.NoError(t, err)
			assert.Equal(t, file.Content, content, file.Path)
		}
	}
}

func TestRun_NeedsADirectory(t *testing.T) {
	t.Parallel()
	assert.ErrorContains(t, run(t.Context(), nil), "the directory to write to is needed")
}
