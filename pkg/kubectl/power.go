// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/fleet"
	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/render"
)

// powerCommand is a subcommand of power.
type powerCommand struct {
	use    string
	action v1alpha4.PowerAction
	short  string
	// stops is true if a running operating system is stopped, without a shutdown.
	stops bool
	// follow is what to wait for afterwards.
	follow string
	// wipes is true if the disks are wiped, and the machine is installed again.
	wipes bool
}

func powerCommands() []powerCommand {
	return []powerCommand{
		{use: "on", action: v1alpha4.PowerOn, short: "Switch a machine on", follow: "--for=phoned-home"},
		{use: "off", action: v1alpha4.PowerOff, short: "Switch a machine off at once, without a shutdown", stops: true, follow: "--for=power=off"},
		{use: "reset", action: v1alpha4.PowerReset, short: "Reset a machine, which stays powered, without a shutdown", stops: true, follow: "--for=phoned-home"},
		{use: "cycle", action: v1alpha4.PowerCycle, short: "Switch a machine off and on again, without a shutdown", stops: true, follow: "--for=phoned-home"},
		{use: "boot-disk", action: v1alpha4.PowerBootDisk, short: "Make the next boots start from the disk"},
		{use: "boot-pxe", action: v1alpha4.PowerBootPXE, short: "Make the next boot wipe the disks, and install the image again", wipes: true},
		{use: "boot-bios", action: v1alpha4.PowerBootBIOS, short: "Make the next boot end in the firmware's setup"},
	}
}

func newPower(s *session) *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use:   "power [NAME]",
		Short: "Show the power state of a machine, or ask for a power action",
		Long: `Show the power state of a machine, as its controller (BMC) reported it last, or ask the controller for an action.

An action is sent, not done, when the command returns: "kubectl metal wait" and "kubectl metal log --follow" show what happens. The same action within ten seconds of the end of the last one is one.`,
		Example: `  kubectl metal power worker-1
  kubectl metal power cycle worker-1 --reason "does not answer"
  kubectl metal wait worker-1 --for=phoned-home`,
	}
	showPower(s, &t, cmd)
	status := &cobra.Command{Use: "status NAME", Short: "Show the power state of a machine", Example: "  kubectl metal power status worker-1 -o yaml"}
	showPower(s, &target{}, status)
	cmd.AddCommand(status)
	for _, p := range powerCommands() {
		cmd.AddCommand(newPowerAction(s, p))
	}
	return cmd
}

// showPower makes cmd the command that shows the power state.
func showPower(s *session, t *target, cmd *cobra.Command) {
	t.addTo(s, cmd)
	out := addOutput(cmd, false)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := out.check(); err != nil {
			return err
		}
		client, ref, err := t.on(s, args)
		if err != nil {
			return err
		}
		power, err := client.PowerState(cmd.Context(), ref)
		if err != nil {
			return err
		}
		if !out.forPeople() {
			return out.print(s.Out, power, ref)
		}
		section := render.Section{}
		section.Add("Power", s.powerText(power))
		section.Add("BMC", power.Status.BMCVersion)
		section.Add("BIOS", power.Status.BIOSVersion)
		return render.Print(s.Out, s.Style, []render.Section{section})
	}
}

func (s *session) powerText(power *v1alpha4.MachinePower) string {
	state := power.Status.State
	if state == "" {
		state = v1alpha4.PowerStateUnknown
	}
	if power.Status.ObservedTime.IsZero() {
		return string(state)
	}
	return fmt.Sprintf("%s, reported %s", state, render.Ago(s.Clock.Now(), power.Status.ObservedTime))
}

type powerOptions struct {
	powerCommand
	target
	reason, requestID, dryRun string
	yes                       bool
}

func newPowerAction(s *session, p powerCommand) *cobra.Command {
	o := powerOptions{powerCommand: p}
	cmd := &cobra.Command{
		Use:     p.use + " NAME",
		Short:   p.short,
		Example: fmt.Sprintf("  kubectl metal power %s worker-1 --reason \"does not answer\"", p.use),
	}
	o.addTo(s, cmd)
	out := addOutput(cmd, false)
	help := "It is part of the Event and of the object's status."
	if p.wipes {
		help += " It is required."
	}
	addReason(cmd, &o.reason, help)
	addDryRun(cmd, &o.dryRun, "none|server")
	cmd.Flags().StringVar(&o.requestID, "request-id", "", "Makes a command that is repeated with the same id one request, for as long as no other was made.")
	switch {
	case p.stops:
		cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "Do not ask whether to stop a machine that runs.")
	case p.wipes:
		cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "Do not ask for the name of the machine.")
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := out.check(); err != nil {
			return err
		}
		if err := checkReason(cmd, o.reason, o.wipes, "broken update"); err != nil {
			return err
		}
		if err := checkDryRun(cmd, o.dryRun, "none|server"); err != nil {
			return err
		}
		return o.run(cmd.Context(), s, out, args)
	}
	return cmd
}

func (o *powerOptions) run(ctx context.Context, s *session, out *output, args []string) error {
	client, ref, err := o.on(s, args)
	if err != nil {
		return err
	}
	request := &v1alpha4.MachinePower{
		ObjectMeta: metav1.ObjectMeta{Name: ref.Name, Namespace: client.Namespace},
		Spec:       v1alpha4.MachinePowerSpec{Action: o.action, Reason: o.reason, RequestID: o.requestID},
	}
	dryRun := o.dryRun == "server"
	if o.stops || o.wipes {
		obj, err := client.Get(ctx, ref)
		if err != nil {
			return err
		}
		request.UID = obj.UID
		switch {
		case dryRun:
		case o.wipes:
			s.note("The next boot of %s, whenever that is, wipes its disks, and installs the image of its allocation, with the user data of the first installation.", ref)
			if err := s.confirm(ctx, o.yes, fmt.Sprintf("To have it boot from the network, type its name, %s:", ref.Name), ref.Name); err != nil {
				return err
			}
		case obj.Phase() == infrastructure.PhasePhonedHome:
			s.warnOfRunning(obj)
			if err := s.confirmAction(ctx, o.yes, fmt.Sprintf("%s %s?", o.action, ref)); err != nil {
				return err
			}
		}
	}
	power, err := client.RequestPower(ctx, ref, request, dryRun)
	if err != nil {
		return err
	}
	if !out.forPeople() {
		return out.print(s.Out, power, ref)
	}
	if dryRun {
		s.printf("%s: %s would be sent (server dry run)\n", ref, o.action)
		return nil
	}
	s.printf("%s: %s was sent to the machine's controller (BMC)\n", ref, o.action)
	if o.follow != "" {
		s.note("What happens: %s\n              %s", s.hint("wait "+ref.Arg()+" "+o.follow), s.hint("log "+ref.Arg()+" --follow"))
	}
	return nil
}

// warnOfRunning says what stops when a machine is stopped.
func (s *session) warnOfRunning(obj *fleet.Object) {
	s.note("%s runs (%s), and its operating system is not shut down.", obj.Reference(), obj.Phase())
	switch machine := obj.Machine(); {
	case machine != "":
		s.note("It is the node of Machine %s of Cluster %s: drain the Node in the workload cluster first (kubectl drain).", machine, obj.Cluster())
	case obj.Kind == fleet.Firewall:
		s.note("It is a firewall%s: the machines behind it have no connection meanwhile.", ofCluster(obj))
	case obj.Cluster() != "":
		s.note("It belongs to Cluster %s: if it is a Node, drain it first (kubectl drain).", obj.Cluster())
	}
}

func ofCluster(obj *fleet.Object) string {
	if obj.Cluster() == "" {
		return ""
	}
	return " of Cluster " + obj.Cluster()
}
