// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

func TestAllocate_ClusterAtOnce(t *testing.T) {
	h := newHarness(t, clusters, true, object(clusters, "c"))
	h.reconcile("c")
	require.Equal(t, []string{"allocate c"}, h.calls)

	h.reconcile("c")
	require.Len(t, h.calls, 1, "what is allocated is not asked for again")
}

func TestAllocate_MachinesAndFirewallsWaitForTheNetwork(t *testing.T) {
	for _, k := range []kind{machines, firewalls} {
		t.Run(k.name, func(t *testing.T) {
			h := newHarness(t, k, true, object(k, "s", of("c")))
			h.reconcile("s")
			require.Empty(t, h.calls, "no such cluster")

			cluster := object(clusters, "c")
			require.NoError(t, h.api.Create(t.Context(), cluster))
			h.reconcile("s")
			require.Empty(t, h.calls, "nothing allocated for the cluster")

			with(v1alpha4.AllocationAllocating)(cluster)
			h.update(cluster)
			h.reconcile("s")
			require.Empty(t, h.calls, "the cluster's allocation is under way")

			with(v1alpha4.AllocationAllocated)(cluster)
			h.update(cluster)
			h.reconcile("s")
			require.Equal(t, []string{"allocate s"}, h.calls)
			require.Equal(t, "c", h.requests[0].ClusterRef.Name)
		})
	}
}

func TestAllocate_WaitsWhileTheClusterIsBeingDeleted(t *testing.T) {
	h := newHarness(t, machines, true, object(machines, "m", of("c")),
		object(clusters, "c", with(v1alpha4.AllocationAllocated), deleted))
	h.reconcile("m")
	require.Empty(t, h.calls)
}

func TestAllocate_WithoutClusterLabelHasNoClusterRef(t *testing.T) {
	h := newHarness(t, machines, true, object(machines, "m"))
	h.reconcile("m")
	require.Equal(t, []string{"allocate m"}, h.calls)
	require.Nil(t, h.requests[0].ClusterRef)
}

func TestAllocate_MachineWithoutOwnerStandaloneOnly(t *testing.T) {
	h := newHarness(t, machines, false, object(machines, "m"))
	h.reconcile("m")
	require.Empty(t, h.calls)
}

func TestAllocate_StandaloneWaitsWhenUserDataIsNamed(t *testing.T) {
	m := object(machines, "m").(*v1alpha4.MetalStackMachine)
	m.Spec.UserData = &v1alpha4.SecretReference{Name: "cloud-init"}
	h := newHarness(t, machines, true, m)
	h.reconcile("m")
	require.Empty(t, h.calls)
}

func TestReconcile_SkipsForeignObjects(t *testing.T) {
	for name, change := range map[string]func(client.Object){
		"discovered":             withoutOurFinalizer,
		"paused":                 annotated(infrastructure.PausedAnnotation),
		"moved":                  annotated(infrastructure.DeleteForMoveAnnotation),
		"owned by Cluster API":   owned("cluster.x-k8s.io/v1beta2", "Machine"),
		"owned by control plane": owned("controlplane.cluster.x-k8s.io/v1beta2", "KubeadmControlPlane"),
		"made from a template":   annotated(clusterv1.TemplateClonedFromNameAnnotation),
	} {
		t.Run(name, func(t *testing.T) {
			for _, k := range []kind{clusters, machines, firewalls} {
				h := newHarness(t, k, true, object(k, "x", change),
					object(k, "y", change, with(v1alpha4.AllocationAllocated), deleted))
				h.reconcile("x")
				h.reconcile("y")
				require.Empty(t, h.calls, k.name)
				require.True(t, h.exists(k, "y"), k.name)
			}
		})
	}
}

func TestReconcile_SkipsExternallyManagedClusters(t *testing.T) {
	for name, change := range map[string]func(client.Object){
		"annotation": annotated(infrastructure.ManagedByAnnotation),
		"label":      labelled(infrastructure.ManagedByAnnotation, "another-controller"),
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, clusters, false, object(clusters, "x", change), object(clusters, "y", change, with(v1alpha4.AllocationAllocated), deleted))
			h.reconcile("x")
			h.reconcile("y")
			require.Empty(t, h.calls)
			require.True(t, h.exists(clusters, "y"))
			require.Empty(t, h.get(clusters, "x").GetConditions(), "not even a condition")
		})
	}
}

func TestReconcile_SkipsObjectsWithoutTheWatchFilter(t *testing.T) {
	h := newHarness(t, machines, true, object(machines, "theirs"), object(machines, "ours", labelled(infrastructure.WatchFilterLabel, "a")),
		object(machines, "others", labelled(infrastructure.WatchFilterLabel, "b")))
	options := h.r.options
	options.WatchFilter = "a"
	h.use(machines, options)
	for _, name := range []string{"theirs", "ours", "others"} {
		h.reconcile(name)
	}
	require.Equal(t, []string{"allocate ours"}, h.calls)
}

func TestReconcile_FirewallOwnedByItsClusterStandalone(t *testing.T) {
	h := newHarness(t, firewalls, false, object(clusters, "owner", with(v1alpha4.AllocationAllocated)),
		object(firewalls, "f", owned(v1alpha4.SchemeGroupVersion.String(), "MetalStackCluster")))
	h.reconcile("f")
	require.Equal(t, []string{"allocate f"}, h.calls)
}

func TestAllocate_NextAttemptWaitsForNotBefore(t *testing.T) {
	h := newHarness(t, machines, true)
	m := object(machines, "m", notBefore(h.clock.Now().Add(20*time.Second)))
	require.NoError(t, h.api.Create(t.Context(), m.DeepCopyObject().(client.Object)))
	m.SetResourceVersion(h.get(machines, "m").GetResourceVersion())
	h.update(m)

	require.Equal(t, 20*time.Second, h.reconcile("m").RequeueAfter)
	require.Empty(t, h.calls)

	h.clock.Step(20 * time.Second)
	h.reconcile("m")
	require.Equal(t, []string{"allocate m"}, h.calls)
}

func TestBackoff_GrowsWithRefusals(t *testing.T) {
	h := newHarness(t, machines, true, object(machines, "m"))
	h.refuse = apierrors.NewBadRequest("no machine available")

	var pauses []time.Duration
	for range 9 {
		pause := h.reconcile("m").RequeueAfter
		pauses = append(pauses, pause)
		asked := len(h.calls)
		h.clock.Step(pause - time.Millisecond)
		h.reconcile("m")
		require.Len(t, h.calls, asked, "an event in between does not make it ask sooner")
		h.clock.Step(time.Millisecond)
	}
	require.Equal(t, minBackoff, pauses[0])
	require.Equal(t, 2*minBackoff, pauses[1])
	require.Equal(t, maxBackoff, pauses[8])

	h.refuse = nil
	h.reconcile("m")
	h.reconcile("m")
	require.Zero(t, h.r.states.remainingBackoff(requestOf("m")), "success makes it forget")
}

func TestAllocate_StaleCacheCausesNoSecondCall(t *testing.T) {
	h := newHarness(t, machines, true, object(machines, "m", func(obj client.Object) {
		obj.(*v1alpha4.MetalStackMachine).Status.Conditions = []metav1.Condition{{
			Type: infrastructure.ConditionPaused, Status: metav1.ConditionFalse, Reason: infrastructure.ReasonNotPaused,
		}}
	}))
	before := machines.object()
	require.NoError(t, h.api.Get(t.Context(), requestOf("m").NamespacedName, before))
	h.reconcile("m")

	h.r.cached = staleCache{h.api, before.(*v1alpha4.MetalStackMachine)}
	require.Equal(t, cacheSyncDelay, h.reconcile("m").RequeueAfter)
	require.Len(t, h.calls, 1)

	h.clock.Step(cacheSyncDelay)
	h.reconcile("m")
	require.Len(t, h.calls, 2, "a cache that does not catch up is believed")
}

func TestBackoff_IsKeptWhenTheCacheFails(t *testing.T) {
	t.Parallel()
	h := newHarness(t, machines, true, object(machines, "m"))
	h.refuse = apierrors.NewBadRequest("no machine available")
	pause := h.reconcile("m").RequeueAfter

	h.r.cached = brokenCache{h.api}
	_, err := h.r.Reconcile(t.Context(), requestOf("m"))
	require.ErrorIs(t, err, errAway)
	require.Equal(t, pause, h.r.states.remainingBackoff(requestOf("m")))
}

func TestBackoff_EndsWithTheObject(t *testing.T) {
	t.Parallel()
	h := newHarness(t, machines, true, object(machines, "m"))
	h.refuse = apierrors.NewBadRequest("no machine available")
	h.reconcile("m")

	require.NoError(t, h.drop(machines, "m"))
	h.reconcile("m")
	require.Zero(t, h.r.states.remainingBackoff(requestOf("m")))
}

func TestBackoff_HonoursRetryAfter(t *testing.T) {
	h := newHarness(t, machines, true, object(machines, "m"))
	h.refuse = apierrors.NewTooManyRequests("later", 90)
	require.Equal(t, 90*time.Second, h.reconcile("m").RequeueAfter)
}

func TestAllocate_InFlightCallIsRequeuedSoon(t *testing.T) {
	h := newHarness(t, machines, true, object(machines, "m"))
	for name, err := range map[string]error{
		"another call": apierrors.NewConflict(v1alpha4.Resource("metalstackmachines"), "m", errors.New("under way")),
		"timeout":      apierrors.NewTimeoutError("goes on in the background", 1),
	} {
		h.refuse = err
		require.Equal(t, inFlightRequeue, h.reconcile("m").RequeueAfter, name)
	}
	require.Zero(t, h.r.states.remainingBackoff(requestOf("m")), "that is no refusal")
}

func TestAllocate_NotAgainAfterManualRelease(t *testing.T) {
	h := newHarness(t, machines, true, object(machines, "m", with(v1alpha4.AllocationReleased)))
	h.reconcile("m")
	require.Empty(t, h.calls)
	require.True(t, h.exists(machines, "m"))
}
