// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"fmt"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

func newIdentify(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "identify",
		Short:   "Switch the chassis LED, so that a machine is found in the data centre",
		Example: "  kubectl metal identify on worker-1 --reason \"replace a disk\"\n  kubectl metal identify off worker-1",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError(cmd, fmt.Errorf("expected on or off, and a NAME"))
		},
	}
	for use, state := range map[string]v1alpha4.LEDState{"on": v1alpha4.LEDOn, "off": v1alpha4.LEDOff} {
		cmd.AddCommand(newIdentifyState(s, use, state))
	}
	return cmd
}

func newIdentifyState(s *session, use string, state v1alpha4.LEDState) *cobra.Command {
	var t target
	var reason string
	cmd := &cobra.Command{
		Use:     use + " NAME",
		Short:   fmt.Sprintf("Switch the chassis LED %s", use),
		Example: fmt.Sprintf("  kubectl metal identify %s worker-1", use),
	}
	t.addTo(s, cmd)
	out := addOutput(cmd, false)
	addReason(cmd, &reason, "It becomes the description of the LED in metal-stack.")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := out.check(); err != nil {
			return err
		}
		if err := checkReason(cmd, reason, false, ""); err != nil {
			return err
		}
		client, ref, err := t.on(s, args)
		if err != nil {
			return err
		}
		answer, err := client.Identify(cmd.Context(), ref, &v1alpha4.MachineIdentify{
			ObjectMeta: metav1.ObjectMeta{Name: ref.Name, Namespace: client.Namespace},
			Spec:       v1alpha4.MachineIdentifySpec{State: state, Reason: reason},
		})
		if err != nil {
			return err
		}
		if !out.forPeople() {
			return out.print(s.Out, answer, ref)
		}
		s.printf("%s: chassis LED %s was sent to the machine's controller (BMC)\n", ref, use)
		return nil
	}
	return cmd
}
