// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned/scheme"
	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/fleet"
)

// The output formats that print flags do not have.
const (
	wide = "wide"
	name = "name"
)

// output is the flag --output.
type output struct {
	*genericclioptions.PrintFlags
	cmd     *cobra.Command
	hasWide bool
}

// addOutput adds --output to a command; those that print tables have the format wide.
func addOutput(cmd *cobra.Command, hasWide bool) *output {
	o := &output{genericclioptions.NewPrintFlags("").WithTypeSetter(scheme.Scheme), cmd, hasWide}
	o.AddFlags(cmd)
	formats := []string{"json", "yaml", name}
	if hasWide {
		formats = append(formats, wide)
	}
	cmd.Flag("output").Usage = fmt.Sprintf("Output format: one of %q, or a template as of kubectl get.", formats)
	cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)) //nolint:errcheck // The flag exists.
	return o
}

// forPeople returns whether the output is for people, and not for programs.
func (o *output) forPeople() bool {
	templated := o.TemplatePrinterFlags.TemplateArgument != nil && *o.TemplatePrinterFlags.TemplateArgument != ""
	return *o.OutputFormat == "" && !templated || o.wide()
}

func (o *output) wide() bool { return *o.OutputFormat == wide && o.hasWide }

// check refuses formats that do not exist before anything is done.
func (o *output) check() error {
	if o.forPeople() {
		return nil
	}
	if _, err := o.ToPrinter(); err != nil {
		return usageError(o.cmd, err)
	}
	return nil
}

// print prints an answer about an object in the format.
func (o *output) print(w io.Writer, answer runtime.Object, ref fleet.Reference) error {
	if *o.OutputFormat == name {
		_, err := fmt.Fprintln(w, ref.FullName())
		return err
	}
	printer, err := o.ToPrinter()
	if err != nil {
		return err
	}
	return printer.PrintObj(answer, w)
}

// printList prints objects in the format.
func (o *output) printList(w io.Writer, all []*fleet.Object) error {
	list := &metav1.List{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "List"}, Items: []runtime.RawExtension{}}
	for _, obj := range all {
		if *o.OutputFormat == name {
			if _, err := fmt.Fprintln(w, obj.Reference().FullName()); err != nil {
				return err
			}
		}
		list.Items = append(list.Items, runtime.RawExtension{Object: obj.Source})
	}
	if *o.OutputFormat == name {
		return nil
	}
	printer, err := o.ToPrinter()
	if err != nil {
		return err
	}
	return printer.PrintObj(list, w)
}
