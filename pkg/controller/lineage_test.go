// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// machineSet owns the Machine of everything, with the uid that the Machine's
// owner reference has, or another one.
func machineSet(objects map[string]client.Object, uid types.UID) *clusterv1.MachineSet {
	machine := objects["machine"]
	deleted(machine)
	machine.SetOwnerReferences([]metav1.OwnerReference{{
		APIVersion: clusterv1.GroupVersion.String(), Kind: "MachineSet", Name: "ms", UID: "uid-of-ms", Controller: ptr.To(true),
	}})
	ms := &clusterv1.MachineSet{ObjectMeta: metav1.ObjectMeta{Namespace: machine.GetNamespace(), Name: "ms", UID: uid, Finalizers: []string{"example.org/keeps"}}}
	objects["machineset"] = ms
	return ms
}

// The garbage collector deletes a Machine whose MachineSet was restored with a
// new uid, and Cluster API then deletes what the Machine has.
func TestRelease_HoldsMachineWhoseOwnerWasGarbageCollected(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(objects map[string]client.Object)
		held   bool
	}{
		"MachineSet scales down":      {func(o map[string]client.Object) { machineSet(o, "uid-of-ms") }, false},
		"MachineSet is being deleted": {func(o map[string]client.Object) { deleted(machineSet(o, "uid-of-ms")) }, false},
		"MachineSet has another uid":  {func(o map[string]client.Object) { machineSet(o, "uid-after-restore") }, true},
		"MachineSet is not there":     {func(o map[string]client.Object) { machineSet(o, "uid-of-ms"); delete(o, "machineset") }, true},
		"MachineDeployment is not there": {func(o map[string]client.Object) {
			owner := machineSet(o, "uid-of-ms")
			deleted(owner)
			ownedBy("MachineDeployment", "md", "uid-of-md")(owner)
		}, true},
		"MachineSet keeps its Machines": {func(o map[string]client.Object) {
			ownedBy("MachineDeployment", "md", "uid-of-md")(machineSet(o, "uid-of-ms"))
		}, false},
		"Cluster is being deleted": {func(o map[string]client.Object) { machineSet(o, "uid-after-restore"); deleted(o["cluster"]) }, false},
		"annotation insists": {func(o map[string]client.Object) {
			machineSet(o, "uid-after-restore")
			annotated(infrastructure.ForceReleaseAnnotation)(o["obj"])
		}, false},
		"control plane of another provider": {func(o map[string]client.Object) {
			machineSet(o, "uid-of-ms")
			ownedBy("OtherControlPlane", "cp", "uid-of-cp")(o["machine"])
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			objects := doomed(deletedBy(v1alpha4.DeletionByUser))
			c.change(objects)
			h := harnessOf(t, machines, objects)
			if c.held {
				h.requireHeld("m-infra", infrastructure.ReasonGarbageCollected)
				return
			}
			h.reconcile("m-infra")
			require.Equal(t, []string{"release m-infra"}, h.calls)
		})
	}
}

// What was held stays held when the owner reference of the Machine is corrected.
func TestRelease_RemembersThatTheOwnerWasGarbageCollected(t *testing.T) {
	t.Parallel()
	objects := doomed(deletedBy(v1alpha4.DeletionByUser))
	ms := machineSet(objects, "uid-after-restore")
	h := harnessOf(t, machines, objects)
	h.requireHeld("m-infra", infrastructure.ReasonGarbageCollected)

	machine := &clusterv1.Machine{}
	require.NoError(t, h.api.Get(t.Context(), client.ObjectKeyFromObject(objects["machine"]), machine))
	machine.OwnerReferences[0].UID = "uid-after-restore"
	require.NoError(t, h.api.Update(t.Context(), machine))
	h.requireHeld("m-infra", infrastructure.ReasonGarbageCollected)

	require.NoError(t, h.api.Delete(t.Context(), ms))
	h.reconcile("m-infra")
	require.Equal(t, []string{"release m-infra"}, h.calls)
}

// A hold is kept when its sign changes on the way: the Machine is made again, is
// not to be found or cannot be read for a moment, and its owner is there at last.
func TestRelease_RemembersHoldWhenItsReasonChanges(t *testing.T) {
	t.Parallel()
	t.Run("garbage collector", func(t *testing.T) {
		t.Parallel()
		objects := doomed(deletedBy(v1alpha4.DeletionByUser))
		machineSet(objects, "uid-after-restore")
		h := harnessOf(t, machines, objects)
		h.requireHeld("m-infra", infrastructure.ReasonGarbageCollected)

		machine := &clusterv1.Machine{}
		key := client.ObjectKeyFromObject(objects["machine"])
		require.NoError(t, h.api.Get(t.Context(), key, machine))
		machine.Finalizers = nil
		require.NoError(t, h.api.Update(t.Context(), machine))
		h.requireHeld("m-infra", infrastructure.ReasonGarbageCollected)
		h.r.live = unreadable{h.api, "m", errAway}
		h.reconcile("m-infra")
		h.r.live = h.api

		again := capiMachine()
		again.SetUID("uid-of-the-next")
		require.NoError(t, h.api.Create(t.Context(), again))
		obj := h.get(machines, "m-infra")
		refs := obj.GetOwnerReferences()
		refs[0].UID = again.GetUID()
		obj.SetOwnerReferences(refs)
		h.update(obj)
		h.requireHeld("m-infra", infrastructure.ReasonGarbageCollected)
	})
	t.Run("owner is back", func(t *testing.T) {
		t.Parallel()
		objects := doomed(deletedBy(v1alpha4.DeletionByUser))
		machine := objects["machine"]
		delete(objects, "machine")
		h := harnessOf(t, machines, objects)
		h.requireHeld("m-infra", infrastructure.ReasonOwnerNotFound)
		require.NoError(t, h.api.Create(t.Context(), machine))
		h.requireHeld("m-infra", infrastructure.ReasonOwnerNotFound)
		require.NoError(t, h.api.Delete(t.Context(), machine))
		h.reconcile("m-infra")
		require.Equal(t, []string{"release m-infra"}, h.calls, "its owner is being deleted")
	})
}

// A tenant's object may name a thousand owners.
func TestRelease_LooksUpFewOwners(t *testing.T) {
	t.Parallel()
	objects := doomed(deletedBy(v1alpha4.DeletionByUser), func(obj client.Object) {
		refs := obj.GetOwnerReferences()
		for range 100 {
			refs = append(refs, refs[0])
		}
		obj.SetOwnerReferences(refs)
	})
	h := harnessOf(t, machines, objects)
	live := &counting{Client: h.api}
	h.r.live = live
	h.reconcile("m-infra")
	require.Empty(t, h.calls)
	require.LessOrEqual(t, live.gets, maxOwnerLookups+2, "the owners, the object and its Cluster")
	require.Contains(t, condition(h.get(machines, "m-infra"), infrastructure.ConditionDeleting).Message, "more than 8 owners")
}

// counting counts gets.
type counting struct {
	client.Client
	gets int
}

func (c *counting) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	c.gets++
	return c.Client.Get(ctx, key, obj, opts...)
}
