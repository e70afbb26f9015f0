// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// step makes a part of a release in a directory.
type step struct {
	name string
	make func(directory string) error
}

// assemble makes a release step by step beside a directory, and puts it there when it is
// complete, in place of what was there. If a step fails, the directory is as it was.
func assemble(ctx context.Context, out io.Writer, directory string, steps []step) (err error) {
	parent := filepath.Dir(directory)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(parent, ".release-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	made := filepath.Join(work, "new")
	if err := os.Mkdir(made, 0o755); err != nil {
		return err
	}
	listed := map[string]bool{}
	for _, s := range steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		fmt.Fprintln(out, s.name)
		if err := s.make(made); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if err := list(out, made, listed); err != nil {
			return err
		}
	}
	old := filepath.Join(work, "old")
	if err := os.Rename(directory, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(made, directory); err != nil {
		if back := os.Rename(old, directory); !errors.Is(back, fs.ErrNotExist) {
			return errors.Join(err, back)
		}
		return err
	}
	return nil
}

// list prints the files that have not been listed before, with their sizes.
func list(out io.Writer, directory string, listed map[string]bool) error {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() || listed[entry.Name()] {
			continue
		}
		listed[entry.Name()] = true
		info, err := entry.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "  %-46s %s\n", entry.Name(), size(info.Size()))
	}
	return nil
}

func size(bytes int64) string {
	if bytes < 1<<20 {
		return fmt.Sprintf("%7.1f KiB", float64(bytes)/(1<<10))
	}
	return fmt.Sprintf("%7.1f MiB", float64(bytes)/(1<<20))
}
