// SPDX-License-Identifier: Apache-2.0

package garbagecollection_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

// knownToCollector waits until the garbage collector knows what there is: it gets the objects
// of a kind in their order, and an owner's deletion waits for, or orphans, the dependents that
// it knows.
func (s *space) knownToCollector() {
	s.t.Helper()
	s.newTemplate("last", neverWas(20))
	s.newMap("last", neverWas(20))
	gone(s, s.templates.Get, "last")
	gone(s, s.maps.Get, "last")
}

func garbageCollectorDeletesDependents(s *space) {
	owner := s.newMap("owner")
	s.newTemplate("ours", ownedByMap(owner)...)
	_, err := s.machines.Create(s.t.Context(), machine("node-1", ownedByMap(owner)...), metav1.CreateOptions{})
	require.NoError(s.t, err)
	other := s.newTemplate("owner")
	s.newMap("theirs", ownedByTemplate(other)...)
	// Who has another owner stays.
	s.newTemplate("both", append(ownedByMap(owner), ownedByTemplate(other)...)...)

	require.NoError(s.t, s.maps.Delete(s.t.Context(), owner.Name, metav1.DeleteOptions{}))
	gone(s, s.templates.Get, "ours")
	marked(s, s.machines.Get, "node-1")
	require.NotEmpty(s.t, there(s, s.machines.Get, "node-1").Finalizers, "what happens to the metal is for the controller manager to say")
	s.eventually(func(ctx context.Context) error {
		both, err := s.templates.Get(ctx, "both", metav1.GetOptions{})
		if err == nil && len(both.OwnerReferences) != 1 {
			err = errors.New("the owner that is gone is still named")
		}
		return err
	})

	require.NoError(s.t, s.templates.Delete(s.t.Context(), other.Name, metav1.DeleteOptions{}))
	gone(s, s.maps.Get, "theirs")
	gone(s, s.templates.Get, "both")
}

func garbageCollectorDeletesObjectOfMissingOwner(s *space) {
	s.newTemplate("orphan", neverWas(1))
	gone(s, s.templates.Get, "orphan")
	// One that was deleted and made anew is another one.
	owner := s.newMap("owner")
	references := ownedByMap(owner)
	references[0].UID = "1c2e9b1e-0000-4000-8000-000000000002"
	s.newTemplate("stale", references...)
	gone(s, s.templates.Get, "stale")
}

func garbageCollectorKeepsObjectOfUnreadableOwner(s *space) {
	version := schema.GroupVersion{Group: "away-" + s.Namespace + ".example.com", Version: "v1"}
	port, err := controlplane.FreePort()
	require.NoError(s.t, err)
	s.Expose(s.t, s.Namespace, "away", port)
	s.Aggregate(s.t, version, s.Namespace, "away", port, s.CA())
	s.WaitAvailable(s.t, version, false)
	owner := metav1.OwnerReference{APIVersion: version.String(), Kind: "Thing", Name: "thing", UID: "1c2e9b1e-0000-4000-8000-000000000003"}
	unknown := metav1.OwnerReference{APIVersion: "nobody.example.com/v1", Kind: "Thing", Name: "thing", UID: "1c2e9b1e-0000-4000-8000-000000000004"}
	s.newTemplate("kept", owner)
	s.newTemplate("kept-too", unknown)
	_, err = s.machines.Create(s.t.Context(), machine("node-1", owner), metav1.CreateOptions{})
	require.NoError(s.t, err)

	// The collector takes things up in their order: when it has collected what
	// came later, it has looked at these.
	for i := range 3 {
		name := fmt.Sprintf("later-%d", i)
		s.newTemplate(name, neverWas(10+i))
		gone(s, s.templates.Get, name)
	}
	require.Nil(s.t, there(s, s.templates.Get, "kept").DeletionTimestamp)
	require.Nil(s.t, there(s, s.templates.Get, "kept-too").DeletionTimestamp)
	require.Nil(s.t, there(s, s.machines.Get, "node-1").DeletionTimestamp)
}

func foregroundDeletionWaitsForDependents(s *space) {
	foreground := metav1.DeletePropagationForeground
	deletes := metav1.DeleteOptions{PropagationPolicy: &foreground}
	ours, theirs := s.newTemplate("ours"), s.newMap("theirs")
	// What they own is kept by a finalizer each, and so the owners are.
	s.newMap("of-ours", ownedByTemplate(ours)...)
	s.newTemplate("of-theirs", ownedByMap(theirs)...)
	held := []byte(`{"metadata":{"finalizers":["example.com/held"]}}`)
	_, err := s.maps.Patch(s.t.Context(), "of-ours", types.MergePatchType, held, metav1.PatchOptions{})
	require.NoError(s.t, err)
	_, err = s.templates.Patch(s.t.Context(), "of-theirs", types.MergePatchType, held, metav1.PatchOptions{})
	require.NoError(s.t, err)

	s.knownToCollector()
	require.NoError(s.t, s.templates.Delete(s.t.Context(), "ours", deletes))
	require.NoError(s.t, s.maps.Delete(s.t.Context(), "theirs", deletes))
	marked(s, s.maps.Get, "of-ours")
	marked(s, s.templates.Get, "of-theirs")
	require.Equal(s.t, []string{metav1.FinalizerDeleteDependents}, there(s, s.templates.Get, "ours").Finalizers)
	require.Equal(s.t, []string{metav1.FinalizerDeleteDependents}, there(s, s.maps.Get, "theirs").Finalizers)

	released := []byte(`{"metadata":{"finalizers":null}}`)
	_, err = s.maps.Patch(s.t.Context(), "of-ours", types.MergePatchType, released, metav1.PatchOptions{})
	require.NoError(s.t, err)
	_, err = s.templates.Patch(s.t.Context(), "of-theirs", types.MergePatchType, released, metav1.PatchOptions{})
	require.NoError(s.t, err)
	gone(s, s.maps.Get, "of-ours")
	gone(s, s.templates.Get, "ours")
	gone(s, s.templates.Get, "of-theirs")
	gone(s, s.maps.Get, "theirs")
}

func orphanDeletionKeepsDependents(s *space) {
	orphan := metav1.DeletePropagationOrphan
	ours, theirs := s.newTemplate("ours"), s.newMap("theirs")
	s.newMap("of-ours", ownedByTemplate(ours)...)
	s.newTemplate("of-theirs", ownedByMap(theirs)...)
	s.knownToCollector()
	require.NoError(s.t, s.templates.Delete(s.t.Context(), "ours", metav1.DeleteOptions{PropagationPolicy: &orphan}))
	require.NoError(s.t, s.maps.Delete(s.t.Context(), "theirs", metav1.DeleteOptions{PropagationPolicy: &orphan}))
	gone(s, s.templates.Get, "ours")
	gone(s, s.maps.Get, "theirs")
	require.Empty(s.t, there(s, s.maps.Get, "of-ours").OwnerReferences)
	require.Empty(s.t, there(s, s.templates.Get, "of-theirs").OwnerReferences)
	require.Nil(s.t, there(s, s.templates.Get, "of-theirs").DeletionTimestamp)
}

func finalizersKeepObjectAndCannotBeAddedLater(s *space) {
	s.newTemplate("held")
	patch := func(finalizers ...string) error {
		text, err := json.Marshal(map[string]any{"metadata": map[string]any{"finalizers": finalizers}})
		require.NoError(s.t, err)
		_, err = s.templates.Patch(s.t.Context(), "held", types.MergePatchType, text, metav1.PatchOptions{})
		return err
	}
	require.NoError(s.t, patch("example.com/a", "example.com/b"))
	require.True(s.t, apierrors.IsInvalid(patch("no finalizer")))
	require.NoError(s.t, s.templates.Delete(s.t.Context(), "held", metav1.DeleteOptions{}))
	held := there(s, s.templates.Get, "held")
	require.NotNil(s.t, held.DeletionTimestamp)
	err := patch("example.com/a", "example.com/b", "example.com/c")
	require.True(s.t, apierrors.IsInvalid(err), "%v", err)
	require.ErrorContains(s.t, err, "no new finalizers can be added if the object is being deleted")
	require.NoError(s.t, patch("example.com/b"))
	require.NoError(s.t, s.templates.Delete(s.t.Context(), "held", metav1.DeleteOptions{}), "once more changes nothing")
	require.Equal(s.t, held.DeletionTimestamp, there(s, s.templates.Get, "held").DeletionTimestamp)
	require.NoError(s.t, patch())
	gone(s, s.templates.Get, "held")
}
