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
		Use:   "unlock NAME",
		Short: "Unlock a machine",
		Long: `Unlock a machine in metal-stack.

If its object is being deleted, the lock is what keeps the machine: without it, the machine is released, and its disks are wiped. Then this asks for the name of the machine.`,
		Example: `  kubectl metal unlock worker-1 --reason "incident 4711 is closed"`,
	}, false)
}

func lockCommand(s *session, cmd *cobra.Command, lock bool) *cobra.Command {
	var t target
	var reason string
	var show, yes bool
	t.addTo(s, cmd)
	out := addOutput(cmd, false)
	addReason(cmd, &reason, "It is required, and becomes the description of the machine's state in metal-stack.")
	if lock {
		cmd.Flags().BoolVar(&show, "show", false, "Show the lock, and change nothing.")
	} else {
		cmd.Flags().BoolVarP(&yes, "yes", "y", false, "Do not ask for the name of a machine whose object is being deleted.")
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
		var answer *v1alpha4.MachineLock
		switch {
		case show:
			answer, err = client.LockState(cmd.Context(), ref)
		case lock:
			answer, err = client.Lock(cmd.Context(), ref, reason)
		default:
			answer, err = s.unlock(cmd.Context(), client, ref, reason, yes)
		}
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

// unlock unlocks the machine of the object that is read here. If the object is being deleted, it
// asks first.
func (s *session) unlock(ctx context.Context, client *fleet.Client, ref fleet.Reference, reason string, assumeYes bool) (*v1alpha4.MachineLock, error) {
	obj, err := client.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	if obj.DeletionTimestamp != nil {
		s.note("%s is being deleted: without the lock, the machine is released, and its disks are wiped.", ref)
		if err := s.confirmName(ctx, assumeYes, "Unlock "+s.fullName(client, obj), ref); err != nil {
			return nil, err
		}
	}
	return client.Unlock(ctx, ref, obj.UID, reason)
}
