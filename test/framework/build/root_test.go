// SPDX-License-Identifier: Apache-2.0

package build

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRoot_IsTheRepositoryWithAndWithoutSourcePaths(t *testing.T) {
	t.Parallel()
	working, err := os.Getwd()
	require.NoError(t, err)
	want, err := filepath.Abs(filepath.Join(working, "..", "..", ".."))
	require.NoError(t, err)
	assert.Equal(t, want, moduleOf(working))
	assert.Empty(t, moduleOf(t.TempDir()))
	if root := Root(); assert.True(t, filepath.IsAbs(root), root) {
		assert.Equal(t, want, filepath.Clean(root))
	}
}
