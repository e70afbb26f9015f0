// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/kubernetes"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/recordformat"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator/simtest"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

const (
	// clusterName is the label of all objects.
	clusterName = "c"
	// finalizer is the one that the server puts on machines.
	finalizer = "metalstackmachine." + infrastructure.GroupName
	// seeders is how many requests at once create what is there from the beginning.
	seeders = 32
	// free is how many machines more are in the data centre.
	free = 8
)

// largeNamespace and smallNamespace are the sizes of the first namespace, and
// of all others but the last.
func largeNamespace(objects int) int { return min(1000, objects/2) }
func smallNamespace(objects int) int { return min(500, objects/4) }

// member is one object of the fleet.
type member struct{ namespace, project, name string }

// layout is which objects there are, in which namespaces, bound to which projects.
type layout struct {
	teams   []cluster.Team
	members []member
}

func newLayout(objects int) *layout {
	l := &layout{}
	for left, size := objects, largeNamespace(objects); left > 0; size = smallNamespace(objects) {
		team := cluster.Team{Namespace: fmt.Sprintf("team-%03d", len(l.teams)), Project: fmt.Sprintf("20000000-0000-4000-8000-%012d", len(l.teams))}
		l.teams = append(l.teams, team)
		for range min(size, left) {
			l.members = append(l.members, member{namespace: team.Namespace, project: team.Project, name: fmt.Sprintf("node-%05d", len(l.members))})
		}
		left -= size
	}
	return l
}

// at returns the objects in an order that has others of other namespaces next to
// each, and all of them before one again.
func (l *layout) at(i int) member {
	const prime = 7919
	return l.members[i*prime%len(l.members)]
}

// bind makes the namespaces, bound to their projects, and returns their uids.
func (l *layout) bind(ctx context.Context, plane *controlplane.ControlPlane) (map[string]types.UID, error) {
	uids := map[string]types.UID{}
	for _, team := range l.teams {
		ns, err := plane.Client().CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: team.Namespace, Labels: map[string]string{infrastructure.ProjectLabel: team.Project},
		}}, metav1.CreateOptions{})
		if err != nil {
			return nil, err
		}
		uids[team.Namespace] = ns.UID
	}
	return uids, nil
}

// fleet is a data centre in which every machine is allocated for an object, has
// phoned home and is at rest, and the objects of these machines.
type fleet struct {
	*simtest.Server
	layout   *layout
	machines []*v1alpha4.MetalStackMachine // as records have them
}

func newFleet(t testing.TB, l *layout, managementCluster types.UID) *fleet {
	t.Helper()
	f, d := &fleet{layout: l}, simulator.DefaultDataCentre(*objects+free)
	for _, team := range l.teams {
		d.Projects = append(d.Projects, simulator.Project{ID: team.Project, Name: team.Namespace, Tenant: simulator.DefaultTenant})
	}
	f.Server = simtest.Start(t, simulator.Config{DataCentre: d, Seed: 1})
	networks := map[string]string{} // by project and partition
	machines := f.Sim.Inventory().Machines
	for i, m := range l.members {
		machine := machines[i]
		key := m.project + " " + machine.Partition
		if networks[key] == "" {
			network, err := f.Sim.AllocateNetworkFor(m.project, machine.Partition, "nodes", nil)
			require.NoError(t, err)
			networks[key] = network
		}
		object := newMachine(m)
		id, err := f.Sim.AllocateFor(simulator.AllocateRequest{
			ID: machine.ID, Project: m.project, Name: m.name, Size: machine.Size, Partition: machine.Partition, Networks: []string{networks[key]},
			Tags: []string{
				metal.Tag(metal.TagUID, string(object.UID)), metal.Tag(metal.TagNamespace, m.namespace), metal.Tag(metal.TagName, m.name),
				metal.Tag(metal.TagManagementCluster, string(managementCluster)), metal.Tag(metal.TagCluster, clusterName),
			},
		})
		require.NoError(t, err)
		require.NoError(t, f.Sim.PhoneHome(id))
		object.Spec.MachineType = machine.Size
		object.Spec.ProviderID = "metal://" + machine.Partition + "/" + id
		object.Status.Allocation.MachineID = id
		f.machines = append(f.machines, object)
	}
	for i, machine := range f.Sim.Inventory().Machines[:len(f.machines)] {
		f.machines[i].Status.Allocation.AllocationUUID = machine.AllocationUUID
	}
	f.Sim.SetCosts(true)
	return f
}

// newMachine is the record of a machine that was allocated, as the server writes
// it, without the machine.
func newMachine(m member) *v1alpha4.MetalStackMachine {
	now, uid, provisioned := metav1.NewTime(time.Now().Truncate(time.Second)), types.UID(uuid.NewString()), true
	object := &v1alpha4.MetalStackMachine{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha4.SchemeGroupVersion.String(), Kind: "MetalStackMachine"},
		ObjectMeta: metav1.ObjectMeta{
			Name: m.name, Namespace: m.namespace, UID: uid, Generation: 1, CreationTimestamp: now, Finalizers: []string{finalizer},
			Labels: map[string]string{infrastructure.ClusterNameLabel: clusterName, "cluster.x-k8s.io/deployment-name": "workers", "cluster.x-k8s.io/set-name": "workers-7f5c9"},
			Annotations: map[string]string{
				"cluster.x-k8s.io/cloned-from-groupkind": "MetalStackMachineTemplate." + infrastructure.GroupName, "cluster.x-k8s.io/cloned-from-name": "workers",
			},
			ManagedFields: []metav1.ManagedFieldsEntry{{
				Manager: "manager", Operation: metav1.ManagedFieldsOperationApply, APIVersion: v1alpha4.SchemeGroupVersion.String(), Time: &now, FieldsType: "FieldsV1",
				FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:annotations":{"f:cluster.x-k8s.io/cloned-from-groupkind":{},"f:cluster.x-k8s.io/cloned-from-name":{}},"f:labels":{"f:cluster.x-k8s.io/cluster-name":{},"f:cluster.x-k8s.io/deployment-name":{},"f:cluster.x-k8s.io/set-name":{}}},"f:spec":{"f:image":{},"f:machineType":{}}}`),
			}},
		},
		Spec: v1alpha4.MetalStackMachineSpec{Image: simulator.MachineImage},
	}
	object.Status.Initialization.Provisioned = &provisioned
	object.Status.Allocation = &v1alpha4.MachineAllocation{AllocationState: v1alpha4.AllocationState{
		Phase: v1alpha4.AllocationAllocated, Attempt: 1, UID: uid, StartTime: &now, ClusterName: clusterName,
	}}
	return object
}

// value is what the record of an object holds.
func (f *fleet) value(i int, namespaces map[string]types.UID) ([]byte, error) {
	i %= len(f.machines)
	m := f.machines[i]
	// In the order in which the server writes them: other records take longer to read.
	value, err := json.Marshal(struct {
		Namespace storage.Origin              `json:"namespace"`
		Object    *v1alpha4.MetalStackMachine `json:"object"`
	}{storage.Origin{UID: namespaces[m.Namespace], Project: f.layout.members[i].project}, m})
	if err != nil {
		return nil, err
	}
	return append([]byte(recordformat.Prefix()+","), value[1:]...), nil
}

// record writes the records of all objects, as the server would.
func (f *fleet) record(t testing.TB, plane *controlplane.ControlPlane, namespaces map[string]types.UID) error {
	ledger, err := kubernetes.New(plane.ServiceAccount(t, cluster.Namespace, cluster.APIServer), cluster.Namespace)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(seeders)
	for i, m := range f.machines {
		group.Go(func() error {
			value, err := f.value(i, namespaces)
			if err != nil {
				return err
			}
			_, err = ledger.Create(ctx, "metalstackmachines/"+m.Namespace+"/"+m.Name, value)
			return err
		})
	}
	return group.Wait()
}
