// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/spf13/cobra"

	"metal-stack.io/infrastructure-apiserver/hack/release/build"
	"metal-stack.io/infrastructure-apiserver/hack/release/images"
	"metal-stack.io/infrastructure-apiserver/hack/release/licences"
	"metal-stack.io/infrastructure-apiserver/hack/release/plugin"
	"metal-stack.io/infrastructure-apiserver/hack/release/rootfs"
	"metal-stack.io/infrastructure-apiserver/hack/release/sbom"
)

func newSBOMCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "sbom",
		Short: "Write bills of materials (CycloneDX) of the images and archives in the output directory",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return writeBills(command.Context(), o, func(file string) {
				fmt.Fprintln(command.OutOrStdout(), filepath.Join(o.output, file))
			})
		},
	}
}

// writeBills writes a bill for each image, and for each archive of kubectl-metal.
func writeBills(ctx context.Context, o *options, made func(string)) error {
	created, err := sourceDate()
	if err != nil {
		return err
	}
	finder, err := licences.NewFinder()
	if err != nil {
		return err
	}
	b := bills{options: o, made: made, generator: sbom.Generator{Version: o.stamp.Version, Licences: finder}}
	if created.Unix() > 0 {
		b.generator.Created = created
	}
	if b.files, err = imageFiles(ctx, o.source); err != nil {
		return err
	}
	for _, program := range images.Programs() {
		if err := b.ofImages(program); err != nil {
			return fmt.Errorf("images of %s: %w", program.Name, err)
		}
	}
	for _, platform := range plugin.Platforms {
		if err := b.ofArchive(platform); err != nil {
			return fmt.Errorf("%s: %w", plugin.Archive(platform), err)
		}
	}
	if b.written == 0 {
		return fmt.Errorf("%s has no images and no archives of kubectl-metal: make them first, with bin/release images and bin/release plugin", o.output)
	}
	return nil
}

// bills writes the bills of a release.
type bills struct {
	*options
	generator sbom.Generator
	// files are what images have beside their programs.
	files   []cdx.Component
	made    func(string)
	written int
}

func (b *bills) ofImages(program images.Program) error {
	index, err := images.Read(b.output, program)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	tag, err := images.Reference(b.registry, program, b.stamp)
	if err != nil {
		return fmt.Errorf("--registry: %w", err)
	}
	for _, descriptor := range manifest.Manifests {
		image, err := index.Image(descriptor.Digest)
		if err != nil {
			return err
		}
		content, err := sbom.FromImage(image, program.Name)
		if err != nil {
			return err
		}
		platform := build.Platform{OS: descriptor.Platform.OS, Arch: descriptor.Platform.Architecture}
		bill, err := b.generator.OfImage(sbom.Program{Name: program.Name, Platform: platform, Content: content},
			sbom.Image{Repository: tag.Repository.Name(), Digest: descriptor.Digest.String(), Files: b.files})
		if err != nil {
			return err
		}
		if err := b.write(program.Name, platform, bill); err != nil {
			return err
		}
	}
	return nil
}

func (b *bills) ofArchive(platform build.Platform) error {
	file, err := os.Open(filepath.Join(b.output, plugin.Archive(platform)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	content, err := sbom.FromArchive(file, plugin.Executable(platform))
	if err != nil {
		return err
	}
	bill, err := b.generator.OfProgram(sbom.Program{Name: plugin.Program, Platform: platform, Content: content})
	if err != nil {
		return err
	}
	return b.write(plugin.Program, platform, bill)
}

func (b *bills) write(program string, platform build.Platform, bill *cdx.BOM) (err error) {
	name := fmt.Sprintf("%s_%s_%s.cdx.json", program, platform.OS, platform.Arch)
	file, err := os.Create(filepath.Join(b.output, name))
	if err != nil {
		return err
	}
	defer func() {
		if closed := file.Close(); err == nil {
			err = closed
		}
	}()
	b.written++
	b.made(name)
	return sbom.Write(file, bill)
}

// authorities is the module that package rootfs takes certificates from.
const authorities = "golang.org/x/crypto/x509roots/fallback"

var timeZones = regexp.MustCompile(`(?m)^DATA=(\w+)$`)

// imageFiles returns what images have beside their programs: certificates of
// authorities, and time zones.
func imageFiles(ctx context.Context, source string) ([]cdx.Component, error) {
	command := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", authorities)
	command.Dir = filepath.Join(source, "hack", "release")
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("version of %s: %w", authorities, err)
	}
	version := strings.TrimSpace(string(output))
	goroot, err := rootfs.GOROOT(ctx, source)
	if err != nil {
		return nil, err
	}
	// The script says which edition of the zones a Go distribution has.
	script, err := os.ReadFile(filepath.Join(goroot, "lib", "time", "update.bash"))
	if err != nil {
		return nil, err
	}
	edition := timeZones.FindSubmatch(script)
	if edition == nil {
		return nil, errors.New("lib/time/update.bash of the Go distribution does not say which edition of the time zones it has")
	}
	return []cdx.Component{
		sbom.Data("ca-certificates", version, "pkg:golang/"+authorities+"@"+version, "MPL-2.0"),
		sbom.Data("tzdata", string(edition[1]), ""),
	}, nil
}
