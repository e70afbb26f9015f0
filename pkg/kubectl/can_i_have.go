// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/imageversion"
	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/fleet"
	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/render"
)

// wish is what is asked for.
type wish struct {
	fleet.Wish
	count    int64
	kindName string
}

// quota is how many machines a project may have, and has.
type quota struct {
	Limit *int64 `json:"limit,omitempty"`
	Used  *int64 `json:"used,omitempty"`
}

// reply is the answer for one partition.
type reply struct {
	Size      string `json:"size"`
	Partition string `json:"partition,omitempty"`
	Allowed   bool   `json:"allowed"`
	Count     int64  `json:"count"`
	Available int64  `json:"available"`
	Total     int64  `json:"total"`
	Quota     *quota `json:"quota,omitempty"`
	Image     string `json:"image,omitempty"`
	// Reasons are why not, and Unknown is what keeps it from being known.
	Reasons []string `json:"reasons,omitempty"`
	Unknown []string `json:"unknown,omitempty"`
	// Warnings are what is to be known besides.
	Warnings []string `json:"warnings,omitempty"`
	// capacity is what of Reasons or Unknown is about free machines, and countWarnings are those
	// of Warnings that are about the count.
	capacity      capacityAnswer
	countWarnings []string
}

// capacityAnswer is why there are not enough machines, or why that is not known.
type capacityAnswer struct{ reasons, unknown []string }

func newCanIHave(s *session) *cobra.Command {
	var w wish
	cmd := &cobra.Command{
		Use:   "can-i-have SIZE",
		Short: "Find out whether a machine could be allocated now",
		Long: `Find out whether a machine could be allocated now, and why not. Nothing is allocated or created. The exit code is 0 if it could be, in one of the partitions, 1 if not, and after any error, and 2 if that cannot be known.

With --image, and the right to create a machine, the server checks everything that an allocation would be refused for. Otherwise the answer comes from what can be read: free machines, reservations, quota and image.`,
		Example: `  kubectl metal can-i-have c1-large-x86
  kubectl metal can-i-have c1-large-x86 --partition=fra-01 --image=ubuntu-24.04 --network=my-network --count=3
  kubectl metal can-i-have n1-medium-x86 --partition=fra-01 --image=firewall-ubuntu-3.0 --for=firewall`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError(cmd, fmt.Errorf("expected one SIZE, got %q: `kubectl metal offers` lists them", args))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&w.Partition, "partition", "", "Partition of the machine; without it, all that have machines of the size.")
	cmd.Flags().StringVar(&w.Image, "image", "", "Id or alias of the image.")
	cmd.Flags().StringArrayVar(&w.Networks, "network", nil, "Id of a network of the machine; may be repeated.")
	cmd.Flags().Int64Var(&w.count, "count", 1, "How many machines.")
	cmd.Flags().StringVar(&w.kindName, "for", "machine", "What the machine is for: machine or firewall.")
	cmd.RegisterFlagCompletionFunc("for", cobra.FixedCompletions([]string{"machine", "firewall"}, cobra.ShellCompDirectiveNoFileComp)) //nolint:errcheck // The flag exists.
	s.completeOffers(cmd)
	out := addDataOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := out.check(); err != nil {
			return err
		}
		if err := w.check(cmd); err != nil {
			return err
		}
		w.Size = args[0]
		return w.run(cmd.Context(), s, out)
	}
	return cmd
}

func (w *wish) check(cmd *cobra.Command) error {
	switch w.kindName {
	case "machine":
		w.Kind = fleet.Machine
	case "firewall":
		w.Kind = fleet.Firewall
	default:
		return usageError(cmd, fmt.Errorf("--for=%q: must be machine or firewall", w.kindName))
	}
	if w.count < 1 {
		return usageError(cmd, fmt.Errorf("--count=%d: must be at least 1", w.count))
	}
	return nil
}

func (w *wish) run(ctx context.Context, s *session, out *dataOutput) error {
	client, err := s.client()
	if err != nil {
		return err
	}
	offers, err := client.Offers(ctx)
	if err != nil {
		return err
	}
	var image *v1alpha4.MetalStackImage
	if w.Image != "" {
		images, err := client.Images(ctx)
		if err != nil {
			return err
		}
		image = imageOf(images, w.Image)
	}
	var replies []*reply
	for _, partition := range w.partitions(offers) {
		r := w.answer(offers, image, partition, s.Clock.Now())
		if partition != "" {
			if err := w.ask(ctx, client, r); err != nil {
				return err
			}
		}
		r.Allowed = len(r.Reasons)+len(r.Unknown) == 0
		replies = append(replies, r)
	}
	if err := printReplies(s, out, replies); err != nil {
		return err
	}
	switch {
	case slices.ContainsFunc(replies, func(r *reply) bool { return r.Allowed }):
		return nil
	case slices.ContainsFunc(replies, func(r *reply) bool { return len(r.Reasons) == 0 }):
		return errUnknown
	}
	return errNo
}

// partitions are those that are asked for; an empty one if there is none.
func (w *wish) partitions(offers *fleet.Offers) []string {
	if w.Partition != "" {
		return []string{w.Partition}
	}
	var names []string
	for _, o := range offersOf(offers) {
		if o.Size == w.Size {
			names = append(names, o.Partition)
		}
	}
	if len(names) == 0 {
		return []string{""}
	}
	return names
}

// imageOf returns the image that a name stands for, nil if there is none.
func imageOf(images []v1alpha4.MetalStackImage, name string) *v1alpha4.MetalStackImage {
	for i := range images {
		if images[i].Name == name || images[i].Status.Newest && images[i].Status.Alias == name {
			return &images[i]
		}
	}
	return nil
}

// answer answers from what can be read.
func (w *wish) answer(offers *fleet.Offers, image *v1alpha4.MetalStackImage, partition string, now time.Time) *reply {
	r := &reply{Size: w.Size, Partition: partition, Count: w.count, Image: w.Image}
	refuse := func(format string, args ...any) { r.Reasons = append(r.Reasons, fmt.Sprintf(format, args...)) }
	size := slices.IndexFunc(offers.Sizes, func(s v1alpha4.MetalStackSize) bool { return s.Name == w.Size })
	switch {
	case size < 0:
		refuse("there is no size %q: kubectl metal offers lists the sizes", w.Size)
	case partition == "":
		refuse("no partition has machines of size %s", w.Size)
	case !slices.ContainsFunc(offers.Partitions, func(p v1alpha4.MetalStackPartition) bool { return p.Name == partition }):
		refuse("there is no partition %q: kubectl get metalstackpartitions lists them", partition)
	default:
		w.answerCapacity(offers, r)
	}
	if project := offers.Project; project != nil {
		for _, q := range project.Status.Quotas {
			if q.Resource != "machines" || q.Limit == nil && q.Used == nil {
				continue
			}
			r.Quota = &quota{q.Limit, q.Used}
			if q.Limit != nil && q.Used != nil && *q.Used+w.count > *q.Limit {
				r.countWarnings = append(r.countWarnings, fmt.Sprintf("the project has %d of the %d machines and firewalls of its quota: metal-stack may refuse %d more", *q.Used, *q.Limit, w.count))
			}
		}
		r.Warnings = append(r.Warnings, r.countWarnings...)
	} else {
		r.Warnings = append(r.Warnings, "the project's quota and reservations cannot be read: they need the ClusterRole view")
	}
	if w.Image == "" {
		return r
	}
	if image == nil {
		refuse("there is no image %q: kubectl get metalstackimages lists them", w.Image)
		return r
	}
	r.Image = image.Name
	if !slices.Contains(image.Status.Features, w.kindName) {
		refuse("image %s is not for a %s: its features are %s", image.Name, w.kindName, strings.Join(image.Status.Features, ", "))
	}
	if expires := image.Status.ExpirationTime; expires != nil && !expires.After(now) {
		r.Warnings = append(r.Warnings, fmt.Sprintf("image %s expired at %s: metal-stack installs it all the same", image.Name, expires.UTC().Format(time.RFC3339)))
	}
	if size >= 0 {
		for _, c := range offers.Sizes[size].Status.Images {
			os, version, ok := imageversion.Parse(image.Name)
			switch {
			case c.OS != image.Status.OS:
			case ok && os == c.OS && !imageversion.MayAllow(c.Versions, version):
				refuse("size %s allows no image %s: its versions of %s must be %s", w.Size, image.Name, c.OS, c.Versions)
			default:
				r.Warnings = append(r.Warnings, fmt.Sprintf("size %s allows %s %s", w.Size, c.OS, c.Versions))
			}
		}
	}
	return r
}

// answerCapacity compares what is asked for with what is available.
func (w *wish) answerCapacity(offers *fleet.Offers, r *reply) {
	var found offer
	for _, o := range offersOf(offers) {
		if o.Size == r.Size && o.Partition == r.Partition {
			found = o
		}
	}
	r.Available, r.Total = found.Available, found.Total
	if r.Available >= w.count {
		return
	}
	if found.most >= w.count {
		r.capacity.unknown = []string{fmt.Sprintf("%d to %d of %d %s in %s are available to the project: how many cannot be told from what can be read", r.Available, found.most, r.Total, r.Size, r.Partition)}
		r.Unknown = append(r.Unknown, r.capacity.unknown...)
		return
	}
	begin := noMachineAvailable
	if r.Available > 0 {
		begin = fmt.Sprintf("no %d machines available", w.count)
	}
	r.capacity.reasons = []string{fmt.Sprintf("%s: %d of %d %s in %s are available (free: %d, reserved for other projects: %d)",
		begin, r.Available, r.Total, r.Size, r.Partition, found.Free, found.Free-r.Available)}
	r.Reasons = append(r.Reasons, r.capacity.reasons...)
}

// noMachineAvailable is how the server's reason begins, and ours.
const noMachineAvailable = "no machine available"

// ask has the server check, if the user may ask it. What it says replaces what was read, but for
// what is about several machines.
func (w *wish) ask(ctx context.Context, client *fleet.Client, r *reply) error {
	if w.Image == "" {
		r.Warnings = append(r.Warnings, "image, networks and file system layout are not checked without --image")
		return nil
	}
	asked := w.Wish
	asked.Partition = r.Partition
	warnings, mayCheck, err := client.CheckCreate(ctx, asked)
	if !mayCheck && err == nil {
		r.Warnings = append(r.Warnings, "networks and file system layout are not checked: that needs the right to create a "+w.kindName)
		return nil
	}
	r.Reasons, r.Unknown, r.Warnings = nil, nil, nil
	if w.count > 1 {
		r.Warnings = r.countWarnings
	}
	for _, text := range warnings {
		if reason, refused := strings.CutPrefix(text, infrastructure.AllocationWouldBeRefused); refused {
			r.Reasons = append(r.Reasons, reason)
			continue
		}
		if strings.HasPrefix(text, infrastructure.AllocationUnknown) {
			r.Unknown = append(r.Unknown, text)
			continue
		}
		r.Warnings = append(r.Warnings, text)
	}
	if err != nil {
		refused, refusals := refusalsOf(err)
		switch {
		case !refused:
			return err
		case apierrors.IsTooManyRequests(err), apierrors.IsServiceUnavailable(err):
			r.Unknown = append(r.Unknown, refusals...)
		default:
			r.Reasons = append(r.Reasons, refusals...)
		}
	}
	// The server checks for one machine.
	if w.count > 1 && !slices.ContainsFunc(r.Reasons, func(reason string) bool { return strings.HasPrefix(reason, noMachineAvailable) }) {
		r.Reasons = append(r.capacity.reasons, r.Reasons...)
		r.Unknown = append(r.capacity.unknown, r.Unknown...)
	}
	return nil
}

// refusalsOf are the reasons of an error that is an answer of the server.
func refusalsOf(err error) (refused bool, reasons []string) {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !(apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err)) {
		return false, nil
	}
	if details := status.Status().Details; apierrors.IsInvalid(err) && details != nil && len(details.Causes) > 0 {
		for _, cause := range details.Causes {
			reasons = append(reasons, cause.Field+": "+cause.Message)
		}
		return true, reasons
	}
	return true, []string{err.Error()}
}

// printReplies prints a table, and then the reasons.
func printReplies(s *session, out *dataOutput, replies []*reply) error {
	if out.format != "" {
		return out.print(s.Out, replies)
	}
	table := render.Table{Columns: []render.Column{
		{Title: "SIZE", Min: 12}, {Title: "PARTITION"}, {Title: "AVAILABLE"}, {Title: "QUOTA", Optional: true}, {Title: "IMAGE", Min: 12, Optional: true}, {Title: "ANSWER"},
	}}
	for _, r := range replies {
		answer := render.Cell{Text: "no", Color: render.Bad}
		switch {
		case r.Allowed:
			answer = render.Cell{Text: "yes", Color: render.Good}
		case len(r.Reasons) == 0:
			answer = render.Cell{Text: "unknown", Color: render.Warning}
		}
		table.Rows = append(table.Rows, render.Row{Cells: []render.Cell{
			{Text: r.Size}, {Text: r.Partition}, {Text: fmt.Sprintf("%d of %d", r.Available, r.Total)}, {Text: r.Quota.String()}, {Text: r.Image}, answer,
		}})
	}
	if err := table.Print(s.Out, s.Style); err != nil {
		return err
	}
	for _, r := range replies {
		for _, reason := range append(r.Reasons[:len(r.Reasons):len(r.Reasons)], r.Unknown...) {
			if len(replies) > 1 {
				reason = r.Partition + ": " + reason
			}
			s.printf("%s\n", reason)
		}
	}
	var noted []string
	for _, r := range replies {
		for _, text := range r.Warnings {
			if !slices.Contains(noted, text) {
				noted = append(noted, text)
				s.note("Warning: %s", text)
			}
		}
	}
	return nil
}

// String is how much of the quota is used.
func (q *quota) String() string {
	switch {
	case q == nil || q.Used == nil:
		return ""
	case q.Limit == nil:
		return fmt.Sprint(*q.Used)
	}
	return fmt.Sprintf("%d of %d", *q.Used, *q.Limit)
}

// completeOffers completes sizes, partitions and images.
func (s *session) completeOffers(cmd *cobra.Command) {
	complete := func(names func(ctx context.Context, client *fleet.Client) []string) cobra.CompletionFunc {
		return func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
			defer cancel()
			client, err := s.client()
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			all := slices.DeleteFunc(names(ctx, client), func(name string) bool { return !strings.HasPrefix(name, typed) })
			slices.Sort(all)
			return slices.Compact(all), cobra.ShellCompDirectiveNoFileComp
		}
	}
	sizes := complete(func(ctx context.Context, client *fleet.Client) (names []string) {
		if offers, err := client.Offers(ctx); err == nil {
			for _, size := range offers.Sizes {
				names = append(names, size.Name)
			}
		}
		return names
	})
	for flag, completion := range map[string]cobra.CompletionFunc{
		"size": sizes,
		"partition": complete(func(ctx context.Context, client *fleet.Client) (names []string) {
			if offers, err := client.Offers(ctx); err == nil {
				for _, partition := range offers.Partitions {
					names = append(names, partition.Name)
				}
			}
			return names
		}),
		"image": complete(func(ctx context.Context, client *fleet.Client) (names []string) {
			images, err := client.Images(ctx)
			if err != nil {
				return nil
			}
			for _, image := range images {
				if image.Status.Newest {
					names = append(names, image.Status.Alias)
				}
			}
			return names
		}),
	} {
		if cmd.Flags().Lookup(flag) != nil {
			cmd.RegisterFlagCompletionFunc(flag, completion) //nolint:errcheck // The flag exists.
		}
	}
	if cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return sizes(cmd, args, typed)
		}
	}
}
