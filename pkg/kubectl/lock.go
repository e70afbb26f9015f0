// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"context"

	"github.com/spf13/cobra"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/fleet"
)

func newLock(s *session) *cobra.Command {
	return lockCommand(s, &cobra.Command{
		Use:   "lock NAME",
		Short: "Lock a machine, so that it is not released",
		Long: `Lock a machine in metal-stack: the metal-api refuses to release it, whoever asks, until it is unlocked.

A deletion of the object waits meanwhile. With --show, the lock is shown and nothing is changed.`,
		Example: `  kubectl metal lock worker-1 --reason "evidence of incident 4711"
  kubectl metal lock worker-1 --show`,
	}, true)
}

func newUnlock(s *session) *cobra.Command {
	return lockCommand(s, &cobra.Command{
		Use:     "unlock NAME",
		Short:   "Unlock a machine",
		Long:    "Unlock a machine in metal-stack. If its object is being deleted, the machine is released then.",
		Example: `  kubectl metal unlock worker-1 --reason "incident 4711 is closed"`,
	}, false)
}

func lockCommand(s *session, cmd *cobra.Command, lock bool) *cobra.Command {
	var t target
	var reason string
	var show bool
	t.addTo(s, cmd)
	out := addOutput(cmd, false)
	addReason(cmd, &reason, "It is required, and becomes the description of the machine's state in metal-stack.")
	if lock {
		cmd.Flags().BoolVar(&show, "show", false, "Show the lock, and change nothing.")
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := out.check(); err != nil {
			return err
		}
		if err := checkReason(cmd, reason, !show, "evidence of incident 4711"); err != nil {
			return err
		}
		client, ref, err := t.on(s, args)
		if err != nil {
			return err
		}
		answer, err := lockOf(cmd.Context(), client, ref, reason, lock, show)
		if err != nil {
			return err
		}
		if !out.forPeople() {
			return out.print(s.Out, answer, ref)
		}
		state := "unlocked"
		if answer.Status.Locked {
			state = "locked"
		}
		if answer.Status.Reason != "" {
			state += ": " + clean(answer.Status.Reason)
		}
		s.printf("%s is %s\n", ref, state)
		return nil
	}
	return cmd
}

func lockOf(ctx context.Context, client *fleet.Client, ref fleet.Reference, reason string, lock, show bool) (*v1alpha4.MachineLock, error) {
	switch {
	case show:
		return client.LockState(ctx, ref)
	case lock:
		return client.Lock(ctx, ref, reason)
	}
	return client.Unlock(ctx, ref, reason)
}
