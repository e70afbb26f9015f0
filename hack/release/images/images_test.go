// SPDX-License-Identifier: Apache-2.0

package images_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/hack/release/build"
	"metal-stack.io/infrastructure-apiserver/hack/release/images"
	"metal-stack.io/infrastructure-apiserver/hack/release/rootfs"
)

var (
	stamp   = build.Stamp{Version: "v0.1.0-test.1", Commit: "0123456789abcdef0123456789abcdef01234567"}
	created = time.Date(2026, 11, 29, 20, 0, 0, 0, time.UTC)
)

// source is the root of the repository.
func source(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", "..", ".."))
	require.NoError(t, err)
	return root
}

func newBuilder(t *testing.T, platforms []build.Platform, compile images.Compiler) *images.Builder {
	t.Helper()
	goroot, err := rootfs.GOROOT(t.Context(), ".")
	require.NoError(t, err)
	builder, err := images.NewBuilder(goroot, stamp, created, platforms, compile)
	require.NoError(t, err)
	return builder
}

// writing stands for a compiler: its programs say what they were built for.
func writing(content string) images.Compiler {
	return func(_ context.Context, directory, name string, platform build.Platform) (string, error) {
		path := filepath.Join(directory, name)
		return path, os.WriteFile(path, []byte(content+" for "+platform.String()), 0o600)
	}
}

// builders are of programs whose content is text, one for each.
var builders sync.Map

// indexOf returns the images of a program whose content is text.
func indexOf(t *testing.T, program images.Program, content string) v1.ImageIndex {
	t.Helper()
	builder, ok := builders.Load(content)
	if !ok {
		builder, _ = builders.LoadOrStore(content, newBuilder(t, images.Platforms(), writing(content)))
	}
	index, err := builder.(*images.Builder).Index(t.Context(), program)
	require.NoError(t, err)
	return index
}

func digestOf(t *testing.T, index v1.ImageIndex) string {
	t.Helper()
	digest, err := index.Digest()
	require.NoError(t, err)
	return digest.String()
}

// imagesOf returns the images of an index by platform.
func imagesOf(t *testing.T, index v1.ImageIndex) map[string]v1.Image {
	t.Helper()
	manifest, err := index.IndexManifest()
	require.NoError(t, err)
	byPlatform := map[string]v1.Image{}
	for _, descriptor := range manifest.Manifests {
		image, err := index.Image(descriptor.Digest)
		require.NoError(t, err)
		byPlatform[descriptor.Platform.String()] = image
	}
	return byPlatform
}

func TestPrograms_AreAllOfThisProject(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir(filepath.Join(source(t), "cmd"))
	require.NoError(t, err)
	var want, got []string
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), "kubectl-") { // A plugin runs where kubectl does.
			want = append(want, entry.Name())
		}
	}
	for _, program := range images.Programs() {
		got = append(got, program.Name)
		assert.NotEmpty(t, program.Description, program.Name)
	}
	assert.ElementsMatch(t, want, got)
}

// TestIndex_IsTheSameWhenSkopeoWritesIt: skopeo 1.9 decodes an index and encodes it without what
// it does not know, artifactType of images among it.
func TestIndex_IsTheSameWhenSkopeoWritesIt(t *testing.T) {
	t.Parallel()
	index := indexOf(t, images.Programs()[0], "text")
	raw, err := index.RawManifest()
	require.NoError(t, err)
	type descriptor struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Size        int64             `json:"size"`
		Annotations map[string]string `json:"annotations,omitempty"`
		Platform    struct {
			Architecture string `json:"architecture"`
			OS           string `json:"os"`
		} `json:"platform"`
	}
	var known struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Manifests     []descriptor      `json:"manifests"`
		Annotations   map[string]string `json:"annotations,omitempty"`
	}
	require.NoError(t, json.Unmarshal(raw, &known))
	again, err := json.Marshal(known)
	require.NoError(t, err)
	assert.Equal(t, string(raw), string(again))
	sum, size, err := v1.SHA256(bytes.NewReader(raw))
	require.NoError(t, err)
	assert.Equal(t, sum.String(), digestOf(t, index))
	indexSize, err := index.Size()
	require.NoError(t, err)
	assert.Equal(t, size, indexSize)
}

func TestIndex_HasOneImageForEachPlatform(t *testing.T) {
	t.Parallel()
	program := images.Programs()[0]
	index := indexOf(t, program, "program")

	manifest, err := index.IndexManifest()
	require.NoError(t, err)
	labels := map[string]string{
		"org.opencontainers.image.source":      "https://github.com/metal-stack/metalstack-apiserver",
		"org.opencontainers.image.version":     stamp.Version,
		"org.opencontainers.image.revision":    stamp.Commit,
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.title":       program.Name,
		"org.opencontainers.image.description": program.Description,
	}
	assert.Equal(t, types.OCIImageIndex, manifest.MediaType)
	assert.Equal(t, labels, manifest.Annotations)

	byPlatform := imagesOf(t, index)
	require.Len(t, byPlatform, 2)
	var base []v1.Hash
	for _, platform := range []string{"linux/amd64", "linux/arm64"} {
		image := byPlatform[platform]
		require.NotNil(t, image, platform)
		config, err := image.ConfigFile()
		require.NoError(t, err)
		assert.Equal(t, platform, config.Platform().String())
		assert.Equal(t, created, config.Created.Time)
		assert.Equal(t, "65532:65532", config.Config.User)
		assert.Equal(t, []string{"/" + program.Name}, config.Config.Entrypoint)
		assert.Equal(t, labels, config.Config.Labels)
		parts, err := image.Manifest()
		require.NoError(t, err)
		assert.Equal(t, types.OCIManifestSchema1, parts.MediaType)
		assert.Equal(t, types.OCIConfigJSON, parts.Config.MediaType)
		assert.Equal(t, labels, parts.Annotations)
		require.Len(t, parts.Layers, 2)
		base = append(base, parts.Layers[0].Digest)

		files := filesOf(t, image)
		assert.Equal(t, "program for "+platform, files[program.Name])
		assert.Contains(t, files, "etc/passwd")
		assert.Contains(t, files, rootfs.Certificates)
		assert.Contains(t, files, "usr/share/zoneinfo/Europe/Berlin")
	}
	assert.Equal(t, base[0], base[1], "all platforms share the layer beside the program")
}

// filesOf returns the content of the files of an image, of which each is root's, older
// than any build, and for root alone to change.
func filesOf(t *testing.T, image v1.Image) map[string]string {
	t.Helper()
	layers, err := image.Layers()
	require.NoError(t, err)
	files, seen := map[string]string{}, map[string]bool{".": true}
	for _, layer := range layers {
		content, err := layer.Uncompressed()
		require.NoError(t, err)
		defer content.Close()
		for reader := tar.NewReader(content); ; {
			header, err := reader.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			name := strings.TrimSuffix(header.Name, "/")
			assert.True(t, filepath.IsLocal(name), name)
			assert.True(t, seen[filepath.Dir(name)], "%s comes before its directory", name)
			assert.False(t, seen[name], "%s is there twice", name)
			seen[name] = true
			assert.Zero(t, header.Uid|header.Gid, name)
			assert.Empty(t, header.Uname+header.Gname, name)
			assert.Zero(t, header.ModTime.Unix(), name)
			assert.Zero(t, header.Mode&0o7022, "%s: %o: only root may write, and no program changes its user", name, header.Mode)
			switch header.Typeflag {
			case tar.TypeDir:
			case tar.TypeReg:
				text, err := io.ReadAll(reader)
				require.NoError(t, err)
				files[name] = string(text)
			default:
				assert.Fail(t, "neither file nor directory", "%s: %c", name, header.Typeflag)
			}
		}
	}
	return files
}

// The module to build is a small one, in two directories of different names.
func TestIndex_IsTheSameFromEachDirectory(t *testing.T) {
	t.Parallel()
	program := images.Programs()[0]
	digest := func(directory string) string {
		for path, content := range map[string]string{
			"go.mod": "module metal-stack.io/infrastructure-apiserver\n\ngo 1.26.0\n",
			"cmd/" + program.Name + "/main.go": "package main\n\nimport \"metal-stack.io/infrastructure-apiserver/pkg/version\"\n\n" +
				"func main() { println(version.Get()); panic(\"a trace with the path of this file\") }\n",
			"pkg/version/version.go": "package version\n\nvar version string\n\nfunc Get() string { return version }\n",
		} {
			path = filepath.Join(directory, path)
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		}
		compile := func(ctx context.Context, to, name string, platform build.Platform) (string, error) {
			return build.Program(ctx, directory, to, name, platform, stamp)
		}
		index, err := newBuilder(t, []build.Platform{{OS: "linux", Arch: "amd64"}}, compile).Index(t.Context(), program)
		require.NoError(t, err)
		binary := filesOf(t, imagesOf(t, index)["linux/amd64"])[program.Name]
		assert.Contains(t, binary, stamp.Version)
		assert.NotContains(t, binary, directory)
		return digestOf(t, index)
	}
	assert.Equal(t, digest(filepath.Join(t.TempDir(), "a")), digest(filepath.Join(t.TempDir(), "another")))
}

func TestIndex_DiffersWithContentAndVersion(t *testing.T) {
	t.Parallel()
	program := images.Programs()[0]
	first := digestOf(t, indexOf(t, program, "program"))
	assert.Equal(t, first, digestOf(t, indexOf(t, program, "program")))
	assert.NotEqual(t, first, digestOf(t, indexOf(t, program, "another")))
	assert.NotEqual(t, first, digestOf(t, indexOf(t, images.Programs()[1], "program")))
}

func TestIndex_ReportsWhatDoesNotCompile(t *testing.T) {
	t.Parallel()
	broken := errors.New("undefined: x")
	compile := func(context.Context, string, string, build.Platform) (string, error) { return "", broken }
	_, err := newBuilder(t, images.Platforms(), compile).Index(t.Context(), images.Programs()[0])
	assert.ErrorIs(t, err, broken)
}

func TestNewBuilder_ReportsAGoDistributionWithoutTimeZones(t *testing.T) {
	t.Parallel()
	_, err := images.NewBuilder(t.TempDir(), stamp, created, images.Platforms(), writing(""))
	assert.ErrorContains(t, err, "zoneinfo.zip")
}
