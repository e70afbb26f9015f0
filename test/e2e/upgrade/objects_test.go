// SPDX-License-Identifier: Apache-2.0

package upgrade_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	api "metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

// resources are the kinds of which there are objects in each team's namespace.
var resources = []string{
	"metalstackclusters", "metalstackmachines", "metalstackfirewalls", "metalstackmachinetemplates", "metalstacknetworks", "metalstackips",
}

const (
	clusterName = "orchid"
	// leaving is a machine whose deletion is held, because it is paused.
	leaving = "leaving"
)

// populate makes objects of all kinds, with metal, operations, and a deletion that is held,
// and waits until nothing changes any more.
func (env *environment) populate() {
	env.t.Helper()
	for _, team := range env.teams {
		env.create(team)
	}
	for _, team := range env.teams {
		env.settle(team)
		env.operate(team)
	}
}

func (env *environment) create(team cluster.Team) {
	env.t.Helper()
	ctx := env.t.Context()
	must := func(_ any, err error) {
		env.t.Helper()
		require.NoError(env.t, err)
	}
	must(env.client.MetalStackClusters(team.Namespace).Create(ctx, objects.Cluster(clusterName, func(c *api.MetalStackCluster) {
		c.Labels = map[string]string{infrastructure.ClusterNameLabel: clusterName}
		c.Spec.FirewallSpec = &api.MetalStackFirewallSpec{Image: simulator.FirewallImage, MachineType: simulator.SmallSize}
	}), metav1.CreateOptions{}))
	for _, name := range []string{"node-1", "node-2", leaving} {
		must(env.client.MetalStackMachines(team.Namespace).Create(ctx, env.machine(name), metav1.CreateOptions{}))
	}
	must(env.client.MetalStackMachineTemplates(team.Namespace).Create(ctx, objects.MachineTemplate("workers"), metav1.CreateOptions{}))
	must(env.client.MetalStackNetworks(team.Namespace).Create(ctx, &api.MetalStackNetwork{
		ObjectMeta: metav1.ObjectMeta{Name: "shared"}, Spec: api.MetalStackNetworkSpec{Partition: simulator.DefaultPartition},
	}, metav1.CreateOptions{}))
	must(env.client.MetalStackIPs(team.Namespace).Create(ctx, &api.MetalStackIP{
		ObjectMeta: metav1.ObjectMeta{Name: "static"}, Spec: api.MetalStackIPSpec{NetworkID: simulator.InternetNetwork},
	}, metav1.CreateOptions{}))
}

func (env *environment) machine(name string) *api.MetalStackMachine {
	return objects.Machine(name, objects.InDefaultPartition, objects.OfCluster(clusterName))
}

func hasMachine(resource string) bool {
	return resource == "metalstackmachines" || resource == "metalstackfirewalls"
}

// settle waits until all of a team's metal runs, and the records say so.
func (env *environment) settle(team cluster.Team) {
	env.t.Helper()
	env.eventually(func(ctx context.Context) error {
		for _, resource := range resources {
			list, err := env.dynamic.Resource(api.SchemeGroupVersion.WithResource(resource)).Namespace(team.Namespace).List(ctx, metav1.ListOptions{})
			if err != nil {
				return err
			}
			if len(list.Items) == 0 {
				return fmt.Errorf("no %s in %s", resource, team.Namespace)
			}
			for i := range list.Items {
				object := &list.Items[i]
				if status, found := readyOf(object)["status"]; found && status != string(metav1.ConditionTrue) {
					return fmt.Errorf("%s %s/%s: %v", resource, team.Namespace, object.GetName(), readyOf(object))
				}
				if provisioned, found, _ := unstructured.NestedBool(object.Object, "status", "initialization", "provisioned"); hasMachine(resource) && !(found && provisioned) {
					return fmt.Errorf("%s %s/%s: not provisioned", resource, team.Namespace, object.GetName())
				}
			}
		}
		return nil
	}, "waited for all objects to be ready")
}

// operate locks one machine, sends a power action to another, and begins a deletion that
// is held; and a machine is allocated by another client of the metal-api.
func (env *environment) operate(team cluster.Team) {
	env.t.Helper()
	ctx, machines := env.t.Context(), env.client.MetalStackMachines(team.Namespace)
	_, err := machines.Lock(ctx, "node-1", &api.MachineLock{Spec: api.MachineLockSpec{Reason: "under investigation"}}, metav1.CreateOptions{})
	require.NoError(env.t, err)
	_, err = machines.RequestPower(ctx, "node-2", &api.MachinePower{Spec: api.MachinePowerSpec{Action: api.PowerOn, Reason: "to be sure"}}, metav1.CreateOptions{})
	require.NoError(env.t, err)
	_, err = machines.Patch(ctx, leaving, types.MergePatchType, []byte(`{"metadata":{"annotations":{"cluster.x-k8s.io/paused":""}}}`), metav1.PatchOptions{})
	require.NoError(env.t, err)
	require.NoError(env.t, machines.Delete(ctx, leaving, metav1.DeleteOptions{}))
	c, err := env.client.MetalStackClusters(team.Namespace).Get(ctx, clusterName, metav1.GetOptions{})
	require.NoError(env.t, err)
	id, err := env.Metal.Sim.AllocateFor(simulator.AllocateRequest{Project: team.Project, Name: "theirs", Size: simulator.SmallSize,
		Partition: simulator.DefaultPartition, Networks: []string{c.Status.Allocation.NetworkID}})
	require.NoError(env.t, err)
	require.NoError(env.t, env.Metal.Sim.PhoneHome(id))
	env.eventually(func(ctx context.Context) error {
		theirs, err := machines.Get(ctx, id, metav1.GetOptions{})
		if err == nil && !theirs.Status.Ready {
			err = fmt.Errorf("%s: %v", id, theirs.Status.Conditions)
		}
		if err != nil {
			return err
		}
		for name, shown := range map[string]func(*api.MetalStackMachine) bool{
			"node-1": func(m *api.MetalStackMachine) bool { return m.Status.Metal.Locked },
			"node-2": func(m *api.MetalStackMachine) bool {
				return m.Status.LastOperation != nil && m.Status.LastOperation.Outcome != api.OperationRequested
			},
			leaving: func(m *api.MetalStackMachine) bool { return m.DeletionTimestamp != nil && m.Status.Deletion != nil },
		} {
			m, err := machines.Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if !shown(m) {
				return fmt.Errorf("%s: what was done to it is not shown: %v", name, m.Status)
			}
		}
		return nil
	})
}

// snapshot is what must not change of all objects, by resource, namespace and name.
type snapshot map[string]map[string]any

// kept are the fields that an upgrade must not change.
var kept = [][]string{
	{"metadata", "uid"}, {"metadata", "generation"}, {"metadata", "creationTimestamp"}, {"metadata", "deletionTimestamp"},
	{"metadata", "labels"}, {"metadata", "annotations"}, {"metadata", "finalizers"}, {"metadata", "ownerReferences"}, {"spec"},
	{"status", "allocation"}, {"status", "lastOperation"}, {"status", "deletion"}, {"status", "clusterID"}, {"status", "initialization"},
	{"status", "metal", "machineID"}, {"status", "metal", "allocationUUID"}, {"status", "networkID"}, {"status", "address"},
}

func (env *environment) snapshot() snapshot {
	env.t.Helper()
	s := snapshot{}
	for _, team := range env.teams {
		for _, resource := range resources {
			list, err := env.dynamic.Resource(api.SchemeGroupVersion.WithResource(resource)).Namespace(team.Namespace).List(env.t.Context(), metav1.ListOptions{})
			require.NoError(env.t, err)
			for i := range list.Items {
				object := &list.Items[i]
				fields := map[string]any{"ready": readyOf(object)}
				for _, path := range kept {
					value, _, err := unstructured.NestedFieldCopy(object.Object, path...)
					require.NoError(env.t, err)
					fields[fmt.Sprint(path)] = value
				}
				s[resource+"/"+object.GetNamespace()+"/"+object.GetName()] = fields
			}
		}
	}
	return s
}

// requireUnchanged requires that everything is as it was, and that what was allocated since
// is there exactly once.
func (env *environment) requireUnchanged(before snapshot, operations int) {
	env.t.Helper()
	for _, machine := range *env.inFlight {
		env.requireAllocatedOnce(machine)
	}
	for _, team := range env.teams {
		for _, version := range cluster.Versions {
			stdout, stderr, err := env.Kubectl(env.t, env.Admin(), "-n", team.Namespace, "get", "metalstackmachines."+version.Version+"."+version.Group)
			require.NoError(env.t, err, stderr)
			assert.Contains(env.t, stdout, leaving, version)
		}
	}
	after := env.snapshot()
	for key, fields := range before {
		assert.Equal(env.t, fields, after[key], key)
	}
	var changes []simulator.Operation
	for _, operation := range env.Metal.Sim.Inventory().History[operations:] {
		if operation.Verb != "update" {
			changes = append(changes, operation)
		}
	}
	assert.Len(env.t, changes, len(*env.inFlight), "metal was allocated or freed: %v", changes)
}

// inFlight is a machine whose allocation went on while servers were replaced.
type inFlight struct{ namespace, name string }

// beginAllocation creates a machine, and returns when the metal-api has been asked for it
// by the server that is active. It allocates only after that server has stopped waiting.
func (env *environment) beginAllocation(namespace, name string) {
	env.t.Helper()
	arrived := env.inject(3 * drain)
	_, err := env.client.MetalStackMachines(namespace).Create(env.t.Context(), env.machine(name), metav1.CreateOptions{})
	require.NoError(env.t, err)
	*env.inFlight = append(*env.inFlight, inFlight{namespace, name})
	select {
	case <-arrived:
	case <-env.t.Context().Done():
	}
}

func (env *environment) requireAllocatedOnce(machine inFlight) {
	env.t.Helper()
	env.eventually(func(ctx context.Context) error {
		m, err := env.client.MetalStackMachines(machine.namespace).Get(ctx, machine.name, metav1.GetOptions{})
		if err == nil && !m.Status.Ready {
			err = fmt.Errorf("%s is not ready: %v", machine.name, m.Status.Conditions)
		}
		if err != nil {
			return err
		}
		inventory, tag := env.Metal.Sim.Inventory(), infrastructure.UIDTag+"="+string(m.UID)
		holding := inventory.AllocatedWith(tag)
		require.Len(env.t, holding, 1)
		require.Equal(env.t, m.Status.Allocation.MachineID, holding[0].ID)
		require.Equal(env.t, 1, inventory.Allocations(tag))
		require.Zero(env.t, inventory.Frees(tag))
		return nil
	}, "waited for the allocation that was in flight")
}

// readyOf is the condition Ready of an object; nil if it has none.
func readyOf(object *unstructured.Unstructured) map[string]any {
	conditions, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, condition := range conditions {
		if fields, ok := condition.(map[string]any); ok && fields["type"] == infrastructure.ConditionReady {
			return map[string]any{"status": fields["status"], "reason": fields["reason"], "lastTransitionTime": fields["lastTransitionTime"]}
		}
	}
	return nil
}

func revisionOf(object *unstructured.Unstructured) (uint64, error) {
	return strconv.ParseUint(object.GetResourceVersion(), 10, 64)
}

func sameJSON(want, got []byte) error {
	var a, b any
	if err := errors.Join(json.Unmarshal(want, &a), json.Unmarshal(got, &b)); err != nil {
		return err
	}
	if !reflect.DeepEqual(a, b) {
		return fmt.Errorf("want %d bytes, got %d other ones", len(want), len(got))
	}
	return nil
}
