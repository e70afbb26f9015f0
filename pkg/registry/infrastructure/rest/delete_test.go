// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/registry/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/machine"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
)

func TestDelete_WaitsForTheLastFinalizer(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	create(t, w, machine.Resource, newMachine("node-1"))
	main := w.all[machine.Resource].main
	out, gone, err := main.Delete(in("team-a"), "node-1", rest.ValidateAllObjectFunc, &metav1.DeleteOptions{})
	require.NoError(t, err)
	assert.False(t, gone)
	assert.NotNil(t, out.(*infrastructure.MetalStackMachine).DeletionTimestamp)
	_, err = update(t, main, "node-1", func(m *infrastructure.MetalStackMachine) { m.Finalizers = nil })
	require.NoError(t, err)
	_, err = main.Get(in("team-a"), "node-1", &metav1.GetOptions{})
	assert.True(t, apierrors.IsNotFound(err), "%v", err)
}

func TestUpdate_KeepsFinalizerUntilDeletion(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	create(t, w, machine.Resource, newMachine("node-1"))
	main := w.all[machine.Resource].main
	out, err := update(t, main, "node-1", func(m *infrastructure.MetalStackMachine) { m.Finalizers = []string{"example.org/theirs"} })
	require.NoError(t, err)
	assert.Equal(t, []string{"example.org/theirs", infrastructure.MachineFinalizer}, out.Finalizers)
}

func TestDeleteCollection_SkipsDiscoveredMetal(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.discover(foundID)
	create(t, w, machine.Resource, newMachine("node-1"))
	main := w.all[machine.Resource].main
	list, err := main.List(in("team-a"), &metainternalversion.ListOptions{})
	assert.ElementsMatch(t, []string{"node-1", foundID}, names(t, list, err))

	list, err = main.DeleteCollection(in("team-a"), rest.ValidateAllObjectFunc, &metav1.DeleteOptions{}, &metainternalversion.ListOptions{})
	assert.Equal(t, []string{"node-1"}, names(t, list, err))
	_, _, err = main.Delete(in("team-a"), foundID, rest.ValidateAllObjectFunc, &metav1.DeleteOptions{})
	assert.True(t, apierrors.IsForbidden(err), "%v", err)
	_, err = update(t, main, foundID, func(m *infrastructure.MetalStackMachine) { m.Labels = map[string]string{"a": "b"} })
	assert.True(t, apierrors.IsForbidden(err), "%v", err)
}

func TestDelete_HasNothingObservedForARecord(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	var observed observations
	w.backend.SetRefresher(&observed)
	create(t, w, machine.Resource, newMachine("node-1"))
	main := w.all[machine.Resource].main
	_, _, err := main.Delete(in("team-a"), "node-1", rest.ValidateAllObjectFunc, &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}})
	require.NoError(t, err)
	_, _, err = main.Delete(in("team-a"), "node-1", rest.ValidateAllObjectFunc, &metav1.DeleteOptions{})
	require.NoError(t, err)
	assert.Zero(t, observed.Load(), "by deletions of one object")

	create(t, w, machine.Resource, newMachine("node-2"))
	create(t, w, machine.Resource, newMachine("node-3"))
	_, err = main.DeleteCollection(in("team-a"), rest.ValidateAllObjectFunc, &metav1.DeleteOptions{}, &metainternalversion.ListOptions{})
	require.NoError(t, err)
	assert.EqualValues(t, 1, observed.Load(), "by the list of a collection")
}

// A client that names the version by which it decided is refused if metal has changed since, although
// nothing has shown that yet.
func TestDelete_WithResourceVersionIsRefusedIfMetalHasChanged(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		names, refused bool
		collection     bool
		dryRun         []string
	}{
		"by name":                        {},
		"by name and version":            {names: true, refused: true},
		"dry run":                        {dryRun: []string{metav1.DryRunAll}},
		"dry run with a version":         {names: true, refused: true, dryRun: []string{metav1.DryRunAll}},
		"of a collection with a version": {names: true, refused: true, collection: true},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newEnvironment(t)
			create(t, w, machine.Resource, newMachine("node-1"))
			shown, err := w.Machines().Update(t.Context(), "team-a", "node-1", func(m *infrastructure.MetalStackMachine) error {
				m.Status.Allocation = &infrastructure.MachineAllocation{
					AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocated, UID: m.UID}, MachineID: foundID, AllocationUUID: "a",
				}
				return nil
			})
			require.NoError(t, err)
			require.False(t, shown.Status.Ready)
			// The next observation shows that it has phoned home.
			w.backend.SetRefresher(&observations{show: func() { w.discover(foundID) }})

			options := &metav1.DeleteOptions{DryRun: c.dryRun, Preconditions: &metav1.Preconditions{UID: &shown.UID}}
			if c.names {
				options.Preconditions.ResourceVersion = &shown.ResourceVersion
			}
			main := w.all[machine.Resource].main
			if c.collection {
				_, err = main.DeleteCollection(in("team-a"), rest.ValidateAllObjectFunc, options, &metainternalversion.ListOptions{})
			} else {
				_, _, err = main.Delete(in("team-a"), "node-1", rest.ValidateAllObjectFunc, options)
			}
			assert.Equal(t, c.refused, apierrors.IsConflict(err), "%v", err)
			if !c.refused {
				assert.NoError(t, err)
			}
		})
	}
}

// observations counts refreshes, of which the first shows something.
type observations struct {
	atomic.Int32
	show func()
}

// Refresh implements storage.Refresher.
func (o *observations) Refresh(context.Context, storage.Scope) (time.Time, error) {
	if o.Add(1) == 1 && o.show != nil {
		o.show()
	}
	return time.Time{}, nil
}

// Known implements storage.Refresher.
func (*observations) Known(storage.Scope) bool { return true }
