// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

type reinstallOptions struct {
	target
	image, reason, dryRun string
	force, yes            bool
}

func newReinstall(s *session) *cobra.Command {
	var o reinstallOptions
	cmd := &cobra.Command{
		Use:   "reinstall NAME",
		Short: "Wipe the disks of a machine, and install an image",
		Long: `Wipe the disks of a machine, and install an image.

The machine keeps its name, its addresses and its user data. So a node of kubeadm boots with a token to join that has expired: this is a tool for people, not a way to update nodes. A machine of a Machine of Cluster API is refused without --force.`,
		Example: `  kubectl metal reinstall machine-1 --image=ubuntu-24.04 --reason "broken update"`,
	}
	o.addTo(s, cmd)
	out := addOutput(cmd, false)
	cmd.Flags().StringVar(&o.image, "image", "", "Id of the image, or an alias for the newest image that it stands for. It is required.")
	cmd.Flags().BoolVar(&o.force, "force", false, "Also if Cluster API looks after the machine.")
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "Do not ask for the name of the machine.")
	addReason(cmd, &o.reason, "It is required.")
	addDryRun(cmd, &o.dryRun, "none|server")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := out.check(); err != nil {
			return err
		}
		if o.image == "" {
			return usageError(cmd, errors.New("--image is required: the id of an image, such as ubuntu-24.04.20260101, or an alias, such as ubuntu-24.04"))
		}
		if err := checkReason(cmd, o.reason, true, "broken update"); err != nil {
			return err
		}
		if err := checkDryRun(cmd, o.dryRun, "none|server"); err != nil {
			return err
		}
		return o.run(cmd.Context(), s, out, args)
	}
	return cmd
}

func (o *reinstallOptions) run(ctx context.Context, s *session, out *output, args []string) error {
	client, ref, err := o.on(s, args)
	if err != nil {
		return err
	}
	obj, err := client.Get(ctx, ref)
	if err != nil {
		return err
	}
	request := &v1alpha4.MachineReinstall{
		ObjectMeta: metav1.ObjectMeta{Name: ref.Name, Namespace: client.Namespace, UID: obj.UID},
		Spec:       v1alpha4.MachineReinstallSpec{Image: o.image, Reason: o.reason, Force: o.force},
	}
	// The server's checks come before the question.
	answer, err := client.Reinstall(ctx, ref, request, true)
	if err != nil {
		return err
	}
	dryRun := o.dryRun == "server"
	if !dryRun {
		// An alias could stand for another image after the question.
		request.Spec.Image = cmp.Or(answer.Status.Image, o.image)
		s.warnOfStop(obj)
		s.note("All data on the disks of %s are lost. %s is installed, with the user data of the first installation.", ref, request.Spec.Image)
		if err := s.confirmName(ctx, o.yes, fmt.Sprintf("Reinstall %s with %s", s.fullName(client, obj), request.Spec.Image), ref); err != nil {
			return err
		}
		if answer, err = client.Reinstall(ctx, ref, request, false); err != nil {
			return err
		}
	}
	if !out.forPeople() {
		return out.print(s.Out, answer, ref)
	}
	image := cmp.Or(answer.Status.Image, request.Spec.Image)
	if dryRun {
		s.printf("%s: a reinstallation with %s would be sent (server dry run)\n", ref, image)
		return nil
	}
	s.printf("%s: a reinstallation with %s was sent\n", ref, image)
	s.note("What happens: %s", s.hint("log "+ref.Arg()+" --follow"))
	return nil
}
