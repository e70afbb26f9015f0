// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newConsolePassword(s *session) *cobra.Command {
	var t target
	var reason string
	cmd := &cobra.Command{
		Use:   "console-password NAME",
		Short: "Print the password of the serial console",
		Long: `Print the password of the user metal on the serial console of a machine.

Standard output has the password and nothing else. That you read it, and why, becomes an Event of the object.`,
		Example: `  kubectl metal console-password worker-1 --reason "no network since the update"`,
	}
	t.addTo(s, cmd)
	addReason(cmd, &reason, "It is required; the metal-api gets it, too.")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkReason(cmd, reason, true, "no network since the update"); err != nil {
			return err
		}
		client, ref, err := t.on(s, args)
		if err != nil {
			return err
		}
		password, err := client.ConsolePassword(cmd.Context(), ref, reason)
		if err != nil {
			return err
		}
		s.note("That the console password of %s was read is recorded in an Event, with your name and the reason.", ref)
		_, err = fmt.Fprintln(s.Out, password)
		return err
	}
	return cmd
}
