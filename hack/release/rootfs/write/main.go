// SPDX-License-Identifier: Apache-2.0

// Command write writes what is in an image beside its program into a directory.
// The Dockerfile uses it, so that its images hold the same files as a release's.
package main

import (
	"context"
	"fmt"
	"os"

	"metal-stack.io/infrastructure-apiserver/hack/release/rootfs"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("got %d arguments: the directory to write to is needed", len(args))
	}
	goroot, err := rootfs.GOROOT(ctx, ".")
	if err != nil {
		return err
	}
	files, err := rootfs.Files(goroot)
	if err != nil {
		return err
	}
	return rootfs.Write(args[0], files)
}
