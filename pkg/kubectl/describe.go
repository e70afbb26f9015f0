// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/fleet"
	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/render"
)

// recentEvents is how many provisioning events and Events a description has at most.
const recentEvents = 10

func newDescribe(s *session) *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use:   "describe NAME",
		Short: "Show a machine: object, metal, owners of Cluster API, and events",
		Long: `Show a machine: object, metal, owners of Cluster API, and events.

What you may not read is said in its place. With --output, the object is printed.`,
		Example: "  kubectl metal describe worker-1\n  kubectl metal describe firewall/shop-1",
	}
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
		obj, err := client.Get(cmd.Context(), ref)
		if err != nil {
			return err
		}
		if !out.forPeople() {
			return out.print(s.Out, obj.Source, ref)
		}
		d := describer{session: s, client: client, obj: obj}
		return render.Print(s.Out, s.Style, d.sections(cmd.Context()))
	}
	return cmd
}

// describer reads what belongs to an object.
type describer struct {
	*session
	client *fleet.Client
	obj    *fleet.Object
}

func (d *describer) sections(ctx context.Context) []render.Section {
	return []render.Section{
		d.object(), d.owners(ctx), d.metal(), d.networks(), d.power(ctx), d.lastOperation(), d.conditions(), d.log(ctx), d.events(ctx),
	}
}

func (d *describer) ago(t *metav1.Time) string { return render.Ago(d.Clock.Now(), t) }

// unreadable says why something is not shown.
func unreadable(err error) string { return "cannot be read: " + clean(err.Error()) }

func (d *describer) object() render.Section {
	o := d.obj
	section := render.Section{}
	section.Add("Name", o.Name)
	section.Add("Namespace", o.Namespace)
	section.Add("Kind", o.Kind.Name)
	section.Add("Cluster", o.Cluster())
	section.Add("Created", d.ago(&o.CreationTimestamp))
	section.AddColored("Deletion requested", d.ago(o.DeletionTimestamp), render.Warning)
	if c := o.Condition(infrastructure.ConditionReady); c != nil {
		color := render.Warning
		if c.Status == metav1.ConditionTrue {
			color = render.Good
		}
		section.AddColored("Ready", fmt.Sprintf("%s (%s)", c.Status, c.Reason), color)
	}
	if c := o.Condition(infrastructure.ConditionMetalIssues); c != nil && c.Status == metav1.ConditionTrue {
		section.AddColored("Issues", c.Reason+": "+c.Message, render.Bad)
	}
	if o.Discovered() {
		section.Add("Managed", "no: the machine was discovered (kubectl metal adopt)")
	}
	section.Add("Image", o.Image)
	section.Add("Size", o.Size)
	section.Add("Provider ID", o.ProviderID)
	return section
}

func (d *describer) owners(ctx context.Context) render.Section {
	table := &render.Table{Columns: []render.Column{{Title: "KIND"}, {Title: "NAME", Min: 20}, {Title: "STATE", Min: 20}}}
	for _, owner := range d.client.Owners(ctx, d.obj) {
		state := owner.State
		switch {
		case owner.Err != nil:
			state = unreadable(owner.Err)
		case owner.Replaced:
			state = "another object has this name now"
		case owner.Deleting:
			state += ", is being deleted"
		}
		if owner.Node != "" {
			state += ", Node " + owner.Node
		}
		table.Rows = append(table.Rows, render.Row{Cells: []render.Cell{{Text: owner.Kind}, {Text: owner.Name}, {Text: strings.TrimPrefix(state, ", ")}}})
	}
	return render.Section{Title: "Owners", Table: table}
}

func (d *describer) metal() render.Section {
	section := render.Section{Title: "Metal"}
	m := d.obj.Metal
	if m == nil || m.MachineID == "" {
		section.Add("Phase", d.obj.Phase())
		return section
	}
	section.Add("Machine ID", m.MachineID)
	section.Add("Allocation", m.AllocationUUID)
	section.Add("Project", m.Project)
	section.Add("Partition", m.Partition)
	section.Add("Rack", m.Rack)
	section.Add("Size", m.Size)
	section.Add("Image", m.Image)
	section.Add("Hostname", m.Hostname)
	section.Add("Allocated", d.ago(m.AllocationTime))
	section.Add("Phase", m.Phase)
	section.Add("Liveliness", m.Liveliness)
	if m.LastEvent != nil {
		section.Add("Last event", strings.TrimSpace(m.LastEvent.Event+" "+d.ago(m.LastEvent.Time)+" "+m.LastEvent.Message))
	}
	for _, flag := range []struct {
		set  bool
		name string
	}{{m.Locked, "Locked"}, {m.CrashLoop, "Crash loop"}, {m.FailedMachineReclaim, "Failed reclaim"}} {
		if flag.set {
			section.AddColored(flag.name, "yes", render.Warning)
		}
	}
	return section
}

func (d *describer) networks() render.Section {
	table := &render.Table{Columns: []render.Column{{Title: "NETWORK", Min: 16}, {Title: "ADDRESSES", Min: 16}, {Title: "PREFIXES", Min: 16}, {Title: "PRIVATE", Optional: true}, {Title: "ASN", Optional: true}}}
	if d.obj.Metal != nil {
		for _, n := range d.obj.Metal.Networks {
			table.Rows = append(table.Rows, render.Row{Cells: []render.Cell{
				{Text: n.ID}, {Text: strings.Join(n.IPs, ", ")}, {Text: strings.Join(n.Prefixes, ", ")}, {Text: fmt.Sprint(n.Private)}, {Text: fmt.Sprint(n.ASN)},
			}})
		}
	}
	return render.Section{Title: "Networks", Table: table}
}

func (d *describer) hasMetal() bool { return d.obj.Metal != nil && d.obj.Metal.MachineID != "" }

func (d *describer) power(ctx context.Context) render.Section {
	section := render.Section{Title: "Power"}
	if !d.hasMetal() {
		return section
	}
	power, err := d.client.PowerState(ctx, d.obj.Reference())
	if err != nil {
		section.Add("State", unreadable(err))
		return section
	}
	section.Add("State", d.powerText(power))
	section.Add("BMC", power.Status.BMCVersion)
	section.Add("BIOS", power.Status.BIOSVersion)
	return section
}

func (d *describer) lastOperation() render.Section {
	section := render.Section{Title: "Last operation"}
	last := d.obj.LastOperation
	if last == nil {
		return section
	}
	action := last.Action
	if last.Image != "" {
		action += " with " + last.Image
	}
	section.Add("Action", action)
	if last.RequestTime != nil {
		section.Add("Requested", d.ago(&metav1.Time{Time: last.RequestTime.Time}))
	}
	section.Add("User", last.User)
	section.Add("Reason", last.Reason)
	section.Add("Outcome", strings.TrimSuffix(string(last.Outcome)+": "+last.Message, ": "))
	if d.obj.Metal != nil && last.AllocationUUID != "" && last.AllocationUUID != d.obj.Metal.AllocationUUID {
		section.Add("Allocation", "an earlier one")
	}
	return section
}

func (d *describer) conditions() render.Section {
	table := &render.Table{Columns: []render.Column{{Title: "TYPE"}, {Title: "STATUS"}, {Title: "REASON"}, {Title: "AGE", Optional: true}, {Title: "MESSAGE", Min: 16}}}
	for _, c := range d.obj.Conditions {
		table.Rows = append(table.Rows, render.Row{Cells: []render.Cell{
			{Text: c.Type}, {Text: string(c.Status)}, {Text: c.Reason}, {Text: render.Age(d.Clock.Now(), c.LastTransitionTime.Time)}, {Text: c.Message},
		}})
	}
	return render.Section{Title: "Conditions", Table: table}
}

func (d *describer) log(ctx context.Context) render.Section {
	section := render.Section{Title: "Provisioning events"}
	if !d.hasMetal() {
		return section
	}
	log, err := d.client.Log(ctx, d.obj.Reference())
	if err != nil {
		section.Add("Log", unreadable(err))
		return section
	}
	events := log.Events
	if older := len(events) - recentEvents; older > 0 {
		section.Add("Older", fmt.Sprintf("%d (kubectl metal log)", older))
		events = events[older:]
	}
	table := eventTable(events)
	section.Table = &table
	return section
}

func (d *describer) events(ctx context.Context) render.Section {
	section := render.Section{Title: "Events"}
	events, err := d.client.Events(ctx, d.obj)
	if err != nil {
		section.Add("Events", unreadable(err))
		return section
	}
	events = events[max(0, len(events)-recentEvents):]
	section.Table = &render.Table{Columns: []render.Column{{Title: "TIME", Optional: true}, {Title: "AGE"}, {Title: "TYPE"}, {Title: "REASON"}, {Title: "MESSAGE", Min: 20}}}
	for i := range events {
		e := &events[i]
		color := render.Plain
		if e.Type == corev1.EventTypeWarning {
			color = render.Warning
		}
		seen := fleet.LastSeen(e)
		section.Table.Rows = append(section.Table.Rows, render.Row{Cells: []render.Cell{
			{Text: seen.UTC().Format(time.RFC3339)}, {Text: render.Age(d.Clock.Now(), seen)}, {Text: e.Type, Color: color}, {Text: e.Reason}, {Text: e.Message},
		}})
	}
	return section
}
