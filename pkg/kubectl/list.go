// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/fleet"
	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/render"
)

func newList(s *session) *cobra.Command {
	var l listOptions
	cmd := &cobra.Command{
		Use:     "ls",
		Short:   "List machines and firewalls as a tree of partitions and racks",
		Example: "  kubectl metal ls\n  kubectl metal ls --all-namespaces -o wide",
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
		if !out.forPeople() {
			return out.printList(s.Out, all)
		}
		if len(all) == 0 {
			s.note("No machines or firewalls found in %s.", s.where(client, l))
			return nil
		}
		style := s.Style
		if out.wide() {
			style.Width = 0
		}
		return fleetTable(all, l.allNamespaces, out.wide()).Print(s.Out, style)
	}
	return cmd
}

// The headings of objects whose metal does not say where it is.
const (
	noPartition = "no partition"
	noRack      = "no rack"
)

// fleetTable shows partitions, their racks, and what is in them.
func fleetTable(all []*fleet.Object, namespaces, wide bool) render.Table {
	columns := []render.Column{
		{Title: "NAME", Min: 32}, {Title: "KIND"}, {Title: "READY"}, {Title: "PHASE", Min: 11}, {Title: "NOTES", Min: 10},
		{Title: "SIZE", Optional: true}, {Title: "CLUSTER", Optional: true}, {Title: "ADDRESS", Optional: true}, {Title: "IMAGE", Optional: true},
	}
	if wide {
		columns = append(columns, render.Column{Title: "LIVELINESS"}, render.Column{Title: "MACHINE ID"})
	}
	byPartition := map[string]map[string][]*fleet.Object{}
	for _, o := range all {
		partition, rack := cmp.Or(o.Partition, noPartition), noRack
		if o.Metal != nil {
			partition, rack = cmp.Or(o.Metal.Partition, partition), cmp.Or(o.Metal.Rack, noRack)
		}
		if byPartition[partition] == nil {
			byPartition[partition] = map[string][]*fleet.Object{}
		}
		byPartition[partition][rack] = append(byPartition[partition][rack], o)
	}
	var roots []render.Node
	for _, partition := range slices.Sorted(maps.Keys(byPartition)) {
		racks := byPartition[partition]
		var members []*fleet.Object
		root := render.Node{}
		for _, rack := range slices.SortedFunc(maps.Keys(racks), lastly(noRack)) {
			node := render.Node{Text: rack}
			for _, o := range racks[rack] {
				node.Children = append(node.Children, leaf(o, namespaces, wide))
			}
			root.Children = append(root.Children, node)
			members = append(members, racks[rack]...)
		}
		root.Text = partition + ": " + summary(members)
		roots = append(roots, root)
	}
	return render.Table{Columns: columns, Rows: render.Tree(roots)}
}

// lastly sorts by name, with one at the end.
func lastly(last string) func(a, b string) int {
	return func(a, b string) int {
		if (a == last) != (b == last) {
			return map[bool]int{true: 1, false: -1}[a == last]
		}
		return strings.Compare(a, b)
	}
}

func leaf(o *fleet.Object, namespaces, wide bool) render.Node {
	text := o.Name
	if namespaces {
		text = o.Namespace + "/" + o.Name
	}
	ready, color := readiness(o), render.Warning
	switch {
	case ready == metav1.ConditionTrue:
		color = render.Good
	case o.IsTrue(infrastructure.ConditionMetalIssues):
		color = render.Bad
	}
	size, image, liveliness, id := o.Size, o.Image, "", ""
	if m := o.Metal; m != nil {
		size, image, liveliness, id = cmp.Or(m.Size, size), cmp.Or(m.Image, image), m.Liveliness, m.MachineID
	}
	node := render.Node{Text: text, Cells: []render.Cell{
		{Text: o.Kind.Short}, {Text: string(ready), Color: color}, {Text: o.Phase()},
		{Text: strings.Join(notes(o), ", "), Color: render.Warning},
		{Text: size}, {Text: o.Cluster()}, {Text: o.Address()}, {Text: image},
	}}
	if wide {
		node.Cells = append(node.Cells, render.Cell{Text: liveliness}, render.Cell{Text: id})
	}
	return node
}

// readiness is the status of the condition Ready.
func readiness(o *fleet.Object) metav1.ConditionStatus {
	if c := o.Condition(infrastructure.ConditionReady); c != nil {
		return c.Status
	}
	return metav1.ConditionUnknown
}

// notes are what a person should know of an object at a glance, the worst first.
func notes(o *fleet.Object) []string {
	var all []string
	if c := o.Condition(infrastructure.ConditionMetalIssues); c != nil && o.IsTrue(infrastructure.ConditionMetalIssues) {
		all = append(all, c.Reason)
	}
	if o.DeletionTimestamp != nil {
		all = append(all, "deleting")
	}
	if o.IsTrue(infrastructure.ConditionReinstalling) {
		all = append(all, "reinstalling")
	}
	if o.Metal != nil && o.Metal.Locked {
		all = append(all, "locked")
	}
	if o.Discovered() {
		all = append(all, "discovered")
	}
	return all
}

// summary counts objects, those that are not ready, and those of which that is not known.
func summary(members []*fleet.Object) string {
	machines, firewalls, notReady, unknown, issues := 0, 0, 0, 0, 0
	for _, o := range members {
		if o.Kind == fleet.Firewall {
			firewalls++
		} else {
			machines++
		}
		switch readiness(o) {
		case metav1.ConditionTrue:
		case metav1.ConditionFalse:
			notReady++
		default:
			unknown++
		}
		if o.IsTrue(infrastructure.ConditionMetalIssues) {
			issues++
		}
	}
	var parts []string
	for _, part := range []struct {
		n    int
		unit string
	}{{machines, "machine"}, {firewalls, "firewall"}} {
		if part.n > 0 {
			parts = append(parts, plural(part.n, part.unit))
		}
	}
	text := strings.Join(parts, ", ")
	if notReady > 0 {
		text += fmt.Sprintf(", %d not ready", notReady)
	}
	if unknown > 0 {
		text += fmt.Sprintf(", %d unknown", unknown)
	}
	if issues > 0 {
		text += fmt.Sprintf(", %d with issues", issues)
	}
	return text
}

func plural(n int, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}
