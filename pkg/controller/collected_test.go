// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

// restart has the controller manager forget what it did not write.
func (h *harness) restart() { h.r.states = newObjectStates(h.clock) }

func (h *harness) requireHeld(name, reason string) {
	h.t.Helper()
	for range 3 {
		require.Equal(h.t, holdRequeue, h.reconcile(name).RequeueAfter)
		h.clock.Step(time.Hour)
		h.restart()
	}
	require.Empty(h.t, h.calls)
	deleting := condition(h.get(machines, name), infrastructure.ConditionDeleting)
	require.Equal(h.t, reason, deleting.Reason)
	require.Contains(h.t, deleting.Message, infrastructure.ForceReleaseAnnotation+"=true")
}

func TestRelease_HoldsMachineWhoseOwnerUIDChangedUntilAnOwnerIsDeleted(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*harness){
		"Machine is deleted": func(h *harness) {
			require.NoError(h.t, h.api.Delete(h.t.Context(), capiMachine()))
		},
		"Cluster is deleted": func(h *harness) {
			require.NoError(h.t, h.api.Delete(h.t.Context(), capiCluster()))
		},
		"annotation insists": func(h *harness) {
			obj := h.get(machines, "m-infra")
			annotated(infrastructure.ForceReleaseAnnotation)(obj)
			h.update(obj)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			objects := doomed(deletedBy(v1alpha4.DeletionByGarbageCollector))
			// The Machine was restored with another uid, and the Cluster is paused.
			objects["machine"].SetUID("uid-after-restore")
			objects["cluster"].(*clusterv1.Cluster).Spec.Paused = ptr.To(true)
			h := harnessOf(t, machines, objects)
			h.reconcile("m-infra")
			require.Empty(t, h.calls)

			cluster := capiCluster()
			require.NoError(t, h.api.Get(t.Context(), client.ObjectKeyFromObject(cluster), cluster))
			cluster.Spec.Paused = nil
			require.NoError(t, h.api.Update(t.Context(), cluster))
			h.requireHeld("m-infra", infrastructure.ReasonOwnerNotFound)

			// Cluster API writes the new uid: now the owner is found.
			obj := h.get(machines, "m-infra")
			refs := obj.GetOwnerReferences()
			refs[0].UID = "uid-after-restore"
			obj.SetOwnerReferences(refs)
			h.update(obj)
			h.requireHeld("m-infra", infrastructure.ReasonGarbageCollected)

			end(h)
			h.reconcile("m-infra")
			require.Equal(t, []string{"release m-infra"}, h.calls)
			require.False(t, h.exists(machines, "m-infra"))
		})
	}
}

// A deletion by anybody but the garbage collector needs no owner that is being
// deleted: MachineSets scale down by deleting Machines, and users delete what
// they like.
func TestRelease_DependsOnWhoRequestedTheDeletion(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		by   v1alpha4.DeletionRequester
		held bool
	}{
		"person or controller": {v1alpha4.DeletionByUser, false},
		"namespace controller": {v1alpha4.DeletionByNamespaceController, false},
		"garbage collector":    {v1alpha4.DeletionByGarbageCollector, true},
	} {
		for _, k := range []kind{clusters, machines, firewalls} {
			t.Run(name+", "+k.name, func(t *testing.T) {
				t.Parallel()
				owner := ownedBy("Cluster", "c", "uid-of-cluster")
				obj := object(k, "obj", of("c"), owner, with(v1alpha4.AllocationAllocated), deleted, deletedBy(c.by))
				h := newHarness(t, k, false, obj, capiCluster())
				h.reconcile("obj")
				if c.held {
					require.Empty(t, h.calls)
					require.Equal(t, infrastructure.ReasonGarbageCollected, condition(h.get(k, "obj"), infrastructure.ConditionDeleting).Reason)
					return
				}
				require.Equal(t, []string{"release obj"}, h.calls)
			})
		}
	}
}

// The garbage collector deletes the firewall together with the machines, if a
// Cluster is deleted in the foreground, and so does the namespace controller.
func TestRelease_OfFirewallWaitsForMachinesOfDeletedCluster(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change     func(objects map[string]client.Object)
		standalone bool
		waits      bool
	}{
		"Cluster is being deleted":           {func(o map[string]client.Object) { deleted(o["cluster"]) }, false, true},
		"MetalStackCluster is being deleted": {func(o map[string]client.Object) { deleted(o["infra"]) }, false, true},
		"standalone":                         {func(o map[string]client.Object) { deleted(o["infra"]) }, true, true},
		"standalone, without an owner": {func(o map[string]client.Object) {
			deleted(o["infra"])
			o["infra"].SetName("c")
			o["firewall"].SetOwnerReferences(nil)
		}, true, true},
		"machine without a label": {func(o map[string]client.Object) {
			deleted(o["cluster"])
			o["obj"].SetLabels(nil)
			o["obj"].(*v1alpha4.MetalStackMachine).Status.Allocation.ClusterName = "c-infra"
		}, false, true},
		"machine holds nothing": {func(o map[string]client.Object) {
			deleted(o["cluster"])
			with(v1alpha4.AllocationReleased)(o["obj"])
		}, false, false},
		"machine of another cluster":       {func(o map[string]client.Object) { deleted(o["cluster"]); of("d")(o["obj"]) }, false, false},
		"firewall of a cluster that stays": {func(map[string]client.Object) {}, false, false},
		"MetalStackCluster is left behind": {func(o map[string]client.Object) {
			deleted(o["infra"])
			o["cluster"].(*clusterv1.Cluster).Spec.InfrastructureRef.Name = "another"
		}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			objects := everything()
			infra := objects["infra"].(*v1alpha4.MetalStackCluster)
			infra.Spec.FirewallSpec = &v1alpha4.MetalStackFirewallSpec{Image: "i"}
			firewall := firewallOf(infra, "f", home)
			deleted(firewall)
			objects["firewall"] = firewall
			with(v1alpha4.AllocationAllocated)(objects["obj"])
			c.change(objects)
			if c.standalone {
				objects["infra"].SetOwnerReferences(nil)
			}
			h := harnessOf(t, firewalls, objects)
			options := NewOptions()
			options.Standalone = c.standalone
			h.use(firewalls, options)
			result := h.reconcile("f")
			if !c.waits {
				require.Equal(t, []string{"release f"}, h.calls)
				return
			}
			require.Empty(t, h.calls)
			require.Equal(t, membersRequeue, result.RequeueAfter)
			deleting := condition(h.get(firewalls, "f"), infrastructure.ConditionDeleting)
			require.Equal(t, infrastructure.ReasonWaitingForMachines, deleting.Reason)
			require.Contains(t, deleting.Message, "m-infra")

			require.NoError(t, h.drop(machines, "m-infra"))
			h.reconcile("f")
			require.Equal(t, []string{"release f"}, h.calls)
		})
	}
}

// Servers before this one did not record who asked.
func TestRelease_RemembersHoldOfObjectWithoutRequester(t *testing.T) {
	t.Parallel()
	with := func(kind, reason string) func(client.Object) {
		return func(obj client.Object) {
			m := obj.(*v1alpha4.MetalStackMachine)
			m.Status.Conditions = append(m.Status.Conditions, metav1.Condition{
				Type: kind, Status: metav1.ConditionTrue, Reason: reason, LastTransitionTime: metav1.NewTime(time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)),
			})
		}
	}
	for name, was := range map[string]func(client.Object){
		"an owner was missing":       with(infrastructure.ConditionDeleting, infrastructure.ReasonOwnerNotFound),
		"an owner could not be read": with(infrastructure.ConditionDeleting, infrastructure.ReasonOwnerLookupFailed),
		"it was paused":              with(infrastructure.ConditionPaused, infrastructure.ReasonPaused),
		"it was held by this rule":   with(infrastructure.ConditionDeleting, infrastructure.ReasonGarbageCollected),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := harnessOf(t, machines, doomed(deletedBy(""), was))
			h.r.live = unreadable{h.api, "m", errAway}
			h.reconcile("m-infra")
			h.r.live = h.api
			h.requireHeld("m-infra", infrastructure.ReasonGarbageCollected)
			require.NoError(t, h.api.Delete(t.Context(), capiMachine()))
			h.reconcile("m-infra")
			require.Equal(t, []string{"release m-infra"}, h.calls)
		})
	}
	t.Run("nothing was held", func(t *testing.T) {
		t.Parallel()
		h := harnessOf(t, machines, doomed(deletedBy("")))
		h.reconcile("m-infra")
		require.Equal(t, []string{"release m-infra"}, h.calls)
	})
}

// memoryOwners are Cluster API's objects of an environment, for its server.
type memoryOwners struct{ api func() client.Client }

func (o memoryOwners) Supports(apiVersion, kind string) bool {
	return isClusterAPI(apiVersion) && (kind == "Machine" || kind == "Cluster")
}

func (o memoryOwners) Owner(ctx context.Context, key registry.OwnerKey) (metav1.Object, error) {
	var obj client.Object = &clusterv1.Machine{}
	if key.Kind == "Cluster" {
		obj = &clusterv1.Cluster{}
	}
	return obj, o.api().Get(ctx, types.NamespacedName{Namespace: key.Namespace, Name: key.Name}, obj)
}

func (o memoryOwners) Namespace(ctx context.Context, name string) (metav1.Object, error) {
	ns := &corev1.Namespace{}
	return ns, o.api().Get(ctx, types.NamespacedName{Name: name}, ns)
}

// The whole server and the controller manager, through a restore that gives owners new
// uids: the garbage collector is refused, Cluster API rewrites the owners, and
// nothing was freed.
func TestRestore_WithNewOwnerUIDsFreesNothing(t *testing.T) {
	t.Parallel()
	var w *capiEnvironment
	w = newCAPIEnvironment(t, func(config *apiserver.Config) {
		config.Extra.Owners = memoryOwners{func() client.Client { return w.api.memory }}
	})
	w.createCluster(1)
	w.reconcileUntil("all is ready", w.allReady("m-0"))

	// The Machine is made anew, with a new uid, while the Cluster is paused.
	ctx := t.Context()
	w.pauseCluster(true)
	lost := &clusterv1.Machine{}
	require.NoError(t, w.api.Get(ctx, client.ObjectKey{Namespace: team, Name: "m-0"}, lost))
	restored := lost.DeepCopy()
	lost.Finalizers = nil
	require.NoError(t, w.api.memory.Update(ctx, lost))
	require.NoError(t, w.api.memory.Delete(ctx, lost))
	restored.ResourceVersion, restored.UID = "", "uid-after-restore"
	require.NoError(t, w.api.memory.Create(ctx, restored))

	collector := rest.CopyConfig(w.server.Config)
	collector.UserAgent = "kube-controller-manager/v1.36.3 (linux/amd64) kubernetes/abc/generic-garbage-collector"
	clients, err := versioned.NewForConfig(collector)
	require.NoError(t, err)
	ours := clients.InfrastructureV1alpha4()
	for what, refused := range map[string]error{
		"machine":  ours.MetalStackMachines(team).Delete(ctx, "m-0", metav1.DeleteOptions{}),
		"cluster":  ours.MetalStackClusters(team).Delete(ctx, "c-infra", metav1.DeleteOptions{}),
		"firewall": ours.MetalStackFirewalls(team).Delete(ctx, w.firewalls()[0].Name, metav1.DeleteOptions{}),
	} {
		require.True(t, apierrors.IsForbidden(refused), "%s: %v", what, refused)
	}

	w.pauseCluster(false)
	w.reconcileUntil("Cluster API has written the new uid", func() bool {
		return w.machine("m-0").OwnerReferences[0].UID == restored.UID
	})
	require.Zero(t, operations(w.server, "free"))
	require.Nil(t, w.machine("m-0").DeletionTimestamp)

	// In the foreground, the garbage collector deletes what an owner has that is
	// being deleted.
	require.NoError(t, w.api.memory.Delete(ctx, restored))
	require.NoError(t, ours.MetalStackMachines(team).Delete(ctx, "m-0", metav1.DeleteOptions{}))
	require.Equal(t, v1alpha4.DeletionByGarbageCollector, w.machine("m-0").Status.Deletion.RequestedBy)
	w.reconcileUntil("the machine is released", func() bool { return operations(w.server, "free") == 1 })
}

func (e *capiEnvironment) pauseCluster(paused bool) {
	e.t.Helper()
	cluster := &clusterv1.Cluster{}
	require.NoError(e.t, e.api.Get(e.t.Context(), client.ObjectKey{Namespace: team, Name: "c"}, cluster))
	cluster.Spec.Paused = ptr.To(paused)
	require.NoError(e.t, e.api.memory.Update(e.t.Context(), cluster))
}
