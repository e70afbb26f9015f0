// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/annotations"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

func blocked(obj client.Object) bool {
	return hasKey(obj.GetAnnotations(), infrastructure.BlockMoveAnnotation)
}

func blocks(by string) func(client.Object) {
	return func(obj client.Object) {
		obj.SetAnnotations(map[string]string{infrastructure.BlockMoveAnnotation: by})
	}
}

func TestMove_IsBlockedWhileAnAllocationIsInFlight(t *testing.T) {
	t.Parallel()
	h := harnessOf(t, machines, everything())
	h.onAllocate = func(obj client.Object) {
		require.True(t, blocked(obj), "from before the call on")
	}
	h.reconcile("m-infra")
	require.Len(t, h.calls, 1)
	require.False(t, blocked(h.get(machines, "m-infra")), "until it is recorded")
	recorded := strings.Join(h.takeEvents(), "\n")
	require.Equal(t, 1, strings.Count(recorded, "Allocated machine"), recorded)
}

func TestMove_StaysBlockedWhileTheOutcomeIsUnknown(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"under way":  apierrors.NewConflict(v1alpha4.Resource("metalstackmachines"), "m-infra", errors.New("another allocation is under way")),
		"timeout":    apierrors.NewTimeoutError("it goes on", 1),
		"no answer":  errors.New("connection reset by peer"),
		"overloaded": apierrors.NewInternalError(errors.New("oops")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := harnessOf(t, machines, everything())
			h.refuse = err
			h.reconcile("m-infra")
			require.Len(t, h.calls, 1)
			require.True(t, blocked(h.get(machines, "m-infra")))
		})
	}
}

func TestMove_RefusalUnblocks(t *testing.T) {
	t.Parallel()
	h := harnessOf(t, machines, everything())
	h.refuse = refusalOf("m-infra", "the metal-api says: no machine left")
	h.reconcile("m-infra")
	require.Len(t, h.calls, 1)
	require.False(t, blocked(h.get(machines, "m-infra")))
}

func TestMove_BlockLeftByACrashIsRemoved(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change  func(map[string]client.Object)
		blocked bool
	}{
		"allocated": {func(o map[string]client.Object) { with(v1alpha4.AllocationAllocated)(o["obj"]) }, false},
		"allocated, and paused for the move": {func(o map[string]client.Object) {
			with(v1alpha4.AllocationAllocated)(o["obj"])
			o["cluster"].(*clusterv1.Cluster).Spec.Paused = ptr.To(true)
		}, false},
		"never asked for, and paused for the move": {func(o map[string]client.Object) {
			o["cluster"].(*clusterv1.Cluster).Spec.Paused = ptr.To(true)
		}, false},
		"never asked for, and waiting": {func(o map[string]client.Object) { o["secret"] = nil }, false},
		"still open, and paused for the move": {func(o map[string]client.Object) {
			with(v1alpha4.AllocationAllocating)(o["obj"])
			o["cluster"].(*clusterv1.Cluster).Spec.Paused = ptr.To(true)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			objects := everything()
			blocks(moveBlocker)(objects["obj"])
			c.change(objects)
			h := harnessOf(t, machines, objects)
			h.reconcile("m-infra")
			require.Empty(t, h.calls)
			require.Equal(t, c.blocked, blocked(h.get(machines, "m-infra")))
		})
	}
}

// A user pauses the machine as soon as it is allocated, of which the cache does not know yet.
func TestMove_UnblockKeepsAnnotationsOfOthers(t *testing.T) {
	t.Parallel()
	objects := everything()
	with(v1alpha4.AllocationAllocated)(objects["obj"])
	blocks(moveBlocker)(objects["obj"])
	h := harnessOf(t, machines, objects)
	cached := h.get(machines, "m-infra")
	paused := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:""}}}`, infrastructure.PausedAnnotation)
	require.NoError(t, h.api.Patch(t.Context(), h.get(machines, "m-infra"), client.RawPatch(types.MergePatchType, paused)))
	rec, err := newReconciliation(h.r, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(cached)}, cached)
	require.NoError(t, err)
	_, err = reconcileMoveBlock(t.Context(), rec)
	require.NoError(t, err)
	require.Equal(t, map[string]string{infrastructure.PausedAnnotation: ""}, h.get(machines, "m-infra").GetAnnotations())
	require.True(t, annotations.HasPaused(rec.obj), "nor is it reconciled on")
}

func TestMove_ForeignBlockStays(t *testing.T) {
	t.Parallel()
	objects := everything()
	blocks("true")(objects["obj"])
	h := harnessOf(t, machines, objects)
	h.reconcile("m-infra")
	h.reconcile("m-infra")
	require.Len(t, h.calls, 1)
	require.True(t, blocked(h.get(machines, "m-infra")))
}

func TestAllocate_RecordsThatAdoptedMachineIsNotAsTheSpecSays(t *testing.T) {
	t.Parallel()
	h := harnessOf(t, machines, everything())
	h.onAllocate = func(obj client.Object) {
		obj.(*v1alpha4.MetalStackMachine).Status.Conditions = []metav1.Condition{{
			Type: infrastructure.ConditionMatchesSpec, Status: metav1.ConditionFalse, Reason: infrastructure.ReasonOtherSize, Message: "Machine x has size a",
		}}
	}
	h.reconcile("m-infra")
	require.Contains(t, h.takeEvents(), "Warning OtherSize Machine x has size a")
	h.clock.Step(cacheSyncDelay)
	h.reconcile("m-infra")
	require.Empty(t, h.takeEvents(), "once")
	require.Equal(t, infrastructure.ReasonOtherSize, condition(h.get(machines, "m-infra"), infrastructure.ConditionMatchesSpec).Reason)
}
