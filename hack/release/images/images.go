// SPDX-License-Identifier: Apache-2.0

// Package images makes container images without a container engine: the same
// bytes from the same source with the same Go. An image holds a program and the
// files of package rootfs, and nothing else.
package images

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"metal-stack.io/infrastructure-apiserver/hack/release/build"
	"metal-stack.io/infrastructure-apiserver/hack/release/rootfs"
)

// A Program is one that has an image.
type Program struct {
	// Name is that of the program and of its image.
	Name string
	// Description is the image's.
	Description string
}

// Programs returns all programs that have images.
func Programs() []Program {
	return []Program{
		{Name: "metalstack-apiserver", Description: "Serves Cluster API infrastructure kinds from a metal-api"},
		{Name: "metalstack-controller-manager", Description: "Allocates and releases what the kinds of metalstack-apiserver ask for"},
		{Name: "metal-api-simulator", Description: "A metal-api with simulated machines, for tests and demonstrations"},
	}
}

// Platforms returns the platforms of an image.
func Platforms() []build.Platform {
	return []build.Platform{{OS: "linux", Arch: "amd64"}, {OS: "linux", Arch: "arm64"}}
}

// A Compiler writes a program for a platform into a directory, and returns its path.
type Compiler func(ctx context.Context, directory, name string, platform build.Platform) (string, error)

// A Builder builds images of one version.
type Builder struct {
	stamp     build.Stamp
	created   time.Time
	platforms []build.Platform
	compile   Compiler
	base      v1.Layer
}

// NewBuilder returns a Builder for some platforms. Images hold the time zones of
// the Go distribution in goroot, and say that they were created at a time, which
// is that of the commit or another one that does not change from build to build.
func NewBuilder(goroot string, stamp build.Stamp, created time.Time, platforms []build.Platform, compile Compiler) (*Builder, error) {
	files, err := rootfs.Files(goroot)
	if err != nil {
		return nil, err
	}
	base, err := layerOf(files)
	if err != nil {
		return nil, err
	}
	return &Builder{stamp: stamp, created: created.UTC().Truncate(time.Second), platforms: platforms, compile: compile, base: base}, nil
}

// Index builds the images of a program, one for each platform.
func (b *Builder) Index(ctx context.Context, program Program) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, platform := range b.platforms {
		image, err := b.image(ctx, program, platform)
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: platform.OS, Architecture: platform.Arch}},
		})
	}
	annotated, ok := mutate.Annotations(index, labels(program, b.stamp)).(v1.ImageIndex)
	if !ok {
		return nil, fmt.Errorf("failed to annotate the images of %s", program.Name)
	}
	return newPortableIndex(annotated)
}

func (b *Builder) image(ctx context.Context, program Program, platform build.Platform) (v1.Image, error) {
	layer, err := b.programLayer(ctx, program, platform)
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	created := v1.Time{Time: b.created}
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{
		OS: platform.OS, Architecture: platform.Arch,
		Created: created,
		Config:  Config(program, b.stamp),
		RootFS:  v1.RootFS{Type: "layers"},
	})
	if err != nil {
		return nil, err
	}
	image, err = mutate.Append(image,
		mutate.Addendum{Layer: b.base, MediaType: types.OCILayer, History: v1.History{Created: created, CreatedBy: "hack/release/rootfs"}},
		mutate.Addendum{Layer: layer, MediaType: types.OCILayer, History: v1.History{Created: created, CreatedBy: "go build ./cmd/" + program.Name}})
	if err != nil {
		return nil, err
	}
	annotated, ok := mutate.Annotations(image, labels(program, b.stamp)).(v1.Image)
	if !ok {
		return nil, fmt.Errorf("failed to annotate the image of %s", program.Name)
	}
	return annotated, nil
}

func (b *Builder) programLayer(ctx context.Context, program Program, platform build.Platform) (v1.Layer, error) {
	directory, err := os.MkdirTemp("", "image-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(directory)
	file, err := b.compile(ctx, directory, program.Name, platform)
	if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return layerOf([]rootfs.File{{Path: program.Name, Mode: 0o755, Content: content}})
}

// Config returns how a container of a program's image is started. The Dockerfile
// says the same.
func Config(program Program, stamp build.Stamp) v1.Config {
	user := strconv.Itoa(rootfs.User)
	return v1.Config{
		User:       user + ":" + user,
		Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Entrypoint: []string{"/" + program.Name},
		WorkingDir: "/",
		Labels:     labels(program, stamp),
	}
}

func labels(program Program, stamp build.Stamp) map[string]string {
	const prefix = "org.opencontainers.image."
	return map[string]string{
		prefix + "source":      "https://github.com/metal-stack/metalstack-apiserver",
		prefix + "version":     stamp.Version,
		prefix + "revision":    stamp.Commit,
		prefix + "licenses":    "Apache-2.0",
		prefix + "title":       program.Name,
		prefix + "description": program.Description,
	}
}
