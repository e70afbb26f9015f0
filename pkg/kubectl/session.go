// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
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

// printf prints what a command says, to standard output. Each text among the arguments becomes
// one line: it may be the server's.
func (s *session) printf(format string, args ...any) {
	fmt.Fprintf(s.Out, format, cleanAll(args)...)
}

// note prints what is no result: to standard error.
func (s *session) note(format string, args ...any) {
	fmt.Fprintf(s.ErrOut, format+"\n", cleanAll(args)...)
}

// cleanAll makes one line of each argument of a format that is a text.
func cleanAll(args []any) []any {
	cleaned := make([]any, len(args))
	for i, arg := range args {
		switch a := arg.(type) {
		case error, fmt.Stringer:
			cleaned[i] = clean(fmt.Sprint(a))
		default:
			cleaned[i] = arg
			if v := reflect.ValueOf(arg); v.Kind() == reflect.String {
				cleaned[i] = clean(v.String())
			}
		}
	}
	return cleaned
}

// hint returns a command line of kubectl metal with the flags that lead to the same objects.
func (s *session) hint(args string) string {
	line := "kubectl metal " + args
	for _, flag := range []struct {
		name  string
		value *string
	}{
		{"namespace", s.flags.Namespace}, {"context", s.flags.Context}, {"cluster", s.flags.ClusterName},
		{"server", s.flags.APIServer}, {"kubeconfig", s.flags.KubeConfig},
	} {
		if *flag.value != "" {
			line += " --" + flag.name + "=" + quote(*flag.value)
		}
	}
	return line
}

var plainWord = regexp.MustCompile(`^[\w./:@%+,~-]+$`)

// quote returns a word as a shell reads it.
func quote(word string) string {
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// fullName names an object in a question, with what tells it from others of its name: the id of
// the machine, the namespace, and which cluster the flags and the kubeconfig lead to.
func (s *session) fullName(client *fleet.Client, obj *fleet.Object) string {
	var details []string
	if obj.Metal != nil && obj.Metal.MachineID != "" {
		details = append(details, "machine "+obj.Metal.MachineID)
	}
	details = append(details, "namespace "+client.Namespace)
	context := *s.flags.Context
	if config, err := s.flags.ToRawKubeConfigLoader().RawConfig(); err == nil && context == "" {
		context = config.CurrentContext
	}
	for _, place := range []struct{ what, name string }{{"context", context}, {"cluster", *s.flags.ClusterName}, {"server", *s.flags.APIServer}} {
		if place.name != "" {
			details = append(details, place.what+" "+place.name)
		}
	}
	return fmt.Sprintf("%s (%s)", obj.Reference(), strings.Join(details, ", "))
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
