// SPDX-License-Identifier: Apache-2.0

// Command release makes a release of this project, without a container engine:
// each of its commands makes a part of it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"metal-stack.io/infrastructure-apiserver/hack/release/build"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

// published is where the images of this project's releases are.
const published = "ghcr.io/metal-stack"

// options are flags that all commands have.
type options struct {
	// source is the root of the repository.
	source string
	// output is the directory that the release is written to.
	output string
	// stamp is what the programs say of themselves.
	stamp build.Stamp
	// registry is the prefix of the images' names.
	registry string
}

func newCommand() *cobra.Command {
	var o options
	command := &cobra.Command{
		Use:           "release",
		Short:         "Make a release of metalstack-apiserver, or a part of one",
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if err := o.stamp.Validate(); err != nil {
				return fmt.Errorf("--tag: %w", err)
			}
			source, err := filepath.Abs(o.source)
			o.source = source
			return err
		},
	}
	flags := command.PersistentFlags()
	flags.StringVar(&o.source, "source", ".", "root of the repository")
	flags.StringVar(&o.output, "output", "dist", "directory to write to")
	flags.StringVar(&o.registry, "registry", published, "registry and path of the images")
	flags.StringVar(&o.stamp.Version, "tag", "", "version of the release, such as v0.1.0")
	flags.StringVar(&o.stamp.Commit, "commit", "", "hash of the commit that is released")
	command.AddCommand( // one a file
		newImagesCommand(&o),
		newManifestsCommand(&o),
		newPluginCommand(&o),
		newSBOMCommand(&o),
		newNotesCommand(&o),
		newChangelogCommand(&o),
		newChecksumsCommand(&o),
		newAllCommand(&o),
		newPushCommand(&o),
	)
	return command
}
