// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/testserver"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// What a backup holds of a discovered machine can be created again: its spec has
// nothing that a spec may not have, whatever tags the machine carries.
func TestDiscoveredMachine_CanBeCreatedAsRead(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{Memory: true})
	network, err := s.Metal.Sim.AllocateNetworkFor(simulator.ProjectA, simulator.DefaultPartition, "theirs", nil)
	require.NoError(t, err)
	id, err := s.Metal.Sim.AllocateFor(simulator.AllocateRequest{
		Project: simulator.ProjectA, Name: "theirs", Hostname: "theirs", Size: simulator.SmallSize, Partition: simulator.DefaultPartition,
		Networks: []string{network},
		Tags: []string{
			"team=storage", "plain tag", "infrastructure.cluster.x-k8s.io/uid=of-a-cluster-that-is-gone", "cluster.metal-stack.io/id=c",
			"no/label/key=x", "a=not a label's value",
		},
	})
	require.NoError(t, err)
	machines := s.Client().InfrastructureV1alpha4().MetalStackMachines(testserver.NamespaceA)
	var read *api.MetalStackMachine
	require.Eventually(t, func() bool {
		read, err = machines.Get(t.Context(), id, metav1.GetOptions{})
		return err == nil
	}, time.Minute, 50*time.Millisecond)
	assert.ElementsMatch(t, []string{"team=storage", "plain tag"}, read.Spec.Tags)
	assert.Contains(t, strings.Join(read.Status.Metal.Tags, " "), "infrastructure.cluster.x-k8s.io/uid=", "the status shows all")
	assert.Contains(t, strings.Join(read.Status.Metal.Tags, " "), "machine.metal-stack.io/", "the status shows all")

	// As it is, it is there already, and that is all that is wrong with it.
	backup := read.DeepCopy()
	backup.ResourceVersion, backup.UID = "", ""
	_, err = machines.Create(t.Context(), backup, metav1.CreateOptions{})
	require.True(t, apierrors.IsAlreadyExists(err), "%v", err)
	backup.Name = "ours"
	_, err = machines.Create(t.Context(), backup, metav1.CreateOptions{})
	require.NoError(t, err)
}
