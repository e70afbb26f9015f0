// SPDX-License-Identifier: Apache-2.0

package testserver

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/util/retry"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	api "metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func newCluster(name string) *api.MetalStackCluster {
	return &api.MetalStackCluster{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       api.MetalStackClusterSpec{Partition: simulator.DefaultPartition, PublicNetworkID: simulator.InternetNetwork},
	}
}

func newMachine(name string) *api.MetalStackMachine {
	return &api.MetalStackMachine{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       api.MetalStackMachineSpec{Image: simulator.MachineImage, MachineType: simulator.SmallSize},
	}
}

func TestServer_AllocatesAndReleasesClaim(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{Simulator: simulator.Config{Speed: 200}})
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	client := s.Client().InfrastructureV1alpha4()
	clusters, machines := client.MetalStackClusters(NamespaceA), client.MetalStackMachines(NamespaceA)

	_, err := clusters.Create(ctx, newCluster("c"), metav1.CreateOptions{})
	require.NoError(t, err)
	c, err := clusters.Allocate(ctx, "c", &api.Allocation{}, metav1.CreateOptions{})
	require.NoError(t, err)
	assert.NotEmpty(t, c.Spec.PrivateNetworkID)
	assert.NotEmpty(t, c.Spec.ControlPlaneEndpoint.Host)

	m, err := machines.Create(ctx, newMachine("node-1"), metav1.CreateOptions{})
	require.NoError(t, err)
	assert.Equal(t, infrastructure.PhasePending, m.Status.Metal.Phase)
	body := &api.Allocation{ObjectMeta: metav1.ObjectMeta{UID: m.UID}, ClusterRef: &api.LocalReference{Name: "c"}, UserData: []byte("#cloud-config")}

	dry, err := machines.Allocate(ctx, "node-1", body, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	require.NoError(t, err)
	assert.Nil(t, dry.Status.Allocation, "a dry run changes nothing")
	other := body.DeepCopy()
	other.UID = "of-another"
	_, err = machines.Allocate(ctx, "node-1", other, metav1.CreateOptions{})
	assert.True(t, apierrors.IsConflict(err), "%v", err)

	m, err = machines.Allocate(ctx, "node-1", body, metav1.CreateOptions{})
	require.NoError(t, err)
	require.NotNil(t, m.Status.Allocation)
	assert.NotEmpty(t, m.Spec.ProviderID)
	again, err := machines.Allocate(ctx, "node-1", body, metav1.CreateOptions{})
	require.NoError(t, err)
	assert.Equal(t, m.Status.Allocation.AllocationUUID, again.Status.Allocation.AllocationUUID)

	require.Eventually(t, func() bool {
		m, err = machines.Get(ctx, "node-1", metav1.GetOptions{})
		return err == nil && m.Status.Ready && m.Status.Metal.Phase == infrastructure.PhasePhonedHome
	}, time.Minute, 50*time.Millisecond, "the machine phones home")

	require.NoError(t, machines.Delete(ctx, "node-1", metav1.DeleteOptions{}))
	m, err = machines.Get(ctx, "node-1", metav1.GetOptions{})
	require.NoError(t, err)
	assert.NotNil(t, m.DeletionTimestamp)
	assert.NotEqual(t, api.AllocationReleased, m.Status.Allocation.Phase, "a delete changes no metal")

	release(t, s, "metalstackmachines", "node-1")
	require.NoError(t, retry.RetryOnConflict(retry.DefaultRetry, func() error {
		m, err := machines.Get(ctx, "node-1", metav1.GetOptions{})
		require.NoError(t, err)
		assert.Equal(t, api.AllocationReleased, m.Status.Allocation.Phase)
		m.Finalizers = nil
		_, err = machines.Update(ctx, m, metav1.UpdateOptions{})
		return err
	}))
	_, err = machines.Get(ctx, "node-1", metav1.GetOptions{})
	assert.True(t, apierrors.IsNotFound(err), "%v", err)
}

// release releases an object's metal, and waits as long as the server says
// that it goes on.
func release(t *testing.T, s *Server, resource, name string) {
	t.Helper()
	require.Eventually(t, func() bool {
		err := s.Client().InfrastructureV1alpha4().RESTClient().Delete().Namespace(NamespaceA).Resource(resource).Name(name).SubResource("allocation").Do(context.Background()).Error()
		if err != nil {
			t.Logf("release: %v", err)
		}
		return err == nil
	}, time.Minute, 100*time.Millisecond)
}

func TestServer_RecordSurvivesKill(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	machines := s.Client().InfrastructureV1alpha4().MetalStackMachines(NamespaceA)
	before, err := machines.Create(ctx, newMachine("node-1"), metav1.CreateOptions{})
	require.NoError(t, err)
	s.Kill()
	s.Restart()
	after, err := machines.Get(ctx, "node-1", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, before.UID, after.UID)
	list, err := machines.List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	order, err := resourceversion.CompareResourceVersion(list.ResourceVersion, before.ResourceVersion)
	require.NoError(t, err)
	assert.Positive(t, order, "revisions never go back")
}
