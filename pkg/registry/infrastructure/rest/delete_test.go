// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/registry/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/machine"
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
