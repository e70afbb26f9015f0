// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/buildinfo"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/hack/release/build"
	"metal-stack.io/infrastructure-apiserver/hack/release/images"
	"metal-stack.io/infrastructure-apiserver/hack/release/rootfs"
)

// run runs a command of release, and returns what it prints.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	command := newCommand()
	command.SetArgs(append(args, "--source", "../.."))
	var out bytes.Buffer
	command.SetOut(&out)
	command.SetErr(&out)
	err := command.ExecuteContext(t.Context())
	return out.String(), err
}

// writeImages writes the images of all programs, for one platform, whose program is what
// compile makes.
func writeImages(t *testing.T, o *options, programs []images.Program, compile images.Compiler) {
	t.Helper()
	goroot, err := rootfs.GOROOT(t.Context(), ".")
	require.NoError(t, err)
	builder, err := images.NewBuilder(goroot, o.stamp, time.Unix(0, 0), []build.Platform{{OS: "linux", Arch: "amd64"}}, compile)
	require.NoError(t, err)
	for _, program := range programs {
		index, err := builder.Index(t.Context(), program)
		require.NoError(t, err)
		tag, err := images.Reference(o.registry, program, o.stamp)
		require.NoError(t, err)
		require.NoError(t, images.Write(o.output, program, tag, index))
	}
}

// The bill is of the program in the image, and has what is linked into that.
func TestSBOM_IsOfTheProgramInTheImage(t *testing.T) {
	t.Parallel()
	o := &options{source: "../..", output: t.TempDir(), registry: "registry.example/metal", stamp: build.Stamp{Version: "v0.1.0"}}
	var program string
	writeImages(t, o, images.Programs()[2:], func(ctx context.Context, directory, name string, platform build.Platform) (string, error) {
		var err error
		program, err = build.Program(ctx, "../..", t.TempDir(), name, platform, o.stamp)
		return program, err
	})
	out, err := run(t, "sbom", "--tag", "v0.1.0", "--output", o.output, "--registry", o.registry)
	require.NoError(t, err)
	file := filepath.Join(o.output, "metal-api-simulator_linux_amd64.cdx.json")
	assert.Equal(t, file+"\n", out)

	content, err := os.Open(file)
	require.NoError(t, err)
	defer func() { _ = content.Close() }()
	var bill cdx.BOM
	require.NoError(t, cdx.NewBOMDecoder(content, cdx.BOMFileFormatJSON).Decode(&bill))
	versions := map[string]string{}
	for _, component := range *bill.Components {
		versions[component.Name] = component.Version
	}
	info, err := buildinfo.ReadFile(program)
	require.NoError(t, err)
	for _, module := range info.Deps {
		assert.Equal(t, module.Version, versions[module.Path], module.Path)
	}
	for _, name := range []string{"std", "ca-certificates", "tzdata"} {
		assert.NotEmpty(t, versions[name], name)
	}
	assert.Len(t, versions, len(info.Deps)+4, "and the program itself")
}

func TestSBOM_NeedsImagesOrArchives(t *testing.T) {
	t.Parallel()
	_, err := run(t, "sbom", "--tag", "v0.1.0", "--output", t.TempDir())
	assert.ErrorContains(t, err, "has no images and no archives of kubectl-metal: make them first")
}

// fakeRelease writes the images of a release whose programs are texts.
func fakeRelease(t *testing.T, o options) *release {
	t.Helper()
	made := &release{options: o}
	made.output = filepath.Join(o.output, o.stamp.Version)
	writeImages(t, &made.options, images.Programs(), func(_ context.Context, directory, name string, _ build.Platform) (string, error) {
		file := filepath.Join(directory, name)
		return file, os.WriteFile(file, []byte(name), 0o600)
	})
	require.NoError(t, made.listImages())
	require.NoError(t, os.RemoveAll(filepath.Join(made.output, "images")))
	return made
}

// What is pushed is what the release's files have, and where its manifests say.
func TestPush_TakesTheFilesOfARelease(t *testing.T) {
	t.Parallel()
	server, mirror := httptest.NewServer(registry.New()), httptest.NewServer(registry.New())
	defer server.Close()
	defer mirror.Close()
	prefix := func(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") + "/metal" }
	made := fakeRelease(t, options{source: "../..", output: t.TempDir(), registry: prefix(server), stamp: build.Stamp{Version: "v0.1.0"}})
	dist := filepath.Dir(made.output)
	out, err := run(t, "push", "--tag", "v0.1.0", "--output", dist)
	require.NoError(t, err)
	mirrored, err := run(t, "push", "--tag", "v0.1.0", "--output", dist, "--registry", prefix(mirror))
	require.NoError(t, err)
	assert.NotContains(t, out, "note:")
	assert.Contains(t, mirrored, "name "+prefix(server)+"/metalstack-apiserver and others beside it, and these are pushed to "+prefix(mirror))
	assert.Equal(t, 1, strings.Count(mirrored, "note:"))
	refused, err := run(t, "push", "--tag", "v0.1.0", "--output", dist, "--registry", "me:the-key@"+prefix(mirror))
	require.ErrorContains(t, err, "--registry: invalid registry")
	assert.NotContains(t, refused+err.Error(), "the-key")

	list, err := os.ReadFile(filepath.Join(made.output, imagesFile))
	require.NoError(t, err)
	lines := strings.Fields(string(list))
	require.Len(t, lines, len(images.Programs()))
	for _, line := range lines {
		reference, digest, _ := strings.Cut(line, "@")
		assert.Contains(t, out, "pushed "+reference)
		assert.Equal(t, digest, made.digests[strings.TrimSuffix(reference[strings.LastIndex(reference, "/")+1:], ":v0.1.0")])
		for _, reference := range []string{reference, strings.Replace(reference, prefix(server), prefix(mirror), 1)} {
			tag, err := name.NewTag(reference)
			require.NoError(t, err)
			pushed, err := remote.Index(tag)
			require.NoError(t, err)
			hash, err := pushed.Digest()
			require.NoError(t, err)
			assert.Equal(t, digest, hash.String())
		}
	}

	_, err = run(t, "push", "--tag", "v0.1.1", "--output", dist)
	assert.ErrorContains(t, err, "make release TAG=v0.1.1")
}

func TestPush_RefusesImagesThatManifestsDoNotName(t *testing.T) {
	t.Parallel()
	made := fakeRelease(t, options{source: "../..", output: t.TempDir(), registry: "localhost:1/metal", stamp: build.Stamp{Version: "v0.1.0"}})
	first, second := filepath.Join(made.output, imageArchive(images.Programs()[0])), filepath.Join(made.output, imageArchive(images.Programs()[1]))
	require.NoError(t, os.Rename(second, first))
	_, err := run(t, "push", "--tag", "v0.1.0", "--output", filepath.Dir(made.output))
	assert.ErrorContains(t, err, first+": it has the digest "+made.digests[images.Programs()[1].Name])
}

// A rehearsal in the place of a release would keep the release from being published.
func TestPush_RefusesToPublishARehearsal(t *testing.T) {
	t.Parallel()
	made := fakeRelease(t, options{source: "../..", output: t.TempDir(), registry: published, stamp: build.Stamp{Version: "v0.99.0", Commit: strings.Repeat("0c", 20)}})
	_, err := run(t, "push", "--tag", "v0.99.0", "--output", filepath.Dir(made.output))
	require.ErrorContains(t, err, "a rehearsal is not pushed to ghcr.io/metal-stack: v0.99.0 is not a tag of HEAD")
	assert.ErrorContains(t, err, "it was made from 0c0c0c0c0c0c, and HEAD is")
}

// An archive of a release that was tampered with writes no file elsewhere.
func TestUnpack_StaysInItsDirectory(t *testing.T) {
	t.Parallel()
	for _, header := range []tar.Header{
		{Name: "../thief", Typeflag: tar.TypeReg},
		{Name: "/thief", Typeflag: tar.TypeReg},
		{Name: "link", Typeflag: tar.TypeSymlink, Linkname: ".."},
	} {
		work := t.TempDir()
		var content bytes.Buffer
		writer := tar.NewWriter(&content)
		require.NoError(t, writer.WriteHeader(&header))
		require.NoError(t, writer.Close())
		file := filepath.Join(work, "a.tar")
		require.NoError(t, os.WriteFile(file, content.Bytes(), 0o600))
		assert.Error(t, unpack(file, filepath.Join(work, "to")), header.Name)
		assert.Equal(t, []string{"a.tar", "to"}, names(t, work))
		assert.Empty(t, names(t, filepath.Join(work, "to")))
	}
}

// They fail before anything is built.
func TestAll_RefusesWhatIsNoRelease(t *testing.T) {
	t.Parallel()
	dist := t.TempDir()
	for message, args := range map[string][]string{
		"v0.99.0 is not a tag of HEAD":      {"--tag", "v0.99.0"},
		"rehearse with --rehearse":          {"--tag", "v0.99.0"},
		"no releaseSeries for v47.11":       {"--tag", "v47.11.0", "--rehearse"},
		"--tag: invalid version \"latest\"": {"--tag", "latest"},
		"--platforms: unsupported platform": {"--tag", "v0.1.0", "--platforms", "plan9/386"},
		"--registry: invalid registry":      {"--tag", "v0.1.0", "--registry", "metal-stack"},
	} {
		_, err := run(t, append([]string{"all", "--output", dist}, args...)...)
		assert.ErrorContains(t, err, message)
	}
	assert.Empty(t, names(t, dist))
}

func TestNotes_SayHowToMakeTheSection(t *testing.T) {
	t.Parallel()
	output := t.TempDir()
	_, err := run(t, "notes", "--tag", "v0.99.0", "--output", output)
	require.ErrorContains(t, err, "CHANGELOG.md has no section v0.99.0")
	require.ErrorContains(t, err, "bin/release changelog --tag v0.99.0")
	assert.Empty(t, names(t, output))
	_, err = run(t, "changelog", "--tag", "v0.99.0", "--date", "29.11.2026")
	assert.ErrorContains(t, err, `--date: invalid date "29.11.2026"`)
}

// What changelog writes, notes reads.
func TestChangelog_MakesTheSectionOfNotes(t *testing.T) {
	t.Parallel()
	source := t.TempDir()
	file := filepath.Join(source, "CHANGELOG.md")
	require.NoError(t, os.WriteFile(file, []byte("# Changelog\n\n## Unreleased\n\n- New.\n"), 0o600))
	for _, args := range [][]string{{"changelog", "--date", "2026-11-29"}, {"notes", "--output", source}} {
		command := newCommand()
		command.SetArgs(append(args, "--tag", "v0.1.0", "--source", source))
		command.SetOut(&bytes.Buffer{})
		require.NoError(t, command.ExecuteContext(t.Context()))
	}
	changelog, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, "# Changelog\n\n## Unreleased\n\n## v0.1.0 - 2026-11-29\n\n- New.\n", string(changelog))
	notes, err := os.ReadFile(filepath.Join(source, notesFile))
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(string(notes), "- New.\n"))
}
