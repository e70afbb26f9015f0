// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/fleet"
)

// session is what the commands of one command line share.
type session struct {
	Environment
	flags *genericclioptions.ConfigFlags
}

// client returns a client for the namespace of the flags and the kubeconfig.
func (s *session) client() (*fleet.Client, error) {
	config, err := s.flags.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	namespace, _, err := s.flags.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return nil, err
	}
	return fleet.New(config, namespace, s.Clock)
}

// target are the flags and the argument that name an object.
type target struct {
	firewall bool
}

// addTo makes the command one about one object, with completion of its name.
func (t *target) addTo(s *session, cmd *cobra.Command) {
	cmd.Flags().BoolVar(&t.firewall, "firewall", false, "NAME is that of a firewall, not of a machine.")
	cmd.Args = exactlyOneName
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		return s.completeNames(cmd.Context(), args, typed, t.kind())
	}
}

func (t *target) kind() fleet.Kind {
	if t.firewall {
		return fleet.Firewall
	}
	return fleet.Machine
}

// reference returns what an argument names.
func (t *target) reference(arg string) (fleet.Reference, error) {
	ref, err := fleet.ParseReference(arg, t.kind())
	if err == nil && t.firewall && ref.Kind != fleet.Firewall {
		return ref, fmt.Errorf("%q is a machine, and --firewall says that it is a firewall", arg)
	}
	return ref, err
}

// on parses the argument and connects.
func (t *target) on(s *session, args []string) (*fleet.Client, fleet.Reference, error) {
	ref, err := t.reference(args[0])
	if err != nil {
		return nil, ref, err
	}
	client, err := s.client()
	return client, ref, err
}

// printf prints what a command says, to standard output.
func (s *session) printf(format string, args ...any) {
	fmt.Fprintf(s.Out, format, args...)
}

// note prints what is no result: to standard error.
func (s *session) note(format string, args ...any) {
	fmt.Fprintf(s.ErrOut, format+"\n", args...)
}

// hint returns a command line of kubectl metal in the namespace and the context of the flags.
func (s *session) hint(args string) string {
	line := "kubectl metal " + args
	if *s.flags.Namespace != "" {
		line += " --namespace=" + *s.flags.Namespace
	}
	if *s.flags.Context != "" {
		line += " --context=" + *s.flags.Context
	}
	return line
}

// addReason adds the flag --reason.
func addReason(cmd *cobra.Command, reason *string, what string) {
	cmd.Flags().StringVar(reason, "reason", "", "Why, in one line of at most 256 characters. "+what)
}

const maxReason = 256

// checkReason refuses a reason that the server would refuse.
func checkReason(cmd *cobra.Command, reason string, required bool, example string) error {
	switch {
	case required && strings.TrimSpace(reason) == "":
		return usageError(cmd, fmt.Errorf("--reason is required, and is recorded with your name in an Event of the object: for example --reason=%q", example))
	case len(reason) > maxReason:
		return usageError(cmd, fmt.Errorf("--reason has %d bytes: at most %d are allowed", len(reason), maxReason))
	case strings.ContainsAny(reason, "\r\n"):
		return usageError(cmd, errors.New("--reason has several lines: it must be one"))
	}
	return nil
}

// addDryRun adds the flag --dry-run of commands whose request the server can check.
func addDryRun(cmd *cobra.Command, value *string, modes string) {
	cmd.Flags().StringVar(value, "dry-run", "none", "Must be "+modes+". With server, the server checks the request and sends nothing.")
	// As kubectl has it, --dry-run alone is client, which most commands do not have.
	cmd.RegisterFlagCompletionFunc("dry-run", cobra.FixedCompletions(strings.Split(modes, "|"), cobra.ShellCompDirectiveNoFileComp)) //nolint:errcheck // The flag exists.
}

func checkDryRun(cmd *cobra.Command, value, modes string) error {
	for mode := range strings.SplitSeq(modes, "|") {
		if mode == value {
			return nil
		}
	}
	return usageError(cmd, fmt.Errorf("--dry-run=%q: must be %s", value, strings.ReplaceAll(modes, "|", " or ")))
}
