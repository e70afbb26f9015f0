// SPDX-License-Identifier: Apache-2.0

// Package rootfs is what an image holds beside its program: accounts,
// certificates of authorities, and time zones. All of it comes from modules
// and the Go distribution that the build pins; nothing is read from the machine
// that builds.
package rootfs

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// User is the number of the account, and of its group, that programs run as.
const User = 65532

// Certificates is where the programs look for authorities.
const Certificates = "etc/ssl/certs/ca-certificates.crt"

const zones = "usr/share/zoneinfo"

// A File is a file or directory, owned by root, that only root may write.
type File struct {
	// Path is relative to the root directory, with slashes.
	Path string
	// Mode has the type, a file's or directory's, and the permissions.
	Mode fs.FileMode
	// Content is a file's.
	Content []byte
}

// Files returns the files and the directories that they are in, in the order of
// their paths, so that a directory precedes what is in it. Time zones are those
// of the Go distribution in goroot.
func Files(goroot string) ([]File, error) {
	files := []File{
		text("etc/passwd", "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:%[1]d:%[1]d:nonroot:/:/sbin/nologin\n", User),
		text("etc/group", "root:x:0:\nnonroot:x:%d:\n", User),
		{Path: Certificates, Mode: 0o644, Content: certificates()},
	}
	timezones, err := readZones(filepath.Join(goroot, "lib", "time", "zoneinfo.zip"))
	if err != nil {
		return nil, err
	}
	return WithDirectories(append(files, timezones...)), nil
}

func text(name, format string, args ...any) File {
	return File{Path: name, Mode: 0o644, Content: fmt.Appendf(nil, format, args...)}
}

// certificates returns Mozilla's authorities in the form of Debian's bundle.
// One that Mozilla distrusts for certificates issued after some day is left
// out, as the bundle has no way to say so.
func certificates() []byte {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a buffer does not fail
		}
	}
	return out.Bytes()
}

func readZones(archive string) ([]File, error) {
	reader, err := zip.OpenReader(archive)
	if err != nil {
		return nil, fmt.Errorf("failed to read the time zones of Go: %w", err)
	}
	defer reader.Close()
	var files []File
	for _, entry := range reader.File {
		if strings.HasSuffix(entry.Name, "/") {
			continue
		}
		if !fs.ValidPath(entry.Name) {
			return nil, fmt.Errorf("failed to read the time zones of Go: %s: invalid path %q", archive, entry.Name)
		}
		content, err := readEntry(entry)
		if err != nil {
			return nil, fmt.Errorf("failed to read the time zones of Go: %s: %w", archive, err)
		}
		files = append(files, File{Path: path.Join(zones, entry.Name), Mode: 0o644, Content: content})
	}
	return files, nil
}

func readEntry(entry *zip.File) ([]byte, error) {
	reader, err := entry.Open()
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	return io.ReadAll(reader)
}

// WithDirectories adds the directories that files are in, and returns all in the
// order of their paths.
func WithDirectories(files []File) []File {
	known := map[string]bool{".": true}
	all := slices.Clone(files)
	for _, file := range files {
		for dir := path.Dir(file.Path); !known[dir]; dir = path.Dir(dir) {
			known[dir] = true
			all = append(all, File{Path: dir, Mode: fs.ModeDir | 0o755})
		}
	}
	slices.SortFunc(all, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	return all
}

// Write writes files into a directory, which it creates.
func Write(directory string, files []File) error {
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	for _, file := range files {
		name := filepath.Join(directory, filepath.FromSlash(file.Path))
		if err := write(name, file); err != nil {
			return err
		}
		// Whatever the umask is.
		if err := os.Chmod(name, file.Mode.Perm()); err != nil {
			return err
		}
	}
	return nil
}

func write(name string, file File) error {
	if file.Mode.IsDir() {
		return os.MkdirAll(name, file.Mode.Perm())
	}
	return os.WriteFile(name, file.Content, file.Mode.Perm())
}

// GOROOT returns the directory of the Go distribution that builds the module in
// a directory.
func GOROOT(ctx context.Context, directory string) (string, error) {
	command := exec.CommandContext(ctx, "go", "env", "GOROOT")
	command.Dir = directory
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	return strings.TrimSpace(string(output)), nil
}
