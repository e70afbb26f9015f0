// SPDX-License-Identifier: Apache-2.0

package sbom

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// FromImage returns the content of a file in the root directory of an image, so that a
// bill is of what is released, and not of what was built.
func FromImage(image v1.Image, name string) ([]byte, error) {
	files := mutate.Extract(image)
	defer func() { _ = files.Close() }()
	return fromTar(files, name)
}

// FromArchive returns the content of a file at the root of a .tar.gz.
func FromArchive(in io.Reader, name string) ([]byte, error) {
	files, err := gzip.NewReader(in)
	if err != nil {
		return nil, err
	}
	return fromTar(files, name)
}

func fromTar(in io.Reader, name string) ([]byte, error) {
	for files := tar.NewReader(in); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("it has no file %s", name)
		}
		if err != nil {
			return nil, err
		}
		if path.Clean("/"+header.Name) == "/"+name {
			return io.ReadAll(files)
		}
	}
}
