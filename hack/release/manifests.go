// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"metal-stack.io/infrastructure-apiserver/hack/release/manifests"
)

func newManifestsCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "manifests",
		Short: "Write install.yaml and the files for clusterctl",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if err := os.MkdirAll(o.output, 0o755); err != nil {
				return err
			}
			files, err := manifests.Write(o.source, o.output, manifests.Images{Registry: o.registry, Tag: o.stamp.Version})
			for _, file := range files {
				fmt.Fprintln(command.OutOrStdout(), filepath.Join(o.output, file))
			}
			return err
		},
	}
}
