// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// unpacked returns a directory with all files.
func unpacked(t *testing.T) string {
	t.Helper()
	goroot, err := GOROOT(t.Context(), ".")
	require.NoError(t, err)
	files, err := Files(goroot)
	require.NoError(t, err)
	directory := filepath.Join(t.TempDir(), "root")
	require.NoError(t, Write(directory, files))
	return directory
}

func TestFiles_HoldAuthorities(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(filepath.Join(unpacked(t), Certificates))
	require.NoError(t, err)
	count, names := 0, ""
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		require.NoError(t, err)
		assert.True(t, certificate.IsCA, certificate.Subject)
		names += certificate.Subject.CommonName + "\n"
		count++
	}
	assert.Greater(t, count, 100)
	assert.Contains(t, names, "ISRG Root X1\n")
	pool := x509.NewCertPool()
	assert.True(t, pool.AppendCertsFromPEM(content), "as Go's TLS reads it")
}

func TestFiles_HoldTimeZones(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(filepath.Join(unpacked(t), "usr/share/zoneinfo/Europe/Berlin"))
	require.NoError(t, err)
	berlin, err := time.LoadLocationFromTZData("Europe/Berlin", content)
	require.NoError(t, err)
	assert.Equal(t, 14, time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC).In(berlin).Hour())
}

func TestFiles_NameTheUser(t *testing.T) {
	t.Parallel()
	root := unpacked(t)
	passwd, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
	require.NoError(t, err)
	assert.Contains(t, string(passwd), "\nnonroot:x:65532:65532:")
	for line := range strings.Lines(string(passwd)) {
		assert.Len(t, strings.Split(line, ":"), 7, line)
		assert.Contains(t, line, "/nologin")
	}
	group, err := os.ReadFile(filepath.Join(root, "etc/group"))
	require.NoError(t, err)
	assert.Contains(t, string(group), "\nnonroot:x:65532:\n")
}

func TestFiles_HoldNothingElse(t *testing.T) {
	t.Parallel()
	goroot, err := GOROOT(t.Context(), ".")
	require.NoError(t, err)
	files, err := Files(goroot)
	require.NoError(t, err)
	for _, file := range files {
		if file.Mode.IsDir() {
			assert.Equal(t, os.ModeDir|0o755, file.Mode, file.Path)
			continue
		}
		assert.Equal(t, os.FileMode(0o644), file.Mode, file.Path)
		assert.True(t, strings.HasPrefix(file.Path, "usr/share/zoneinfo/") || file.Path == Certificates || file.Path == "etc/passwd" || file.Path == "etc/group", file.Path)
	}
}
