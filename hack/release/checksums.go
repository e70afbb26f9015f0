// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"metal-stack.io/infrastructure-apiserver/hack/release/checksums"
)

func newChecksumsCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "checksums",
		Short: "Write " + checksums.File + " of all files in the output directory",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if err := checksums.Write(o.output); err != nil {
				return err
			}
			fmt.Fprintln(command.OutOrStdout(), filepath.Join(o.output, checksums.File))
			return nil
		},
	}
}
