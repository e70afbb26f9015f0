// SPDX-License-Identifier: Apache-2.0

package images_test

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	containerd "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/platforms"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/hack/release/images"
)

// write writes the images of a program to a directory, which it returns.
func write(t *testing.T, program images.Program, registry string) (output string, index v1.ImageIndex) {
	t.Helper()
	output = t.TempDir()
	tag, err := images.Reference(registry, program, stamp)
	require.NoError(t, err)
	index = indexOf(t, program, "program")
	require.NoError(t, images.Write(output, program, tag, index))
	return output, index
}

func TestLayout_NamesOneIndex(t *testing.T) {
	t.Parallel()
	program := images.Programs()[0]
	output, index := write(t, program, "ghcr.io/metal-stack")
	top, err := layout.ImageIndexFromPath(images.Layout(output, program))
	require.NoError(t, err)
	require.NoError(t, validate.Index(top))
	manifest, err := top.IndexManifest()
	require.NoError(t, err)
	require.Len(t, manifest.Manifests, 1)
	assert.Equal(t, digestOf(t, index), manifest.Manifests[0].Digest.String())
	assert.Equal(t, map[string]string{
		"org.opencontainers.image.ref.name": stamp.Version,
		"io.containerd.image.name":          "ghcr.io/metal-stack/" + program.Name + ":" + stamp.Version,
	}, manifest.Manifests[0].Annotations)

	read, err := images.Read(output, program)
	require.NoError(t, err)
	assert.Equal(t, digestOf(t, index), digestOf(t, read))
}

// `ctr image import`, nerdctl and a Docker with containerd's image store read an archive by
// this package.
func TestArchive_IsImportedByContainerd(t *testing.T) {
	t.Parallel()
	program := images.Programs()[1]
	output, index := write(t, program, "docker.io/metalstack")
	store, err := local.NewStore(t.TempDir())
	require.NoError(t, err)
	file, err := os.Open(images.Archive(output, program))
	require.NoError(t, err)
	defer file.Close()
	top, err := archive.ImportIndex(t.Context(), store, file)
	require.NoError(t, err)

	children, err := containerd.Children(t.Context(), store, top)
	require.NoError(t, err)
	require.Len(t, children, 1)
	assert.Equal(t, digestOf(t, index), children[0].Digest.String())
	assert.Equal(t, "docker.io/metalstack/"+program.Name+":"+stamp.Version, children[0].Annotations[containerd.AnnotationImageName])
	for platform, image := range imagesOf(t, index) {
		want, err := image.Manifest()
		require.NoError(t, err)
		manifest, err := containerd.Manifest(t.Context(), store, children[0], platforms.OnlyStrict(platforms.MustParse(platform)))
		require.NoError(t, err)
		assert.Equal(t, want.Config.Digest.String(), manifest.Config.Digest.String(), platform)
		for _, layer := range append([]ocispec.Descriptor{manifest.Config}, manifest.Layers...) {
			info, err := store.Info(t.Context(), layer.Digest)
			require.NoError(t, err)
			assert.Equal(t, layer.Size, info.Size)
		}
	}
}

// `docker load` without containerd's image store goes by manifest.json.
func TestArchive_IsLoadedByDocker(t *testing.T) {
	t.Parallel()
	program := images.Programs()[0]
	output, index := write(t, program, "localhost:5000/metal")
	file := images.Archive(output, program)
	manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(file) })
	require.NoError(t, err)
	require.Len(t, manifest, 2)
	for _, entry := range manifest {
		require.Len(t, entry.RepoTags, 1)
		tag, err := name.NewTag(entry.RepoTags[0])
		require.NoError(t, err)
		image, err := tarball.ImageFromPath(file, &tag)
		require.NoError(t, err)
		require.NoError(t, validate.Image(image), "each layer is what the configuration says")
		config, err := image.ConfigFile()
		require.NoError(t, err)
		assert.Equal(t, "localhost:5000/metal/"+program.Name+":"+stamp.Version+"-"+config.Architecture, entry.RepoTags[0])
		want, err := imagesOf(t, index)[config.Platform().String()].ConfigName()
		require.NoError(t, err)
		got, err := image.ConfigName()
		require.NoError(t, err)
		assert.Equal(t, want, got, "Docker's id of the image")
	}
}

func TestArchive_IsTheSameEachTime(t *testing.T) {
	t.Parallel()
	program := images.Programs()[0]
	sum := func(output string) string {
		content, err := os.ReadFile(images.Archive(output, program))
		require.NoError(t, err)
		hash := sha256.Sum256(content)
		return hex.EncodeToString(hash[:])
	}
	first, index := write(t, program, "ghcr.io/metal-stack")
	second, _ := write(t, program, "ghcr.io/metal-stack")
	assert.Equal(t, sum(first), sum(second))

	// What another version left is not in the archive.
	tag, err := images.Reference("ghcr.io/metal-stack", program, stamp)
	require.NoError(t, err)
	require.NoError(t, images.Write(second, program, tag, indexOf(t, program, "another")))
	require.NoError(t, images.Write(second, program, tag, index))
	assert.Equal(t, sum(first), sum(second))
}

func TestArchive_HoldsTheLayoutAndDockersManifest(t *testing.T) {
	t.Parallel()
	program := images.Programs()[0]
	output, _ := write(t, program, "ghcr.io/metal-stack")
	file, err := os.Open(images.Archive(output, program))
	require.NoError(t, err)
	defer file.Close()
	beside := 0
	for reader := tar.NewReader(file); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		assert.Zero(t, header.ModTime.Unix(), header.Name)
		assert.Zero(t, header.Uid|header.Gid, header.Name)
		if header.Typeflag == tar.TypeDir {
			continue
		}
		got, err := io.ReadAll(reader)
		require.NoError(t, err)
		want, err := os.ReadFile(filepath.Join(images.Layout(output, program), header.Name))
		if header.Name == "manifest.json" {
			require.ErrorIs(t, err, os.ErrNotExist)
			require.True(t, json.Valid(got))
			beside++
			continue
		}
		require.NoError(t, err)
		assert.Equal(t, want, got, header.Name)
	}
	assert.Equal(t, 1, beside)
}
