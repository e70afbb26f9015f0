// SPDX-License-Identifier: Apache-2.0

// Package checksums writes the checksums of a release, in the form that
// `sha256sum --check` takes.
package checksums

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// File is the name of the list.
const File = "SHA256SUMS"

// Write writes the list of all regular files below a directory into it, by name.
func Write(directory string) error {
	var list bytes.Buffer
	err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(directory, path)
		if err != nil || name == File {
			return err
		}
		name = filepath.ToSlash(name)
		if !entry.Type().IsRegular() {
			return fmt.Errorf("%s is not a regular file: a release has files only", name)
		}
		if strings.ContainsAny(name, "\\\n\r") {
			return fmt.Errorf("%q: a name with a backslash or a line break cannot be in %s", name, File)
		}
		sum, err := sumOf(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(&list, "%x  %s\n", sum, name)
		return nil
	})
	if err != nil {
		return err
	}
	if list.Len() == 0 {
		return errors.New(directory + " has no files")
	}
	return os.WriteFile(filepath.Join(directory, File), list.Bytes(), 0o644)
}

func sumOf(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return nil, err
	}
	return sum.Sum(nil), nil
}
