// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"metal-stack.io/infrastructure-apiserver/hack/release/build"
	"metal-stack.io/infrastructure-apiserver/hack/release/chart"
	"metal-stack.io/infrastructure-apiserver/hack/release/checkout"
	"metal-stack.io/infrastructure-apiserver/hack/release/checksums"
	"metal-stack.io/infrastructure-apiserver/hack/release/images"
	"metal-stack.io/infrastructure-apiserver/hack/release/manifests"
	"metal-stack.io/infrastructure-apiserver/hack/release/plugin"
)

// imagesFile lists the images of a release: name:tag@digest.
const imagesFile = "images.txt"

func newAllCommand(o *options) *cobra.Command {
	var rehearse bool
	var platforms string
	command := &cobra.Command{
		Use:   "all",
		Short: "Make a whole release, in a directory of the output that is named after the tag",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			selected, err := plugin.Select(platforms)
			if err != nil {
				return fmt.Errorf("--platforms: %w", err)
			}
			if _, err := references(o); err != nil {
				return err
			}
			differences, err := prepare(command.Context(), o, rehearse)
			if err != nil {
				return err
			}
			out := command.OutOrStdout()
			for _, difference := range differences {
				fmt.Fprintln(out, "rehearsal:", difference)
			}
			r := release{options: *o, platforms: selected, rehearsal: len(differences) > 0}
			directory := filepath.Join(o.output, o.stamp.Version)
			fmt.Fprintf(out, "making %s of commit %s (with cold caches: some minutes for each of %d programs)\n",
				o.stamp.Version, o.stamp.Commit, len(images.Programs())*len(images.Platforms())+len(selected))
			if err := assemble(command.Context(), out, directory, r.steps(command.Context())); err != nil {
				return err
			}
			fmt.Fprintf(out, "%s is in %s.\n", o.stamp.Version, directory)
			if r.rehearsal {
				fmt.Fprintln(out, "It is a rehearsal, and not to be published: see above.")
			} else {
				fmt.Fprintf(out, "Next: git push origin %s, and .github/workflows/release.yaml makes the same files, signs and publishes them.\n", o.stamp.Version)
			}
			return nil
		},
	}
	command.Flags().BoolVar(&rehearse, "rehearse", false, "make it also from another commit than the tag's, or with changed files, and say what differs")
	command.Flags().StringVar(&platforms, "platforms", "", "platforms to build kubectl-metal for, such as linux/amd64,darwin/arm64 (default all)")
	return command
}

// prepare checks what it can before anything is built, fills in what comes from the
// checkout, and returns what makes of the release a
// rehearsal. Without rehearse that is an error.
func prepare(ctx context.Context, o *options, rehearse bool) ([]string, error) {
	state, err := checkout.Read(ctx, o.source)
	if err != nil {
		return nil, err
	}
	differences := state.Differences(o.stamp.Version)
	if len(differences) > 0 && !rehearse {
		return nil, fmt.Errorf("%s: commit all changes and tag the commit, or rehearse with --rehearse", strings.Join(differences, "; "))
	}
	// What a release would fail of after minutes.
	if err := manifests.CheckVersion(o.source, o.stamp.Version); err != nil {
		return nil, err
	}
	if _, err := releaseNotes(o, rehearse); err != nil {
		return nil, err
	}
	o.stamp.Commit = state.Commit
	if len(state.Changed) > 0 {
		o.stamp.Commit += "-dirty"
	}
	// Of images and bills; what is built does not depend on the time of day.
	if os.Getenv("SOURCE_DATE_EPOCH") == "" {
		if err := os.Setenv("SOURCE_DATE_EPOCH", strconv.FormatInt(state.Time.Unix(), 10)); err != nil {
			return nil, err
		}
	}
	return differences, nil
}

// release makes the parts of a release.
type release struct {
	options
	platforms []build.Platform
	rehearsal bool
	digests   map[string]string
}

// steps returns what is to be done for a release, in this order: manifests have the
// digests of images, bills are of images and archives, and checksums of everything.
func (r *release) steps(ctx context.Context) []step {
	return []step{
		{"images", func(directory string) error {
			r.output = directory
			if err := buildImages(ctx, io.Discard, &r.options, images.Platforms()); err != nil {
				return err
			}
			return r.listImages()
		}},
		{"manifests", func(directory string) error {
			_, err := manifests.Write(r.source, directory, r.images())
			return err
		}},
		{"chart", func(directory string) error { return chart.Write(r.source, directory, r.images()) }},
		{"kubectl-metal", func(directory string) error {
			return plugin.Write(ctx, r.source, directory, r.platforms, r.stamp, func(string) {})
		}},
		{"bills of materials", func(string) error { return writeBills(ctx, &r.options, func(string) {}) }},
		{"notes", func(directory string) error {
			text, err := releaseNotes(&r.options, r.rehearsal)
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(directory, notesFile), []byte(text), 0o644)
		}},
		{"checksums", func(directory string) error {
			// The archives have all of the layouts.
			if err := os.RemoveAll(filepath.Join(directory, "images")); err != nil {
				return err
			}
			return checksums.Write(directory)
		}},
	}
}

// images are those that listImages has listed.
func (r *release) images() manifests.Images {
	return manifests.Images{Registry: r.registry, Tag: r.stamp.Version, Digests: r.digests}
}

// listImages moves the archives of images to the top, where all files of a release are,
// and writes and keeps their digests.
func (r *release) listImages() error {
	r.digests = map[string]string{}
	tags, err := references(&r.options)
	if err != nil {
		return err
	}
	var list strings.Builder
	for i, program := range images.Programs() {
		index, err := images.Read(r.output, program)
		if err != nil {
			return err
		}
		digest, err := index.Digest()
		if err != nil {
			return err
		}
		r.digests[program.Name] = digest.String()
		fmt.Fprintf(&list, "%s@%s\n", tags[i].Name(), digest)
		if err := os.Rename(images.Archive(r.output, program), filepath.Join(r.output, imageArchive(program))); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(r.output, imagesFile), []byte(list.String()), 0o644)
}

// imageArchive returns the name of the file of a release that has a program's images.
func imageArchive(program images.Program) string { return program.Name + ".oci.tar" }
