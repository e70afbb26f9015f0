// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	metalclient "metal-stack.io/infrastructure-apiserver/pkg/metal/client"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func (e *capiEnvironment) allReady(machines ...string) func() bool {
	return func() bool {
		for _, name := range machines {
			if m := e.machine(name); !ready(m) || !isProvisioned(m) {
				return false
			}
		}
		return condition(e.infra(), infrastructure.ConditionFirewallReady).Status == metav1.ConditionTrue
	}
}

func TestClusterAPI_ClusterIsAllocatedAndReleasedCompletely(t *testing.T) {
	t.Parallel()
	w := newCAPIEnvironment(t)
	w.createCluster(2)
	w.reconcileUntil("all is ready", w.allReady("m-0", "m-1"))

	inventory := w.server.Metal.Sim.Inventory()
	var order []string
	for _, operation := range inventory.History {
		if operation.Verb == "allocate" && (operation.Kind == "machine" || operation.Kind == "firewall") {
			order = append(order, operation.Kind)
		}
	}
	require.Equal(t, []string{"firewall", "machine", "machine"}, order, "each once, and the firewall first")
	infra := w.infra()
	for _, m := range inventory.Machines {
		if !m.Allocated {
			continue
		}
		userData, err := base64.StdEncoding.DecodeString(m.UserData)
		require.NoError(t, err)
		require.Contains(t, m.Networks, infra.Spec.PrivateNetworkID)
		if m.Role == "firewall" {
			require.Contains(t, string(userData), "# of the firewall")
			continue
		}
		require.Contains(t, string(userData), "# of "+m.Name)
	}
	for _, name := range []string{"m-0", "m-1"} {
		m := w.machine(name)
		require.NotEmpty(t, m.Spec.ProviderID)
		require.NotEmpty(t, m.Status.Addresses)
		require.Equal(t, simulator.DefaultPartition, m.Status.FailureDomain)
		require.Equal(t, &v1alpha4.SecretReference{Name: name + "-bootstrap"}, m.Spec.UserData)
		require.False(t, blocked(m))
	}

	w.deleteCluster()
	require.Equal(t, 3, operations(w.server, "free"), "each once")
	w.requireNoMetal()
}

func TestRollout_WithoutAGap(t *testing.T) {
	t.Parallel()
	w := newCAPIEnvironment(t)
	w.createCluster(0)
	w.reconcileUntil("the first firewall is ready", w.allReady())
	first := w.firewalls()[0].Name

	cluster := w.infra()
	changed := cluster.DeepCopy()
	changed.Spec.FirewallSpec.Rules = &v1alpha4.FirewallRules{Egress: []v1alpha4.FirewallEgressRule{{Ports: []int32{443}, To: []string{"0.0.0.0/0"}}}}
	require.NoError(t, w.api.Patch(t.Context(), changed, client.MergeFrom(cluster)))
	most := 0
	w.reconcileUntil("the second one has taken its place", func() bool {
		all := w.firewalls()
		most = max(most, len(all))
		require.True(t, slices.ContainsFunc(all, func(f v1alpha4.MetalStackFirewall) bool {
			return f.DeletionTimestamp == nil && (f.Status.Ready || f.Name == first)
		}), "one serves at all times: %+v", all)
		return len(all) == 1 && all[0].Name != first && all[0].Status.Ready
	})
	require.Equal(t, 2, most)
	require.Equal(t, 2, operations(w.server, "allocate"))
	require.Equal(t, 1, operations(w.server, "free"))
	w.deleteCluster()
	w.requireNoMetal()
}

func TestRollout_ReplacesFirewallThatIsGone(t *testing.T) {
	t.Parallel()
	w := newCAPIEnvironment(t)
	w.createCluster(0)
	w.reconcileUntil("the first firewall is ready", w.allReady())
	first := w.firewalls()[0]
	require.NoError(t, w.server.Metal.Sim.ForceFree(first.Status.Allocation.MachineID))
	w.reconcileUntil("another one has taken its place", func() bool {
		all := w.firewalls()
		return len(all) == 1 && all[0].UID != first.UID && all[0].Status.Ready
	})
	w.deleteCluster()
	w.requireNoMetal()
}

func TestRelease_HoldsMachineWithoutOwnerUntilForced(t *testing.T) {
	t.Parallel()
	w := newCAPIEnvironment(t)
	w.createCluster(1)
	w.reconcileUntil("all is ready", w.allReady("m-0"))

	// An etcd from before the Machine was made: the garbage collector deletes
	// what the Machine owned.
	lost := &clusterv1.Machine{}
	require.NoError(t, w.api.Get(t.Context(), client.ObjectKey{Namespace: team, Name: "m-0"}, lost))
	lost.Finalizers = nil
	require.NoError(t, w.api.memory.Update(t.Context(), lost))
	require.NoError(t, w.api.memory.Delete(t.Context(), lost))
	require.NoError(t, w.api.Delete(t.Context(), w.machine("m-0")))
	w.reconcileUntil("the release is held", func() bool {
		return condition(w.machine("m-0"), infrastructure.ConditionDeleting).Reason == infrastructure.ReasonOwnerNotFound
	})
	require.Zero(t, operations(w.server, "free"))
	require.True(t, w.machine("m-0").Status.Ready, "it runs on")

	m := w.machine("m-0")
	insisted := m.DeepCopy()
	insisted.Annotations = map[string]string{infrastructure.ForceReleaseAnnotation: "true"}
	require.NoError(t, w.api.Patch(t.Context(), insisted, client.MergeFrom(m)))
	w.reconcileUntil("the machine is released", func() bool {
		_, err := get(t, w.api, m)
		return apierrors.IsNotFound(err)
	})
	require.Equal(t, 1, operations(w.server, "free"))
}

func TestRelease_LockedMachineIsReleasedWhenUnlocked(t *testing.T) {
	t.Parallel()
	w := newCAPIEnvironment(t)
	w.createCluster(1)
	w.reconcileUntil("all is ready", w.allReady("m-0"))
	id := w.machine("m-0").Status.Allocation.MachineID
	require.NoError(t, w.server.Metal.Sim.Lock(id, "evidence"))
	require.NoError(t, w.api.memory.Delete(t.Context(), &clusterv1.Machine{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "m-0"}}))
	var deleting metav1.Condition
	w.reconcileUntil("the release is refused", func() bool {
		deleting = condition(w.machine("m-0"), infrastructure.ConditionDeleting)
		return deleting.Reason == infrastructure.ReasonReleaseRefused
	})
	require.Contains(t, deleting.Message, "locked", "the metal-api's words")
	require.Zero(t, operations(w.server, "free"))

	require.NoError(t, w.server.Metal.Sim.Unlock(id))
	w.reconcileUntil("the machine is released", func() bool { return operations(w.server, "free") == 1 })
}

func TestRelease_SaysThatTheMetalAPIIsUnavailable(t *testing.T) {
	t.Parallel()
	w := newCAPIEnvironment(t)
	w.createCluster(1)
	w.reconcileUntil("all is ready", w.allReady("m-0"))
	repair := w.server.Metal.Sim.Inject(simulator.Fault{Endpoint: "machine-free", Kind: simulator.FaultBackendDown, Backend: "nsq"})
	require.NoError(t, w.api.memory.Delete(t.Context(), &clusterv1.Machine{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "m-0"}}))
	var deleting metav1.Condition
	w.reconcileUntil("the release is held back", func() bool {
		deleting = condition(w.machine("m-0"), infrastructure.ConditionDeleting)
		return deleting.Reason == infrastructure.ReasonMetalAPIUnavailable
	})
	require.Contains(t, deleting.Message, "cannot publish delete event", "the metal-api's words")
	require.Equal(t, infrastructure.ReasonMetalAPIUnavailable, condition(w.machine("m-0"), infrastructure.ConditionAllocated).Reason)
	repair()
	w.reconcileUntil("the machine is released", func() bool { return operations(w.server, "free") == 1 })
}

func TestAllocate_LackOfMachinesIsACondition(t *testing.T) {
	t.Parallel()
	w := newCAPIEnvironment(t)
	for _, id := range w.server.Metal.Sim.MachineIDs()[1:] {
		require.NoError(t, w.server.Metal.Sim.Reserve(id, "others"))
	}
	w.createCluster(1)
	var allocated metav1.Condition
	w.reconcileUntil("the allocation is refused", func() bool {
		allocated = condition(w.machine("m-0"), infrastructure.ConditionAllocated)
		return allocated.Reason == infrastructure.ReasonAllocationRefused
	})
	require.Contains(t, allocated.Message, "no machine available", "the metal-api's words")
	require.Equal(t, allocated.Message, condition(w.machine("m-0"), infrastructure.ConditionReady).Message, "Cluster API shows Ready")
	require.False(t, blocked(w.machine("m-0")), "a move need not wait for it")
	for _, id := range w.server.Metal.Sim.MachineIDs()[1:] {
		require.NoError(t, w.server.Metal.Sim.Unlock(id))
	}
	w.reconcileUntil("it goes on by itself", w.allReady("m-0"))
}

func TestReconcile_CrashAfterEveryWriteReachesTheSameState(t *testing.T) {
	t.Parallel()
	w := newCAPIEnvironment(t)
	w.crashes = &crashInjector{left: 1}
	w.restart()
	w.createCluster(2)
	w.reconcileUntil("all is ready", w.allReady("m-0", "m-1"))
	require.Greater(t, w.crashes.round, 5, "it was killed often")
	require.Equal(t, 3, operations(w.server, "allocate"), "each once")
	for _, name := range []string{"m-0", "m-1"} {
		w.reconcileUntil("nothing blocks a move of "+name, func() bool { return !blocked(w.machine(name)) })
	}
	killed := w.crashes.round
	w.deleteCluster()
	require.Greater(t, w.crashes.round, killed+5)
	require.Equal(t, 3, operations(w.server, "free"), "each once")
	w.requireNoMetal()
}

func TestEvents_EveryStepIsRecorded(t *testing.T) {
	t.Parallel()
	w := newCAPIEnvironment(t)
	w.createCluster(1)
	w.reconcileUntil("all is ready", w.allReady("m-0"))
	w.deleteCluster()
	var recorded []string
	for len(w.events.Events) > 0 {
		recorded = append(recorded, <-w.events.Events)
	}
	all := strings.Join(recorded, "\n")
	for _, reason := range []string{
		infrastructure.ReasonWaitingForClusterInfrastructure, EventAllocating, EventAllocated, EventUserDataSet,
		EventFirewallCreated, EventFirewallRetired, infrastructure.ReasonWaitingForFirewalls, EventReleasing, EventReleased,
	} {
		require.Contains(t, all, "Normal "+reason+" ")
	}
	require.NotContains(t, all, "#cloud-config")
}

func TestRollout_KeepsFirewallThatWasTakenOver(t *testing.T) {
	t.Parallel()
	w := newCAPIEnvironment(t)
	ctx := t.Context()
	metalAPI, err := metalclient.New(metalclient.Options{URL: w.server.Metal.URL, HMAC: w.server.Metal.Key("Metal-Edit"), AuthType: metalclient.AuthEdit})
	require.NoError(t, err)
	network, err := metalAPI.AllocateNetwork(ctx, metal.NetworkRequest{Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Name: "old"})
	require.NoError(t, err)
	old, err := metalAPI.AllocateFirewall(ctx, metal.FirewallRequest{MachineRequest: metal.MachineRequest{
		Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Size: simulator.SmallSize, Image: simulator.FirewallImage,
		Name: "old", Hostname: "old", Networks: []string{network.ID, simulator.InternetNetwork},
	}})
	require.NoError(t, err)

	require.NoError(t, w.api.memory.Create(ctx, capiCluster(func(c *clusterv1.Cluster) {
		c.Namespace, c.Status.Initialization.InfrastructureProvisioned = team, nil
	})))
	spec := v1alpha4.MetalStackFirewallSpec{Image: simulator.FirewallImage, MachineType: simulator.SmallSize}
	infra := &v1alpha4.MetalStackCluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "c-infra"},
		Spec: v1alpha4.MetalStackClusterSpec{
			Partition: simulator.DefaultPartition, PublicNetworkID: simulator.InternetNetwork, PrivateNetworkID: network.ID, FirewallSpec: &spec,
		},
	}
	create(t, w.api, infra)
	firewall := &v1alpha4.MetalStackFirewall{ObjectMeta: metav1.ObjectMeta{
		Namespace: team, Name: "taken-over", Labels: map[string]string{infrastructure.ClusterNameLabel: "c"},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(infra, v1alpha4.SchemeGroupVersion.WithKind("MetalStackCluster"))},
	}, Spec: *spec.DeepCopy()}
	firewall.Spec.ProviderID = "metal:///" + old.ID
	create(t, w.api, firewall)
	w.reconcileUntil("it serves the cluster", w.allReady())

	all := w.firewalls()
	require.Len(t, all, 1, "there is no other")
	require.Equal(t, old.AllocationUUID(), all[0].Status.Allocation.AllocationUUID)
	require.Equal(t, 1, operations(w.server, "allocate"), "only what was there before")
	require.Zero(t, operations(w.server, "free"))
}
