// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/fleet"
	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/render"
)

// offer is how many machines of a size there are in a partition, and what they are.
type offer struct {
	Size      string `json:"size"`
	Partition string `json:"partition"`
	// Available is how many the project of the namespace can allocate at least, or, if that
	// cannot be read, any project without a reservation.
	Available int64 `json:"available"`
	// most is how many the project can allocate at most, as far as that can be read.
	most int64
	// Free includes those that are reserved for other projects.
	Free    int64  `json:"free"`
	Total   int64  `json:"total"`
	Cores   string `json:"cores,omitempty"`
	Memory  string `json:"memory,omitempty"`
	Storage string `json:"storage,omitempty"`
	GPUs    string `json:"gpus,omitempty"`
}

func newOffers(s *session) *cobra.Command {
	var size, partition string
	cmd := &cobra.Command{
		Use:     "offers",
		Short:   "List the sizes of machines, and how many can be allocated in each partition",
		Long:    "List the sizes of machines in each partition. AVAILABLE is how many the project of the namespace can allocate now, with its reservations; FREE counts those that are reserved for other projects, too. A project with several reservations of a size in a partition may have more than AVAILABLE.",
		Example: "  kubectl metal offers\n  kubectl metal offers --partition=fra-01",
		Args:    noArguments, ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().StringVar(&size, "size", "", "Only this size.")
	cmd.Flags().StringVar(&partition, "partition", "", "Only this partition.")
	s.completeOffers(cmd)
	out := addDataOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := out.check(); err != nil {
			return err
		}
		client, err := s.client()
		if err != nil {
			return err
		}
		all, err := client.Offers(cmd.Context())
		if err != nil {
			return err
		}
		found := slices.DeleteFunc(offersOf(all), func(o offer) bool {
			return size != "" && o.Size != size || partition != "" && o.Partition != partition
		})
		if out.format != "" {
			return out.print(s.Out, found)
		}
		if len(found) == 0 {
			s.note("No machines found in any partition that was asked for.")
			return nil
		}
		return offerTable(found).Print(s.Out, s.Style)
	}
	return cmd
}

// offersOf are all offers, by size and partition.
func offersOf(all *fleet.Offers) []offer {
	offers := []offer{}
	for _, p := range all.Partitions {
		for _, c := range p.Status.Capacity {
			o := offer{Size: c.Size, Partition: p.Name, Free: c.Free, Total: c.Total}
			o.Available, o.most = availableTo(all.Project, p.Name, c)
			if i := slices.IndexFunc(all.Sizes, func(s v1alpha4.MetalStackSize) bool { return s.Name == c.Size }); i >= 0 {
				status := all.Sizes[i].Status
				o.Cores, o.Memory, o.Storage, o.GPUs = rangeText(status.Cores), rangeText(status.Memory), rangeText(status.Storage), gpuText(status.GPUs)
			}
			offers = append(offers, o)
		}
	}
	slices.SortFunc(offers, func(a, b offer) int {
		return cmp.Or(cmp.Compare(a.Size, b.Size), cmp.Compare(a.Partition, b.Partition))
	})
	return offers
}

// availableTo is how many of the free machines a project can allocate: those up to its largest
// reservation whatever is reserved for others, and then what the others' reservations leave. More
// may be reserved than are free, and that is not shown: then, of a project with several
// reservations, it is only known that it is not less and not more than two numbers.
func availableTo(project *v1alpha4.MetalStackProject, partition string, c v1alpha4.SizeCapacity) (least, most int64) {
	if project == nil {
		return c.Available, c.Free
	}
	var largest, sum int64
	for _, r := range project.Status.Reservations {
		if r.Size == c.Size && r.Partition == partition {
			left := max(r.Amount-r.Used, 0)
			largest, sum = max(largest, left), sum+left
		}
	}
	own := min(largest, c.Free)
	most = own + max(c.Free-own-max(c.Reserved-sum, 0), 0)
	if largest < sum && c.Reserved == c.Free {
		return own, most
	}
	return most, most
}

func rangeText(r *v1alpha4.SizeRange) string {
	switch {
	case r == nil:
		return ""
	case r.Min.Cmp(r.Max) == 0:
		return r.Min.String()
	}
	return r.Min.String() + "-" + r.Max.String()
}

func gpuText(gpus []v1alpha4.SizeGPU) (text string) {
	for i, g := range gpus {
		if i > 0 {
			text += ", "
		}
		if text += strconv.FormatInt(g.Min, 10); g.Max != g.Min {
			text += "-" + strconv.FormatInt(g.Max, 10)
		}
		text += " " + g.Model
	}
	return text
}

func offerTable(offers []offer) render.Table {
	table := render.Table{Columns: []render.Column{
		{Title: "SIZE", Min: 12}, {Title: "PARTITION"}, {Title: "AVAILABLE"}, {Title: "FREE"}, {Title: "TOTAL"},
		{Title: "CORES", Optional: true}, {Title: "MEMORY", Optional: true}, {Title: "STORAGE", Optional: true}, {Title: "GPUS", Optional: true},
	}}
	for _, o := range offers {
		color := render.Good
		if o.Available == 0 {
			color = render.Warning
		}
		table.Rows = append(table.Rows, render.Row{Cells: []render.Cell{
			{Text: o.Size}, {Text: o.Partition}, {Text: strconv.FormatInt(o.Available, 10), Color: color},
			{Text: strconv.FormatInt(o.Free, 10)}, {Text: strconv.FormatInt(o.Total, 10)},
			{Text: o.Cores}, {Text: o.Memory}, {Text: o.Storage}, {Text: o.GPUs},
		}})
	}
	return table
}

// dataOutput is the flag --output of commands that print no objects.
type dataOutput struct {
	format string
	cmd    *cobra.Command
}

func addDataOutput(cmd *cobra.Command) *dataOutput {
	o := &dataOutput{cmd: cmd}
	formats := []string{"json", "yaml"}
	cmd.Flags().StringVarP(&o.format, "output", "o", "", fmt.Sprintf("Output format: one of %q.", formats))
	cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)) //nolint:errcheck // The flag exists.
	return o
}

func (o *dataOutput) check() error {
	switch o.format {
	case "", "json", "yaml":
		return nil
	}
	return usageError(o.cmd, fmt.Errorf("--output=%q: must be json or yaml", o.format))
}

func (o *dataOutput) print(w io.Writer, data any) error {
	encoded, err := json.MarshalIndent(data, "", "    ")
	if err == nil && o.format == "yaml" {
		encoded, err = yaml.JSONToYAML(encoded)
	} else {
		encoded = append(encoded, '\n')
	}
	if err != nil {
		return err
	}
	_, err = w.Write(encoded)
	return err
}
