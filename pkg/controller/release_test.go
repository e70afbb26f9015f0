// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

func TestRelease_ThenRemovesTheFinalizer(t *testing.T) {
	for _, k := range []kind{clusters, machines, firewalls} {
		t.Run(k.name, func(t *testing.T) {
			h := newHarness(t, k, true, object(k, "x", with(v1alpha4.AllocationAllocated), deleted))
			h.reconcile("x")
			require.Equal(t, []string{"release x"}, h.calls)
			require.False(t, h.exists(k, "x"))
		})
	}
}

func TestRelease_IsSkippedWithoutMetal(t *testing.T) {
	for name, change := range map[string]func(client.Object){
		"never allocated": func(client.Object) {},
		"released":        with(v1alpha4.AllocationReleased),
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, machines, true, object(machines, "m", change, deleted))
			h.reconcile("m")
			require.Empty(t, h.calls)
			require.False(t, h.exists(machines, "m"))
		})
	}
}

func TestRelease_RequeuesWhileInFlight(t *testing.T) {
	h := newHarness(t, machines, true, object(machines, "m", with(v1alpha4.AllocationAllocating), deleted))
	h.onRelease = with(v1alpha4.AllocationReleasing)
	require.Equal(t, inFlightRequeue, h.reconcile("m").RequeueAfter)
	require.True(t, h.exists(machines, "m"), "release has not ended")

	h.onRelease = nil
	h.reconcile("m")
	require.False(t, h.exists(machines, "m"))
}

func TestRelease_RefusalKeepsTheObject(t *testing.T) {
	h := newHarness(t, machines, true, object(machines, "m", with(v1alpha4.AllocationAllocated), deleted))
	h.refuse = apierrors.NewBadRequest("machine is locked")
	require.Equal(t, minBackoff, h.reconcile("m").RequeueAfter)
	h.reconcile("m")
	require.Len(t, h.calls, 1, "not before the pause is over")
	require.True(t, h.exists(machines, "m"))

	h.refuse = nil
	h.clock.Step(minBackoff)
	h.reconcile("m")
	require.False(t, h.exists(machines, "m"))
}

func TestRelease_KeepsFinalizerOfAChangedObject(t *testing.T) {
	h := newHarness(t, machines, true, object(machines, "m", deleted))
	before := h.get(machines, "m")

	// An allocation that was under way is recorded just now.
	changed := before.DeepCopyObject().(client.Object)
	with(v1alpha4.AllocationAllocated)(changed)
	h.update(changed)

	h.r.cached = staleCache{h.api, before.(*v1alpha4.MetalStackMachine)}
	require.Equal(t, time.Second, h.reconcile("m").RequeueAfter)
	require.True(t, h.exists(machines, "m"))
}

func TestRelease_KeepsForeignFinalizers(t *testing.T) {
	h := newHarness(t, machines, true, object(machines, "m", with(v1alpha4.AllocationReleased), deleted,
		func(obj client.Object) { obj.SetFinalizers(append(obj.GetFinalizers(), "example.org/other")) }))
	h.reconcile("m")
	m := machines.object()
	require.NoError(t, h.api.Get(t.Context(), requestOf("m").NamespacedName, m))
	require.Equal(t, []string{"example.org/other"}, m.GetFinalizers())
}

func TestClusterDeletion_WaitsForMachinesAndFirewalls(t *testing.T) {
	h := newHarness(t, clusters, true,
		object(clusters, "c", with(v1alpha4.AllocationAllocated), deleted),
		object(machines, "m", of("c"), with(v1alpha4.AllocationAllocated)),
		object(machines, "other", of("d")),
		object(firewalls, "f", of("c")))

	require.NotZero(t, h.reconcile("c").RequeueAfter)
	require.NoError(t, client.IgnoreNotFound(h.drop(machines, "m")))
	require.NotZero(t, h.reconcile("c").RequeueAfter)
	require.Empty(t, h.calls)

	require.NoError(t, client.IgnoreNotFound(h.drop(firewalls, "f")))
	h.reconcile("c")
	require.Equal(t, []string{"release c"}, h.calls)
	require.False(t, h.exists(clusters, "c"))
}

func TestClusterDeletion_WaitsWhileMachinesCannotBeListed(t *testing.T) {
	h := newHarness(t, clusters, true, object(clusters, "c", with(v1alpha4.AllocationAllocated), deleted))
	h.r.live = unreachable{h.api}
	_, err := h.r.Reconcile(t.Context(), requestOf("c"))
	require.Error(t, err)
	require.Empty(t, h.calls)
}

func TestWatches_TriggerWaitingObjects(t *testing.T) {
	h := newHarness(t, machines, true, object(machines, "m", of("c")), object(machines, "n", of("d")), object(machines, "o"),
		object(clusters, "c"), object(clusters, "c-x7kq2", of("capi")))
	requests := h.r.requestsForMembers(t.Context(), object(clusters, "c"))
	require.Equal(t, []ctrl.Request{requestOf("m")}, requests)
	requests = h.r.requestsForMembers(t.Context(), object(firewalls, "f", of("c")))
	require.Equal(t, []ctrl.Request{requestOf("m")}, requests)

	require.Equal(t, []ctrl.Request{requestOf("c")}, h.r.requestsForCluster(t.Context(), object(machines, "m", of("c"))))
	require.Equal(t, []ctrl.Request{requestOf("c-x7kq2")}, h.r.requestsForCluster(t.Context(), object(machines, "m", of("capi"))),
		"a MetalStackCluster may have another name than its Cluster")
	require.Empty(t, h.r.requestsForCluster(t.Context(), object(machines, "o")))
}

func TestRelease_ConcludesNothingFromAbsence(t *testing.T) {
	h := newHarness(t, machines, true)
	require.Zero(t, h.reconcile("m"))
	require.Empty(t, h.calls)

	h.r.cached = brokenCache{h.api}
	_, err := h.r.Reconcile(t.Context(), requestOf("m"))
	require.ErrorIs(t, err, errAway)
}

var errAway = errors.New("the API is away")

func TestRelease_ClusterWhoseAllocationWasRefusedHalfWay(t *testing.T) {
	for name, c := range map[string]struct {
		held     v1alpha4.ClusterAllocation
		released bool
	}{
		"network":         {v1alpha4.ClusterAllocation{NetworkID: "n"}, true},
		"address":         {v1alpha4.ClusterAllocation{IPAddress: "203.0.113.1"}, true},
		"adopted network": {v1alpha4.ClusterAllocation{NetworkID: "n", NetworkAdopted: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, clusters, true, object(clusters, "c", deleted, func(obj client.Object) {
				obj.(*v1alpha4.MetalStackCluster).Status.Allocation = &c.held
			}))
			h.reconcile("c")
			require.Equal(t, c.released, len(h.calls) == 1, "%v", h.calls)
			require.False(t, h.exists(clusters, "c"))
		})
	}
}
