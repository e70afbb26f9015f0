// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/fleet"
	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/render"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// clean makes one line of a text of the server.
func clean(text string) string { return oneline.Sanitize(text, oneline.MaxMessage) }

func newLog(s *session) *cobra.Command {
	var t target
	var follow bool
	cmd := &cobra.Command{
		Use:     "log NAME",
		Short:   "Print the provisioning events of a machine",
		Long:    "Print the provisioning events of a machine's allocation that the metal-api keeps, the newest last.",
		Example: "  kubectl metal log worker-1\n  kubectl metal log firewall/shop-1 --follow",
	}
	t.addTo(s, cmd)
	out := addOutput(cmd, false)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "Print further events when they are observed, until the object is gone.")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := out.check(); err != nil {
			return err
		}
		if follow && !out.forPeople() {
			return usageError(cmd, errors.New("--follow prints text: it cannot be used with --output"))
		}
		client, ref, err := t.on(s, args)
		if err != nil {
			return err
		}
		if follow {
			return s.followLog(cmd.Context(), client, ref)
		}
		log, err := client.Log(cmd.Context(), ref)
		if err != nil {
			return err
		}
		if !out.forPeople() {
			return out.print(s.Out, log, ref)
		}
		if len(log.Events) == 0 {
			s.note("%s has sent no event in its allocation.", ref)
			return nil
		}
		return eventTable(log.Events).Print(s.Out, s.Style)
	}
	return cmd
}

// eventTable is a log as a table.
func eventTable(events []v1alpha4.MetalEvent) render.Table {
	table := render.Table{Columns: []render.Column{{Title: "TIME"}, {Title: "EVENT"}, {Title: "MESSAGE", Min: 20}}}
	for _, e := range events {
		table.Rows = append(table.Rows, render.Row{Cells: []render.Cell{{Text: timeOf(e)}, {Text: e.Event, Color: eventColor(e)}, {Text: e.Message}}})
	}
	return table
}

func timeOf(e v1alpha4.MetalEvent) string {
	if e.Time.IsZero() {
		return "<unknown>"
	}
	return e.Time.UTC().Format(time.RFC3339)
}

func eventColor(e v1alpha4.MetalEvent) render.Color {
	switch e.Event {
	case infrastructure.PhasePhonedHome:
		return render.Good
	case "Crashed":
		return render.Bad
	}
	return render.Plain
}

// logFollower prints the events of a log that it has not printed yet.
type logFollower struct {
	*session
	client *fleet.Client
	ref    fleet.Reference
	// seen is the last event of the object when its log was read, and allocation its
	// allocation.
	seen       v1alpha4.MetalEvent
	allocation string
	uid        types.UID
	// owed is true while the log has not been read since.
	owed bool
	// printed are the events that the last log had.
	printed map[string]bool
	last    string
}

// owedInterval is how often a log is read that could not be read when it had to be.
const owedInterval = 10 * time.Second

// followLog prints the log whenever the object shows another last event.
func (s *session) followLog(ctx context.Context, client *fleet.Client, ref fleet.Reference) error {
	f := &logFollower{session: s, client: client, ref: ref, printed: map[string]bool{}}
	err := client.Follow(ctx, ref, owedInterval, f.observe)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (f *logFollower) observe(ctx context.Context, o *fleet.Object) (bool, error) {
	if o == nil {
		if f.uid == "" {
			_, err := f.client.Get(ctx, f.ref) // says what is wrong with the name
			return true, err
		}
		f.note("%s is gone.", f.ref)
		return true, nil
	}
	event, allocation := v1alpha4.MetalEvent{}, ""
	if o.Metal != nil {
		allocation = o.Metal.AllocationUUID
		if o.Metal.LastEvent != nil {
			event = *o.Metal.LastEvent
		}
	}
	first := f.uid == ""
	if !first && !f.owed && sameEvent(event, f.seen) && allocation == f.allocation && o.UID == f.uid {
		return false, nil
	}
	f.seen, f.allocation, f.uid = event, allocation, o.UID
	log, err := f.client.Log(ctx, f.ref)
	switch {
	case err == nil:
	case first, apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return false, err
	default:
		if !f.owed {
			f.note("warning: the log cannot be read now, and is read again: %s", err)
		}
		f.owed = true
		return false, nil
	}
	f.owed = false
	f.print(log.Events)
	return false, nil
}

func sameEvent(a, b v1alpha4.MetalEvent) bool {
	return a.Event == b.Event && a.Message == b.Message && a.Time.Equal(b.Time)
}

// print prints what is new. Another Phoned Home after one is not: a machine that runs sends it
// again and again.
func (f *logFollower) print(events []v1alpha4.MetalEvent) {
	there := map[string]bool{}
	for _, e := range events {
		key := timeOf(e) + "\x00" + e.Event + "\x00" + e.Message
		there[key] = true
		kind := e.Event + "\x00" + e.Message
		if !f.printed[key] && (e.Event != infrastructure.PhasePhonedHome || kind != f.last) {
			line := fmt.Sprintf("%-20s  %-18s  %s", timeOf(e), clean(e.Event), clean(e.Message))
			fmt.Fprintln(f.Out, strings.TrimRight(line, " "))
		}
		if !f.printed[key] {
			f.last = kind
		}
	}
	f.printed = there
}
