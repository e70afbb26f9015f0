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
	"path/filepath"

	"github.com/spf13/cobra"

	"metal-stack.io/infrastructure-apiserver/hack/release/images"
)

func newPushCommand(o *options) *cobra.Command {
	var overwrite bool
	command := &cobra.Command{
		Use:   "push",
		Short: "Push the images of a release that was made with all, from its files",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return pushRelease(command.Context(), command.OutOrStdout(), *o, overwrite)
		},
	}
	command.Flags().BoolVar(&overwrite, "overwrite", false, "replace tags that exist with other images, such as those of an earlier rehearsal")
	return command
}

// pushRelease pushes the images of a release as they are in its archives, with the
// credentials of docker's config.json.
func pushRelease(ctx context.Context, out io.Writer, o options, overwrite bool) error {
	directory := filepath.Join(o.output, o.stamp.Version)
	work, err := os.MkdirTemp("", "push-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	for _, program := range images.Programs() {
		archive := filepath.Join(directory, imageArchive(program))
		if err := unpack(archive, images.Layout(work, program)); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%w: make the release first, with make release TAG=%s", err, o.stamp.Version)
			}
			return fmt.Errorf("%s: %w", archive, err)
		}
	}
	o.output = work
	return pushImages(ctx, out, &o, overwrite)
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
