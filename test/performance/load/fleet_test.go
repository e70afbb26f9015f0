// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator/simtest"
)

const (
	// namespaces are as many as there are projects.
	namespaces = 10
	// speed makes machines sixty times as fast as real ones.
	speed = 60
)

// fleet is a data centre, and one namespace for each of its projects. One
// machine in ten is allocated by another client, so that it is shown as
// discovered.
type fleet struct {
	*simtest.Server
	projects []string
	networks []string // one of each project
}

func newFleet(t testing.TB, machines int) *fleet {
	t.Helper()
	d := simulator.DefaultDataCentre(machines)
	f := &fleet{}
	for i := range namespaces {
		id := fmt.Sprintf("20000000-0000-4000-8000-%012d", i)
		f.projects = append(f.projects, id)
		d.Projects = append(d.Projects, simulator.Project{ID: id, Name: namespace(i), Tenant: d.Tenants[0].ID})
	}
	f.Server = simtest.Start(t, simulator.Config{DataCentre: d, Seed: *seed, Speed: speed})
	for i, project := range f.projects {
		network, err := f.Sim.AllocateNetworkFor(project, simulator.DefaultPartition, "nodes", nil)
		require.NoError(t, err)
		f.networks = append(f.networks, network)
		taken := 0
		for _, m := range f.Sim.Inventory().Machines {
			if taken == min(machines, 1000)/(10*namespaces) {
				break
			}
			if m.Allocated || m.Partition != simulator.DefaultPartition {
				continue
			}
			id, err := f.Sim.AllocateFor(simulator.AllocateRequest{ID: m.ID, Project: project, Name: fmt.Sprintf("theirs-%d-%d", i, taken),
				Size: m.Size, Partition: m.Partition, Networks: []string{network}})
			require.NoError(t, err)
			require.NoError(t, f.Sim.PhoneHome(id))
			taken++
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go f.Sim.Run(ctx)
	f.Sim.SetCosts(true)
	return f
}

// bindings are those of the namespaces, as the flag --project-binding has them.
func (f *fleet) bindings() (bind []string) {
	for i, project := range f.projects {
		bind = append(bind, namespace(i)+"="+project)
	}
	return bind
}

func namespace(i int) string { return fmt.Sprintf("team-%d", i%namespaces) }

// claim is an object that nobody has asked metal for.
func claim(name string, labels map[string]string) *v1alpha4.MetalStackMachine {
	return &v1alpha4.MetalStackMachine{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec: v1alpha4.MetalStackMachineSpec{
			Image: simulator.MachineImage, MachineType: simulator.SmallSize, Partition: simulator.DefaultPartition,
		},
	}
}

// fill creates the objects that are there from the beginning to the end.
func fill(ctx context.Context, client versioned.Interface, n int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(32)
	for i := range n {
		group.Go(func() error {
			m := claim(lasting(i), map[string]string{"cluster.x-k8s.io/cluster-name": "c"})
			_, err := client.InfrastructureV1alpha4().MetalStackMachines(namespace(i)).Create(ctx, m, metav1.CreateOptions{})
			return err
		})
	}
	return group.Wait()
}

func lasting(i int) string { return fmt.Sprintf("node-%05d", i) }

// draw is a text of a length that annotations have.
func draw(random *rand.Rand) string {
	var b strings.Builder
	for range 8 {
		fmt.Fprintf(&b, "%016x", random.Uint64())
	}
	return b.String()
}
