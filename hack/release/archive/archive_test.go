// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWrite_HasNoTraceOfTheMachine(t *testing.T) {
	t.Parallel()
	files := []File{{Name: "LICENSE", Content: []byte("text")}, {Name: "bin/program", Content: []byte{0, 1}, Executable: true}}
	var first, second bytes.Buffer
	require.NoError(t, Write(&first, files))
	require.NoError(t, Write(&second, files))
	assert.Equal(t, first.Bytes(), second.Bytes())

	compressed, err := gzip.NewReader(&first)
	require.NoError(t, err)
	assert.True(t, compressed.ModTime.IsZero())
	assert.Empty(t, compressed.Name)
	reader := tar.NewReader(compressed)
	for _, file := range files {
		header, err := reader.Next()
		require.NoError(t, err)
		assert.Equal(t, file.Name, header.Name)
		assert.Equal(t, file.Executable, header.Mode == 0o755)
		assert.Zero(t, header.ModTime.Unix())
		assert.Zero(t, header.Uid+header.Gid)
		assert.Empty(t, header.Uname+header.Gname)
		content, err := io.ReadAll(reader)
		require.NoError(t, err)
		assert.Equal(t, file.Content, content)
	}
	_, err = reader.Next()
	assert.ErrorIs(t, err, io.EOF)
}
