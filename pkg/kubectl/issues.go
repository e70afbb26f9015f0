// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"github.com/spf13/cobra"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/fleet"
	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/render"
)

// listOptions are the flags of commands about all objects.
type listOptions struct {
	allNamespaces bool
	selector      string
}

func (l *listOptions) addTo(cmd *cobra.Command) {
	cmd.Args = noArguments
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.Flags().BoolVarP(&l.allNamespaces, "all-namespaces", "A", false, "List the objects of all namespaces that you may see.")
	cmd.Flags().StringVarP(&l.selector, "selector", "l", "", "Selector of labels, such as cluster.x-k8s.io/cluster-name=shop.")
}

func (l *listOptions) query() fleet.Query {
	return fleet.Query{AllNamespaces: l.allNamespaces, Selector: l.selector, Kinds: []fleet.Kind{fleet.Machine, fleet.Firewall}}
}

func newIssues(s *session) *cobra.Command {
	var l listOptions
	cmd := &cobra.Command{
		Use:     "issues",
		Short:   "List the machines and firewalls that an operator of metal-stack looks after",
		Long:    "List the machines and firewalls whose condition MetalIssues is True: crash loops, silent machines, failed reclaims, duplicate addresses, and so on.",
		Example: "  kubectl metal issues --all-namespaces",
	}
	l.addTo(cmd)
	out := addOutput(cmd, true)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := out.check(); err != nil {
			return err
		}
		client, err := s.client()
		if err != nil {
			return err
		}
		all, err := client.List(cmd.Context(), l.query())
		if err != nil {
			return err
		}
		var found []*fleet.Object
		for _, o := range all {
			if o.IsTrue(infrastructure.ConditionMetalIssues) {
				found = append(found, o)
			}
		}
		if !out.forPeople() {
			return out.printList(s.Out, found)
		}
		if len(found) == 0 {
			s.note("No issues found in %s, of %d objects.", s.where(client, l), len(all))
			return nil
		}
		style := s.Style
		if out.wide() {
			style.Width = 0
		}
		return s.issueTable(found, l.allNamespaces, out.wide()).Print(s.Out, style)
	}
	return cmd
}

// where says which namespaces a list covers.
func (s *session) where(client *fleet.Client, l listOptions) string {
	if l.allNamespaces {
		return "all namespaces"
	}
	return "namespace " + client.Namespace
}

func (s *session) issueTable(found []*fleet.Object, namespaces, wide bool) render.Table {
	columns := []render.Column{{Title: "NAME", Min: 12}, {Title: "KIND"}, {Title: "ISSUE"}, {Title: "SINCE"}, {Title: "MESSAGE", Min: 16}}
	if namespaces {
		columns = append([]render.Column{{Title: "NAMESPACE", Min: 9}}, columns...)
	}
	if wide {
		columns = append(columns, render.Column{Title: "MACHINE ID"}, render.Column{Title: "RACK"})
	}
	table := render.Table{Columns: columns}
	for _, o := range found {
		c := o.Condition(infrastructure.ConditionMetalIssues)
		cells := []render.Cell{
			{Text: o.Name}, {Text: o.Kind.Short}, {Text: c.Reason, Color: render.Bad},
			{Text: render.Age(s.Clock.Now(), c.LastTransitionTime.Time)}, {Text: c.Message},
		}
		if namespaces {
			cells = append([]render.Cell{{Text: o.Namespace}}, cells...)
		}
		if wide {
			id, rack := "", ""
			if o.Metal != nil {
				id, rack = o.Metal.MachineID, o.Metal.Rack
			}
			cells = append(cells, render.Cell{Text: id}, render.Cell{Text: rack})
		}
		table.Rows = append(table.Rows, render.Row{Cells: cells})
	}
	return table
}
