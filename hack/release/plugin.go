// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"metal-stack.io/infrastructure-apiserver/hack/release/plugin"
)

func newPluginCommand(o *options) *cobra.Command {
	var platforms string
	command := &cobra.Command{
		Use:   "plugin",
		Short: "Build kubectl-metal for all platforms, and write the manifest for krew",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			selected, err := plugin.Select(platforms)
			if err != nil {
				return fmt.Errorf("--platforms: %w", err)
			}
			if err := os.MkdirAll(o.output, 0o755); err != nil {
				return err
			}
			return plugin.Write(command.Context(), o.source, o.output, selected, o.stamp, func(file string) {
				fmt.Fprintln(command.OutOrStdout(), filepath.Join(o.output, file))
			})
		},
	}
	command.Flags().StringVar(&platforms, "platforms", "", "platforms to build for, such as linux/amd64,darwin/arm64 (default all)")
	return command
}
