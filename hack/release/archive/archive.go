// SPDX-License-Identifier: Apache-2.0

// Package archive writes archives that are the same bytes for the same files: no
// times, owners or other traces of the machine that made them.
package archive

import (
	"archive/tar"
	"compress/gzip"
	"io"
	"time"
)

// File is one in an archive.
type File struct {
	// Name is its path there, with slashes.
	Name string
	// Content are its bytes.
	Content []byte
	// Executable says that it can be run.
	Executable bool
}

// Write writes files as .tar.gz, in the order given.
func Write(out io.Writer, files []File) error {
	compressed, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(compressed)
	for _, file := range files {
		header := tar.Header{Typeflag: tar.TypeReg, Name: file.Name, Size: int64(len(file.Content)), Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		if file.Executable {
			header.Mode = 0o755
		}
		if err := archive.WriteHeader(&header); err != nil {
			return err
		}
		if _, err := archive.Write(file.Content); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return compressed.Close()
}
