// SPDX-License-Identifier: Apache-2.0

package checksums

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func write(t *testing.T, directory, name, content string) {
	t.Helper()
	file := filepath.Join(directory, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
}

func TestWrite_IsWhatSha256sumTakes(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("sha256sum"); err != nil {
		t.Skip("no sha256sum (coreutils) in PATH")
	}
	directory := t.TempDir()
	for _, name := range []string{"b.yaml", "a.tar.gz", "sub/with a space", File} {
		write(t, directory, name, name)
	}
	require.NoError(t, Write(directory))
	first, err := os.ReadFile(filepath.Join(directory, File))
	require.NoError(t, err)
	assert.Regexp(t, `^[0-9a-f]{64}  a\.tar\.gz\n[0-9a-f]{64}  b\.yaml\n[0-9a-f]{64}  sub/with a space\n$`, string(first))

	check := func() ([]byte, error) {
		command := exec.Command("sha256sum", "--check", "--strict", File)
		command.Dir = directory
		return command.CombinedOutput()
	}
	output, err := check()
	require.NoError(t, err, string(output))
	require.NoError(t, Write(directory))
	second, err := os.ReadFile(filepath.Join(directory, File))
	require.NoError(t, err)
	assert.Equal(t, string(first), string(second))

	write(t, directory, "b.yaml", "B.yaml")
	output, err = check()
	require.Error(t, err)
	assert.Contains(t, string(output), "b.yaml: FAILED")
}

func TestWrite_RefusesWhatCannotBeListed(t *testing.T) {
	t.Parallel()
	assert.ErrorContains(t, Write(t.TempDir()), "has no files")
	assert.Error(t, Write(filepath.Join(t.TempDir(), "missing")))

	links := t.TempDir()
	require.NoError(t, os.Symlink("/etc/hostname", filepath.Join(links, "link")))
	assert.ErrorContains(t, Write(links), "link is not a regular file")

	names := t.TempDir()
	write(t, names, "two\nlines", "")
	assert.ErrorContains(t, Write(names), "line break")
}
