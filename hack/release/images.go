// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/spf13/cobra"

	"metal-stack.io/infrastructure-apiserver/hack/release/build"
	"metal-stack.io/infrastructure-apiserver/hack/release/images"
	"metal-stack.io/infrastructure-apiserver/hack/release/rootfs"
)

func newImagesCommand(o *options) *cobra.Command {
	var push, overwrite bool
	var names []string
	command := &cobra.Command{
		Use:   "images",
		Short: "Build the container images of all programs, as OCI layouts and archives",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if overwrite && !push {
				return fmt.Errorf("invalid --overwrite: needs --push")
			}
			if push {
				// The default is where releases are published.
				if !command.Flags().Changed("registry") {
					return fmt.Errorf("--push needs --registry: make images REGISTRY=registry.example.com/metal TAG=%s PUSH=1", o.stamp.Version)
				}
				if err := checkPublished(command.Context(), o, o.stamp.Commit, "images"); err != nil {
					return err
				}
			}
			platforms, err := platformsOf(names)
			if err != nil {
				return fmt.Errorf("--platform: %w", err)
			}
			if err := buildImages(command.Context(), command.OutOrStdout(), o, platforms); err != nil {
				return err
			}
			if !push {
				return nil
			}
			return pushImages(command.Context(), command.OutOrStdout(), o, overwrite)
		},
	}
	command.Flags().StringSliceVar(&names, "platform", platformNames(), "platforms to build for")
	command.Flags().BoolVar(&push, "push", false, "push the images to --registry, which must be set, with the credentials of docker's config.json; to "+published+" only those of a tag's commit")
	command.Flags().BoolVar(&overwrite, "overwrite", false, "with --push: replace tags that exist with other images")
	return command
}

// buildImages writes the images of all programs below the output.
func buildImages(ctx context.Context, out io.Writer, o *options, platforms []build.Platform) error {
	tags, err := references(o)
	if err != nil {
		return err
	}
	created, err := sourceDate()
	if err != nil {
		return err
	}
	goroot, err := rootfs.GOROOT(ctx, o.source)
	if err != nil {
		return err
	}
	compile := func(ctx context.Context, directory, name string, platform build.Platform) (string, error) {
		return build.Program(ctx, o.source, directory, name, platform, o.stamp)
	}
	builder, err := images.NewBuilder(goroot, o.stamp, created, platforms, compile)
	if err != nil {
		return err
	}
	for i, program := range images.Programs() {
		index, err := builder.Index(ctx, program)
		if err != nil {
			return err
		}
		if err := images.Write(o.output, program, tags[i], index); err != nil {
			return err
		}
		digest, err := index.Digest()
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s@%s in %s and %s\n", tags[i], digest, images.Layout(o.output, program), images.Archive(o.output, program))
	}
	return nil
}

// pushImages pushes what buildImages wrote.
func pushImages(ctx context.Context, out io.Writer, o *options, overwrite bool) error {
	tags, err := references(o)
	if err != nil {
		return err
	}
	for i, program := range images.Programs() {
		index, err := images.Read(o.output, program)
		if err != nil {
			return err
		}
		if err := images.Push(ctx, tags[i], index, overwrite, remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
			return err
		}
		fmt.Fprintf(out, "pushed %s\n", tags[i])
	}
	return nil
}

func platformNames() []string {
	var names []string
	for _, platform := range images.Platforms() {
		names = append(names, platform.String())
	}
	return names
}

// platformsOf returns the platforms of some names, in the order of images.Platforms.
func platformsOf(names []string) ([]build.Platform, error) {
	for _, name := range names {
		if !slices.Contains(platformNames(), name) {
			return nil, fmt.Errorf("unsupported platform %q: must be one of %s", name, strings.Join(platformNames(), ", "))
		}
	}
	var platforms []build.Platform
	for _, platform := range images.Platforms() {
		if slices.Contains(names, platform.String()) {
			platforms = append(platforms, platform)
		}
	}
	if len(platforms) == 0 {
		return nil, errors.New("no platform")
	}
	return platforms, nil
}

// references returns the names of all programs' images, in the order of images.Programs.
func references(o *options) ([]name.Tag, error) {
	var tags []name.Tag
	for _, program := range images.Programs() {
		tag, err := images.Reference(o.registry, program, o.stamp)
		if err != nil {
			return nil, fmt.Errorf("--registry: %w", err)
		}
		tags = append(tags, tag)
	}
	return tags, nil
}

// latest is the end of the year 9999, the last one that RFC 3339 can write.
const latest = 253402300799

// sourceDate returns when images say that they were created: SOURCE_DATE_EPOCH, as
// https://reproducible-builds.org/specs/source-date-epoch/ has it, or 1970.
func sourceDate() (time.Time, error) {
	value := os.Getenv("SOURCE_DATE_EPOCH")
	if value == "" {
		return time.Unix(0, 0), nil
	}
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err != nil || seconds < 0 || seconds > latest {
		return time.Time{}, fmt.Errorf("invalid SOURCE_DATE_EPOCH %q: must be a number of seconds since 1970", value)
	}
	return time.Unix(seconds, 0), nil
}
