// SPDX-License-Identifier: Apache-2.0

package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"metal-stack.io/infrastructure-apiserver/hack/release/rootfs"
)

// epoch is when all files were last changed, as images tell it: the same content
// is the same layer, in whichever release.
var epoch = time.Unix(0, 0)

// layerOf returns a layer of files, which are root's.
func layerOf(files []rootfs.File) (v1.Layer, error) {
	var content bytes.Buffer
	writer := tar.NewWriter(&content)
	for _, file := range files {
		header := &tar.Header{
			Typeflag: tar.TypeReg, Name: file.Path, Size: int64(len(file.Content)),
			Mode: int64(file.Mode.Perm()), ModTime: epoch, Format: tar.FormatUSTAR,
		}
		if file.Mode.IsDir() {
			header.Typeflag, header.Name = tar.TypeDir, file.Path+"/"
		}
		if err := writer.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := writer.Write(file.Content); err != nil {
			return nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.DefaultCompression), tarball.WithCompressedCaching)
}
