// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/fleet"
	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/render"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
	"metal-stack.io/infrastructure-apiserver/pkg/version"
)

// maxError bounds an error that is printed, in bytes.
const maxError = 8192

// Environment is what a program gives its commands.
type Environment struct {
	genericiooptions.IOStreams
	// Interactive is true if the input is a terminal, at which questions are answered.
	Interactive bool
	// Style is that of the output.
	Style render.Style
	Clock clock.WithTicker
}

// Standard returns the environment of this process.
func Standard() Environment {
	return Environment{
		IOStreams:   genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr},
		Interactive: printers.IsTerminal(os.Stdin),
		Style:       render.StyleOf(os.Stdout),
		Clock:       clock.RealClock{},
	}
}

// Run runs a command line, and returns the exit code.
func Run(ctx context.Context, args []string, env Environment) int {
	cmd := NewCommand(env)
	cmd.SetArgs(args)
	switch err := cmd.ExecuteContext(ctx); {
	case errors.Is(err, errNo):
		return 1
	case errors.Is(err, errUnknown):
		return 2
	case err != nil:
		printError(env, err)
		return 1
	}
	return 0
}

// errNo is the error of a question whose answer is no, which is printed already.
var errNo = errors.New("no")

// errUnknown is the error of one that cannot be answered, which is printed already, too.
var errUnknown = errors.New("unknown")

// NewCommand returns the command kubectl metal.
func NewCommand(env Environment) *cobra.Command {
	s := &session{Environment: env, flags: genericclioptions.NewConfigFlags(true)}
	s.flags.WrapConfigFn = func(config *rest.Config) *rest.Config {
		config.WarningHandler = rest.NewWarningWriter(env.ErrOut, rest.WarningWriterOptions{
			Deduplicate: true, Color: printers.AllowsColorOutput(env.ErrOut),
		})
		return config
	}
	cmd := &cobra.Command{
		Use:         "kubectl-metal",
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl metal"},
		Short:       "Operate machines and firewalls of metal-stack",
		Long: `Operate machines and firewalls of metal-stack with the rights that you have in Kubernetes.

A NAME is that of a MetalStackMachine. For a MetalStackFirewall it is firewall/NAME or msf/NAME, or NAME with --firewall.`,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.SetIn(env.In)
	cmd.SetOut(env.Out)
	cmd.SetErr(env.ErrOut)
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError(cmd, err) })
	cmd.CompletionOptions.HiddenDefaultCmd = true
	cmd.SetUsageTemplate(usageTemplate(cmd))
	s.flags.AddFlags(cmd.PersistentFlags())
	version.AddFlag(cmd, cmd.Flags())
	cmd.AddGroup(&cobra.Group{ID: ordering, Title: "Order:"}, &cobra.Group{ID: observing, Title: "Observe:"}, &cobra.Group{ID: operating, Title: "Operate:"})
	for group, commands := range map[string][]*cobra.Command{
		observing: {newList(s), newDescribe(s), newIssues(s), newLog(s), newWait(s)},
		ordering:  {newOffers(s), newCanIHave(s)},
		operating: {newPower(s), newConsolePassword(s), newIdentify(s), newLock(s), newUnlock(s), newReinstall(s), newAdopt(s)},
	} {
		for _, c := range commands {
			c.GroupID = group
			cmd.AddCommand(c)
		}
	}
	s.completeGlobalFlags(cmd)
	return cmd
}

// usageTemplate lists the flags that all commands have in the help of kubectl metal only.
func usageTemplate(cmd *cobra.Command) string {
	return strings.Replace(cmd.UsageTemplate(), `Global Flags:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}`, `Flags of kubectl, such as --namespace and --context: see kubectl metal --help`, 1)
}

// The groups of commands in the help.
const (
	ordering  = "ordering"
	observing = "observing"
	operating = "operating"
)

// usageError adds to an error of the command line where its rules are.
func usageError(cmd *cobra.Command, err error) error {
	return fmt.Errorf("%w\nUsage: %s\nSee: %s --help", err, cmd.UseLine(), cmd.CommandPath())
}

// exactlyOneName checks the arguments of a command about one object.
func exactlyOneName(cmd *cobra.Command, args []string) error {
	switch len(args) {
	case 1:
		return nil
	case 0:
		return usageError(cmd, errors.New("the NAME of a machine or firewall is missing: `kubectl metal ls` lists them"))
	}
	return usageError(cmd, fmt.Errorf("expected one NAME, got %q", args))
}

// noArguments checks the arguments of a command about all objects.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError(cmd, fmt.Errorf("expected no arguments, got %q", args))
	}
	return nil
}

// printError prints an error, as kubectl does, and what can be done about it.
func printError(env Environment, err error) {
	prefix := "error: "
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		prefix = "Error from server: "
		if reason := apierrors.ReasonForError(err); reason != "" {
			prefix = fmt.Sprintf("Error from server (%s): ", reason)
		}
		fmt.Fprintln(env.ErrOut, prefix+oneline.Sanitize(err.Error(), maxError))
	} else {
		fmt.Fprintln(env.ErrOut, prefix+cleanLines(err.Error()))
	}
	var explained *fleet.Explained
	if errors.As(err, &explained) {
		fmt.Fprintln(env.ErrOut, cleanLines(explained.Hint))
	}
}

// cleanLines keeps the lines of a text, and no other control character.
func cleanLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = oneline.Sanitize(line, maxError)
	}
	return strings.Join(lines, "\n")
}
