// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"metal-stack.io/infrastructure-apiserver/hack/release/checkout"
	"metal-stack.io/infrastructure-apiserver/hack/release/images"
)

func newPushCommand(o *options) *cobra.Command {
	var overwrite bool
	command := &cobra.Command{
		Use:   "push",
		Short: "Push the images of a release that was made with all, from its files, to --registry or where " + imagesFile + " says",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			r, err := readRelease(*o, command.Flags().Changed("registry"))
			if err != nil {
				return err
			}
			return r.push(command.Context(), command.OutOrStdout(), overwrite)
		},
	}
	command.Flags().BoolVar(&overwrite, "overwrite", false, "replace tags that exist with other images, such as those of an earlier rehearsal")
	return command
}

// madeRelease is one that is in a directory.
type madeRelease struct {
	options
	directory string
	// named are the images that its manifests name, by program.
	named map[string]name.Digest
}

// readRelease reads what a release says of itself. Its images are for the registry of
// the options if that is chosen, and otherwise for the one that it was made for.
func readRelease(o options, chosen bool) (*madeRelease, error) {
	r := &madeRelease{options: o, directory: filepath.Join(o.output, o.stamp.Version), named: map[string]name.Digest{}}
	list := filepath.Join(r.directory, imagesFile)
	content, err := os.ReadFile(list)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: make the release first, with make release TAG=%s", err, o.stamp.Version)
	}
	if err != nil {
		return nil, err
	}
	for _, line := range strings.Fields(string(content)) {
		image, err := name.NewDigest(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", list, err)
		}
		r.named[path.Base(image.Repository.Name())] = image
	}
	for _, program := range images.Programs() {
		image, ok := r.named[program.Name]
		if !ok {
			return nil, fmt.Errorf("%s has no image of %s", list, program.Name)
		}
		if !chosen {
			r.registry = path.Dir(image.Repository.Name())
		}
	}
	return r, nil
}

// push pushes the images as they are in the archives, with the credentials of docker's
// config.json.
func (r *madeRelease) push(ctx context.Context, out io.Writer, overwrite bool) error {
	// Before anything is printed: what is no registry may have a password.
	if _, err := references(&r.options); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "push-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	for i, program := range images.Programs() {
		archive := filepath.Join(r.directory, imageArchive(program))
		if err := unpack(archive, images.Layout(work, program)); err != nil {
			return fmt.Errorf("%s: %w", archive, err)
		}
		index, err := images.Read(work, program)
		if err != nil {
			return fmt.Errorf("%s: %w", archive, err)
		}
		if err := r.check(ctx, program, index); err != nil {
			return fmt.Errorf("%s: %w", archive, err)
		}
		if named := r.named[program.Name].Repository.Name(); i == 0 && !strings.HasPrefix(named, r.registry+"/") {
			fmt.Fprintf(out, "note: manifests of %s name %s and others beside it, and these are pushed to %s\n", r.directory, named, r.registry)
		}
	}
	r.output = work
	return pushImages(ctx, out, &r.options, overwrite)
}

// check refuses images that are not those of the manifests, and, where releases are
// published, those of a rehearsal, whose tag the release could not have any more.
func (r *madeRelease) check(ctx context.Context, program images.Program, index v1.ImageIndex) error {
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	if want := r.named[program.Name].DigestStr(); digest.String() != want {
		return fmt.Errorf("it has the digest %s, and %s has %s: make the release again", digest, imagesFile, want)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	return checkPublished(ctx, &r.options, manifest.Annotations["org.opencontainers.image.revision"], "release")
}

// checkPublished refuses to push what was made from a commit to where releases are published,
// unless that is the tag's, without changes: the release could not have the tag any more. target
// is what makes it for another registry.
func checkPublished(ctx context.Context, o *options, commit, target string) error {
	if !strings.EqualFold(o.registry, published) {
		return nil
	}
	state, err := checkout.Read(ctx, o.source)
	if err != nil {
		return err
	}
	differences := state.Differences(o.stamp.Version)
	if commit != state.Commit {
		differences = append(differences, fmt.Sprintf("it was made from %.12s, and HEAD is %.12s", commit, state.Commit))
	}
	if len(differences) > 0 {
		return fmt.Errorf("a rehearsal is not pushed to %s: %s; make it for a registry of yours, with make %s TAG=%s REGISTRY=…",
			published, strings.Join(differences, "; "), target, o.stamp.Version)
	}
	return nil
}

// unpack writes the files of an archive below a directory.
func unpack(archive, directory string) error {
	in, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(directory)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for files := tar.NewReader(in); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch header.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(filepath.Clean(header.Name), 0o755)
		case tar.TypeReg:
			err = unpackFile(root, filepath.Clean(header.Name), files)
		default:
			err = fmt.Errorf("%s is neither a file nor a directory", header.Name)
		}
		if err != nil {
			return err
		}
	}
}

func unpackFile(root *os.Root, name string, content io.Reader) (err error) {
	file, err := root.Create(name)
	if err != nil {
		return err
	}
	defer func() {
		if closed := file.Close(); err == nil {
			err = closed
		}
	}()
	_, err = io.Copy(file, content)
	return err
}
