// SPDX-License-Identifier: Apache-2.0

package images

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Annotations of what index.json names: the first is OCI's, for skopeo and podman, the
// second containerd's, for ctr, nerdctl and Docker.
const (
	annotationTag  = "org.opencontainers.image.ref.name"
	annotationName = "io.containerd.image.name"
)

// Layout returns the directory below a release's output that has a program's images
// in OCI's image layout.
func Layout(output string, program Program) string {
	return filepath.Join(output, "images", program.Name)
}

// Archive returns the file below a release's output that has the same in one file.
func Archive(output string, program Program) string {
	return Layout(output, program) + ".tar"
}

// Write writes a program's images below output, as layout and as archive, in the
// place of what is there.
func Write(output string, program Program, tag name.Tag, index v1.ImageIndex) error {
	directory := Layout(output, program)
	if err := os.RemoveAll(directory); err != nil {
		return err
	}
	path, err := layout.Write(directory, empty.Index)
	if err != nil {
		return err
	}
	annotations := map[string]string{annotationTag: tag.TagStr(), annotationName: imageName(tag)}
	if err := path.AppendIndex(index, layout.WithAnnotations(annotations)); err != nil {
		return fmt.Errorf("failed to write the images of %s: %w", program.Name, err)
	}
	manifest, err := dockerManifest(tag, index)
	if err != nil {
		return err
	}
	if err := writeArchive(Archive(output, program), directory, manifest); err != nil {
		return fmt.Errorf("failed to write the archive of %s: %w", program.Name, err)
	}
	return nil
}

// Read returns the images that Write has written.
func Read(output string, program Program) (v1.ImageIndex, error) {
	top, err := layout.ImageIndexFromPath(Layout(output, program))
	if err != nil {
		return nil, err
	}
	manifest, err := top.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("%s has %d images: must be one index", Layout(output, program), len(manifest.Manifests))
	}
	return top.ImageIndex(manifest.Manifests[0].Digest)
}

// dockerManifest returns manifest.json, by which a Docker without containerd's image
// store loads an archive. A name stands for one image there, so each platform
// has a name of its own.
func dockerManifest(tag name.Tag, index v1.ImageIndex) ([]byte, error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	var entries tarball.Manifest
	for _, descriptor := range manifest.Manifests {
		image, err := index.Image(descriptor.Digest)
		if err != nil {
			return nil, err
		}
		parts, err := image.Manifest()
		if err != nil {
			return nil, err
		}
		entry := tarball.Descriptor{
			Config:   blob(parts.Config.Digest),
			RepoTags: []string{imageName(tag) + "-" + descriptor.Platform.Architecture},
		}
		for _, layer := range parts.Layers {
			entry.Layers = append(entry.Layers, blob(layer.Digest))
		}
		entries = append(entries, entry)
	}
	return json.Marshal(entries)
}

func blob(digest v1.Hash) string { return "blobs/" + digest.Algorithm + "/" + digest.Hex }

// writeArchive writes a file with all of a layout and manifest.json.
func writeArchive(file, directory string, manifest []byte) (err error) {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() {
		if closed := out.Close(); err == nil {
			err = closed
		}
	}()
	writer := tar.NewWriter(out)
	// In the order of names.
	err = filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == directory {
			return err
		}
		relative, err := filepath.Rel(directory, path)
		if err != nil {
			return err
		}
		return addToArchive(writer, path, filepath.ToSlash(relative), entry)
	})
	if err != nil {
		return err
	}
	if err := writer.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "manifest.json", Mode: 0o644, Size: int64(len(manifest)), ModTime: epoch, Format: tar.FormatUSTAR}); err != nil {
		return err
	}
	if _, err := writer.Write(manifest); err != nil {
		return err
	}
	return writer.Close()
}

func addToArchive(writer *tar.Writer, path, name string, entry fs.DirEntry) error {
	if entry.IsDir() {
		return writer.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: epoch, Format: tar.FormatUSTAR})
	}
	info, err := entry.Info()
	if err != nil {
		return err
	}
	if err := writer.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: info.Size(), ModTime: epoch, Format: tar.FormatUSTAR}); err != nil {
		return err
	}
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = io.Copy(writer, in)
	return err
}
