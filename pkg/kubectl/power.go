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

// asks returns whether the object is read, and something may be asked, before the request.
func (p powerCommand) asks() bool { return p.action != v1alpha4.PowerBootDisk }

const bootPXEHelp = `An allocated machine that boots from the network is installed again: all of its disks are wiped, and the image of its allocation is installed, with the user data of the first installation. So this needs the right to reinstall and a reason, and asks for the name of the machine. A machine of a Machine of Cluster API is refused: "kubectl metal reinstall --force" is for that. The boot itself is not requested: it is the next one, whenever that is.`

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
	case p.wipes:
		cmd.Long = p.short + ".\n\n" + bootPXEHelp
		cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "Do not ask for the name of the machine.")
	case p.stops:
		cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "Do not ask, whatever is stopped or wiped.")
	case p.asks():
		cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "Do not ask for the name of a machine that is marked for a reinstallation.")
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
	if o.asks() {
		obj, err := client.Get(ctx, ref)
		if err != nil {
			return err
		}
		request.UID = obj.UID
		if !dryRun {
			if err := o.confirm(ctx, s, client, obj, request); err != nil {
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

// confirm asks before a running machine is stopped, or its disks are wiped.
func (o *powerOptions) confirm(ctx context.Context, s *session, client *fleet.Client, obj *fleet.Object, request *v1alpha4.MachinePower) error {
	ref := obj.Reference()
	what := fmt.Sprintf("%s %s", o.action, s.fullName(client, obj))
	marked := obj.Condition(infrastructure.ConditionReinstalling)
	isMarked := marked != nil && marked.Status == metav1.ConditionTrue
	if !o.wipes && !isMarked && (!o.stops || !o.yes && s.isOff(ctx, client, obj)) {
		return nil
	}
	if o.wipes && !o.yes {
		// The server's checks come before the question.
		if _, err := client.RequestPower(ctx, ref, request, true); err != nil {
			return err
		}
	}
	if o.wipes {
		s.note("The next boot of %s, whenever that is, wipes all of its disks, and installs the image of its allocation again, with the user data of the first installation.", ref)
	}
	if isMarked {
		s.note("%s is reinstalled (%s): %s", ref, marked.Reason, marked.Message)
		s.note("Its next boot from the network wipes all of its disks.")
	}
	if o.stops {
		s.warnOfStop(obj)
	}
	if o.wipes || isMarked {
		return s.confirmName(ctx, o.yes, what, ref)
	}
	return s.confirmAction(ctx, o.yes, what+"?")
}

// isOff returns whether the machine was reported to be off since the operation that was
// requested last, and is not ready. If it cannot be read, it may be on.
func (s *session) isOff(ctx context.Context, client *fleet.Client, obj *fleet.Object) bool {
	power, err := client.PowerState(ctx, obj.Reference())
	if err != nil || power.Status.State != v1alpha4.PowerStateOff || obj.IsTrue(infrastructure.ConditionReady) {
		return false
	}
	requested, concerned := restarted(obj)
	return !concerned || isSince(power.Status.ObservedTime, requested)
}

// warnOfStop says what is interrupted when a machine is stopped.
func (s *session) warnOfStop(obj *fleet.Object) {
	switch phase := obj.Phase(); phase {
	case infrastructure.PhasePhonedHome:
		s.note("%s runs (%s), and its operating system is not shut down.", obj.Reference(), phase)
	case "Installing", "Booting New Kernel":
		s.note("%s is being installed (%s), and the installation is cut off.", obj.Reference(), phase)
	default:
		s.note("The phase of %s is %s: whatever runs on it is not shut down.", obj.Reference(), phase)
	}
	switch machine := obj.Machine(); {
	case machine != "":
		s.note("It is the node of Machine %s of Cluster %s: drain the Node in the workload cluster first (kubectl drain).", machine, obj.Cluster())
	case obj.Kind == fleet.Firewall && obj.Cluster() != "":
		s.note("It is a firewall of Cluster %s: the machines behind it have no connection meanwhile.", obj.Cluster())
	case obj.Kind == fleet.Firewall:
		s.note("It is a firewall: the machines behind it have no connection meanwhile.")
	case obj.Cluster() != "":
		s.note("It belongs to Cluster %s: if it is a Node, drain it first (kubectl drain).", obj.Cluster())
	}
}
