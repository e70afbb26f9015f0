// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/fleet"
)

const adoptDryRuns = "none|client|server"

type adoptOptions struct {
	target
	name, cluster, dryRun string
}

func newAdopt(s *session) *cobra.Command {
	var o adoptOptions
	cmd := &cobra.Command{
		Use:   "adopt NAME --name=NEWNAME",
		Short: "Create an object for a discovered machine",
		Long: `Create a MetalStackMachine or MetalStackFirewall for a machine that was discovered, so that it is managed by this API: with its provider ID, size, image and partition.

NAME is that of the discovered object: the machine's id. The machine keeps running. It is adopted when the controller manager requests it: of a machine, when a Machine of Cluster API names the new object in its infrastructureRef; of a firewall, when the cluster has a firewallSpec that it matches. From then on, deleting the new object releases the machine.`,
		Example: `  kubectl metal adopt 2294c949-88f6-5390-8154-fa53d93a3313 --name=worker-7 --cluster-name=shop
  kubectl metal adopt 2294c949-88f6-5390-8154-fa53d93a3313 --name=worker-7 --dry-run=client -o yaml`,
	}
	o.addTo(s, cmd)
	out := addOutput(cmd, false)
	cmd.Flags().StringVar(&o.name, "name", "", "Name of the new object. It is required.")
	cmd.Flags().StringVar(&o.cluster, "cluster-name", "", "Name of the Cluster that it belongs to, for the label "+infrastructure.ClusterNameLabel+".")
	addDryRun(cmd, &o.dryRun, adoptDryRuns)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := out.check(); err != nil {
			return err
		}
		if err := checkDryRun(cmd, o.dryRun, adoptDryRuns); err != nil {
			return err
		}
		if o.name == "" {
			return usageError(cmd, errors.New("--name is required: the name of the new object"))
		}
		return o.run(cmd, s, out, args)
	}
	return cmd
}

func (o *adoptOptions) run(cmd *cobra.Command, s *session, out *output, args []string) error {
	client, ref, err := o.on(s, args)
	if err != nil {
		return err
	}
	discovered, err := client.Get(cmd.Context(), ref)
	if err != nil {
		return err
	}
	if !discovered.Discovered() {
		return fmt.Errorf("%s was not discovered: it is managed by this API already", ref)
	}
	adopted := fleet.Reference{Kind: ref.Kind, Name: o.name}
	obj := adoption(discovered, client.Namespace, o.name, o.cluster)
	if o.dryRun != "client" {
		created, err := client.Create(cmd.Context(), obj, o.dryRun == "server")
		if err != nil {
			return err
		}
		obj = created.Source
	}
	if !out.forPeople() {
		return out.print(s.Out, obj, adopted)
	}
	if o.dryRun != "none" {
		s.printf("%s created for machine %s (%s dry run)\n", adopted, discovered.Metal.MachineID, o.dryRun)
	} else {
		s.printf("%s created for machine %s\n", adopted, discovered.Metal.MachineID)
		if ref.Kind == fleet.Firewall {
			s.note("It is adopted when its cluster has a firewallSpec that it matches.")
		} else {
			s.note("It is adopted when spec.infrastructureRef of a Machine of Cluster API names it.")
		}
		s.note("What happens: %s", s.hint("wait "+adopted.Arg()+" --for=ready"))
	}
	return nil
}

// adoption returns the object that adopts a discovered machine.
func adoption(discovered *fleet.Object, namespace, name, cluster string) runtime.Object {
	meta := metav1.ObjectMeta{Name: name, Namespace: namespace}
	if cluster != "" {
		meta.Labels = map[string]string{infrastructure.ClusterNameLabel: cluster}
	}
	if discovered.Kind == fleet.Firewall {
		f := &v1alpha4.MetalStackFirewall{ObjectMeta: meta, Spec: v1alpha4.MetalStackFirewallSpec{
			Image: discovered.Image, MachineType: discovered.Size, Partition: discovered.Partition, ProviderID: discovered.ProviderID,
		}}
		f.SetGroupVersionKind(v1alpha4.SchemeGroupVersion.WithKind(fleet.Firewall.Name))
		return f
	}
	m := &v1alpha4.MetalStackMachine{ObjectMeta: meta, Spec: v1alpha4.MetalStackMachineSpec{
		Image: discovered.Image, MachineType: discovered.Size, Partition: discovered.Partition, ProviderID: discovered.ProviderID,
	}}
	m.SetGroupVersionKind(v1alpha4.SchemeGroupVersion.WithKind(fleet.Machine.Name))
	return m
}
