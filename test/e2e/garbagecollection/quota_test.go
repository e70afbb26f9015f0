// SPDX-License-Identifier: Apache-2.0

package garbagecollection_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

const counted = corev1.ResourceName("count/metalstackmachines.infrastructure.cluster.x-k8s.io")

// quota makes a quota of machines, and waits until it is known how many there
// are.
func (s *space) quota(machines string, used int64) {
	s.t.Helper()
	quotas := s.Client().CoreV1().ResourceQuotas(s.Namespace)
	_, err := quotas.Create(s.t.Context(), &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "few"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{counted: resource.MustParse(machines)}},
	}, metav1.CreateOptions{})
	require.NoError(s.t, err)
	s.used(used)
}

// used waits until the quota says that so many are there.
func (s *space) used(want int64) {
	s.t.Helper()
	s.eventually(func(ctx context.Context) error {
		quota, err := s.Client().CoreV1().ResourceQuotas(s.Namespace).Get(ctx, "few", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if used, known := quota.Status.Used[counted]; !known || used.Value() != want {
			return fmt.Errorf("want %d used, got %v", want, quota.Status.Used)
		}
		return nil
	})
}

func (s *space) create(name string, options metav1.CreateOptions) error {
	_, err := s.machines.Create(s.t.Context(), machine(name), options)
	return err
}

// exceeded is the answer to a request that a quota leaves no room for.
func (s *space) exceeded(err error) {
	s.t.Helper()
	require.True(s.t, apierrors.IsForbidden(err), "%v", err)
	require.ErrorContains(s.t, err, fmt.Sprintf("exceeded quota: few, requested: %s=1, used: %s=2, limited: %s=2", counted, counted, counted))
}

func quotaIsKept(s *space) {
	require.NoError(s.t, s.create("node-1", metav1.CreateOptions{}))
	s.quota("2", 1)
	dry := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	for range 3 {
		require.NoError(s.t, s.create("node-2", dry), "there is room, and a dry run takes none")
	}
	require.NoError(s.t, s.create("node-2", metav1.CreateOptions{}))
	s.used(2)
	s.exceeded(s.create("node-3", metav1.CreateOptions{}))
	s.exceeded(s.create("node-3", dry))
	_, err := s.machines.Patch(s.t.Context(), "node-3", types.ApplyPatchType,
		fmt.Appendf(nil, `{"apiVersion":%q,"kind":"MetalStackMachine","metadata":{"name":"node-3"},"spec":{"image":%q,"machineType":%q}}`,
			v1alpha4.SchemeGroupVersion, simulator.MachineImage, simulator.SmallSize), metav1.PatchOptions{FieldManager: "test"})
	s.exceeded(err)
	_, err = s.machines.Get(s.t.Context(), "node-3", metav1.GetOptions{})
	require.True(s.t, apierrors.IsNotFound(err), "%v", err)

	// What is there can be changed, other kinds are not counted, and what goes
	// makes room.
	_, err = s.machines.Patch(s.t.Context(), "node-1", types.MergePatchType, []byte(`{"metadata":{"labels":{"color":"red"}}}`), metav1.PatchOptions{})
	require.NoError(s.t, err)
	s.newTemplate("small")
	require.NoError(s.t, s.machines.Delete(s.t.Context(), "node-1", metav1.DeleteOptions{}))
	s.exceeded(s.create("node-3", metav1.CreateOptions{}))
	_, err = s.machines.Patch(s.t.Context(), "node-1", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	require.NoError(s.t, err)
	s.used(1)
	require.NoError(s.t, s.create("node-3", metav1.CreateOptions{}))
	s.used(2)
}

func quotaIsNotExceededByConcurrentCreates(s *space) {
	s.quota("5", 0)
	var made atomic.Int32
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			switch err := s.create(fmt.Sprintf("node-%d", i), metav1.CreateOptions{}); {
			case err == nil:
				made.Add(1)
			case !apierrors.IsForbidden(err) && !apierrors.IsConflict(err):
				s.t.Error(err)
			}
		})
	}
	wg.Wait()
	list, err := s.machines.List(s.t.Context(), metav1.ListOptions{})
	require.NoError(s.t, err)
	require.EqualValues(s.t, 5, made.Load())
	require.Len(s.t, list.Items, 5)
	s.used(5)
}

// A discovered machine is one that the project has, and that its namespace
// shows: whoever limits machines means it, too.
func quotaCountsDiscovered(s *space) {
	network, err := s.Metal.Sim.AllocateNetworkFor(s.Project, simulator.DefaultPartition, "theirs", nil)
	require.NoError(s.t, err)
	id, err := s.Metal.Sim.AllocateFor(simulator.AllocateRequest{Project: s.Project, Name: "theirs", Size: simulator.SmallSize,
		Partition: simulator.DefaultPartition, Networks: []string{network}})
	require.NoError(s.t, err)
	s.eventually(func(ctx context.Context) error {
		_, err := s.machines.Get(ctx, id, metav1.GetOptions{})
		return err
	})
	s.quota("2", 1)
	require.NoError(s.t, s.create("node-1", metav1.CreateOptions{}))
	s.exceeded(s.create("node-2", metav1.CreateOptions{}))
}

func quotaDoesNotBlockAllocation(s *space) {
	s.quota("1", 0)
	_, err := s.clusters.Create(s.t.Context(), objects.Cluster("orchid"), metav1.CreateOptions{})
	require.NoError(s.t, err)
	node := machine("node-1")
	node.Annotations, node.Labels = nil, map[string]string{infrastructure.ClusterNameLabel: "orchid"}
	_, err = s.machines.Create(s.t.Context(), node, metav1.CreateOptions{})
	require.NoError(s.t, err)
	s.eventually(func(ctx context.Context) error {
		node, err := s.machines.Get(ctx, "node-1", metav1.GetOptions{})
		if err == nil && (node.Status.Allocation == nil || node.Status.Allocation.Phase != v1alpha4.AllocationAllocated) {
			err = fmt.Errorf("not allocated: %v", node.Status.Conditions)
		}
		return err
	})
	s.used(1)
	require.NoError(s.t, s.machines.Delete(s.t.Context(), "node-1", metav1.DeleteOptions{}))
	gone(s, s.machines.Get, "node-1")
	s.used(0)
	ids, err := s.machines.List(s.t.Context(), metav1.ListOptions{})
	require.NoError(s.t, err)
	require.False(s.t, slices.ContainsFunc(ids.Items, func(m v1alpha4.MetalStackMachine) bool { return m.Status.Metal.Managed }))
}
