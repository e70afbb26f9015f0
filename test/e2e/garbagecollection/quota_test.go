// SPDX-License-Identifier: Apache-2.0

package garbagecollection_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
// are, and until creations are admitted by it.
func (s *space) quota(machines string, used int64) {
	s.t.Helper()
	s.knownToController(used)
	s.newQuota("few", machines)
	s.used(used)
	s.admittedByQuotas()
}

// knownToController waits until the quota controller's informer has so many machines. An
// addition makes it count nothing, as it is the admission that counts it: a machine that
// the informer gets after it counted for a new quota is counted five minutes later.
func (s *space) knownToController(machines int64) {
	s.t.Helper()
	quotas := s.Client().CoreV1().ResourceQuotas(s.Namespace)
	name, n := "", 0
	s.eventually(func(ctx context.Context) error {
		if name == "" {
			n++
			name = fmt.Sprintf("known-%d", n)
			s.newQuota(name, "100")
		}
		quota, err := quotas.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		used, known := quota.Status.Used[counted]
		if !known {
			return fmt.Errorf("the quota %s has nothing counted", name)
		}
		if err := quotas.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			return err
		}
		if name = ""; used.Value() != machines {
			return fmt.Errorf("the quota controller knows %d machines, not %d", used.Value(), machines)
		}
		return nil
	})
}

func (s *space) newQuota(name, machines string) {
	s.t.Helper()
	_, err := s.Client().CoreV1().ResourceQuotas(s.Namespace).Create(s.t.Context(), &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{counted: resource.MustParse(machines)}},
	}, metav1.CreateOptions{})
	require.NoError(s.t, err)
}

// admittedByQuotas waits until all quotas of before are known to the server's admission.
// Kubernetes' plugin reads them from an informer, and only where that has a quota with a
// status.hard, it counts: before, what is created uses nothing of the quota, and is found
// by the next full count. So it is for Kubernetes' own kinds (k8s.io/apiserver,
// pkg/admission/plugin/resourcequota: quotaAccessor.GetQuotas in resource_access.go,
// quotaEvaluator.checkAttributes in controller.go). An informer gets changes in their
// order: once a later quota refuses, those of before are known.
func (s *space) admittedByQuotas() {
	s.t.Helper()
	dry := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	s.newQuota("none", "0")
	s.eventually(func(context.Context) error {
		if err := s.create("probe", dry); err == nil || !strings.Contains(err.Error(), "exceeded quota: none") {
			return fmt.Errorf("the quota none does not refuse: %w", cmp.Or(err, errors.New("admitted")))
		}
		return nil
	})
	require.NoError(s.t, s.Client().CoreV1().ResourceQuotas(s.Namespace).Delete(s.t.Context(), "none", metav1.DeleteOptions{}))
	s.eventually(func(context.Context) error { return s.create("probe", dry) })
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
	quota, err := s.Client().CoreV1().ResourceQuotas(s.Namespace).Get(s.t.Context(), "few", metav1.GetOptions{})
	require.NoError(s.t, err)
	require.EqualValues(s.t, 5, made.Load(), "the quota says %v", quota.Status.Used)
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
