// SPDX-License-Identifier: Apache-2.0

// Package garbagecollection_test holds that what Kubernetes' own controllers do to
// objects, the garbage collector and quotas above all, they do to ours as well.
package garbagecollection_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	typed "metal-stack.io/infrastructure-apiserver/generated/clientset/versioned/typed/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

const (
	// limit is how long anything may take that is waited for. The controllers
	// look for new resources every 30 s.
	limit = 2 * time.Minute
	// spaces is how many tests can have a namespace of their own.
	spaces = 12
)

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

// environment is a cluster that all tests share, each in a namespace of its own.
type environment struct {
	*cluster.Cluster
	teams chan cluster.Team
}

func TestKubernetesControllers(t *testing.T) {
	t.Parallel()
	opts := cluster.Options{Simulator: simulator.Config{DataCentre: simulator.DefaultDataCentre(16)}, ControllerManager: true}
	env := &environment{teams: make(chan cluster.Team, spaces)}
	for _, team := range opts.AddTeams(spaces) {
		env.teams <- team
	}
	close(env.teams)
	env.Cluster = cluster.Start(t, opts)
	env.awaitControllers(t)
	for name, test := range map[string]func(*space){
		"GarbageCollector_DeletesDependents":            garbageCollectorDeletesDependents,
		"GarbageCollector_DeletesObjectOfMissingOwner":  garbageCollectorDeletesObjectOfMissingOwner,
		"GarbageCollector_KeepsObjectOfUnreadableOwner": garbageCollectorKeepsObjectOfUnreadableOwner,
		"ForegroundDeletion_WaitsForDependents":         foregroundDeletionWaitsForDependents,
		"OrphanDeletion_KeepsDependents":                orphanDeletionKeepsDependents,
		"Finalizers_KeepObjectAndCannotBeAddedLater":    finalizersKeepObjectAndCannotBeAddedLater,
		"Quota_IsKept":                           quotaIsKept,
		"Quota_IsNotExceededByConcurrentCreates": quotaIsNotExceededByConcurrentCreates,
		"Quota_CountsDiscovered":                 quotaCountsDiscovered,
		"Quota_DoesNotBlockAllocation":           quotaDoesNotBlockAllocation,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(env.space(t))
		})
	}
}

// space is the namespace of one test.
type space struct {
	*environment
	t *testing.T
	cluster.Team
	maps      typedcorev1.ConfigMapInterface
	machines  typed.MetalStackMachineInterface
	clusters  typed.MetalStackClusterInterface
	templates typed.MetalStackMachineTemplateInterface
}

func (env *environment) space(t *testing.T) *space {
	t.Helper()
	team, left := <-env.teams
	require.True(t, left, "there are no more teams")
	env.Bind(t, team.Namespace, team.Project)
	ours := env.Metalstack(t, env.Admin()).InfrastructureV1alpha4()
	return &space{
		environment: env, t: t, Team: team,
		maps:     env.Client().CoreV1().ConfigMaps(team.Namespace),
		machines: ours.MetalStackMachines(team.Namespace), clusters: ours.MetalStackClusters(team.Namespace),
		templates: ours.MetalStackMachineTemplates(team.Namespace),
	}
}

// awaitControllers waits until the garbage collector and the quota controller
// have discovered our kinds. Until then the one knows no owner's dependents,
// and the other tries ever more seldom to count.
func (env *environment) awaitControllers(t *testing.T) {
	t.Helper()
	s := env.space(t)
	s.newTemplate("orphan", neverWas(0))
	gone(s, s.templates.Get, "orphan")
	quotas := env.Client().CoreV1().ResourceQuotas(s.Namespace)
	for i, known := 0, false; !known; i++ {
		name := fmt.Sprintf("probe-%d", i)
		_, err := quotas.Create(t.Context(), &corev1.ResourceQuota{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{counted: resource.MustParse("1")}},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		require.Less(t, i, 20, "the quota controller does not know our kinds")
		err = wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 5*time.Second, true, func(ctx context.Context) (bool, error) {
			quota, err := quotas.Get(ctx, name, metav1.GetOptions{})
			_, known = quota.Status.Used[counted]
			return known, err
		})
		if !wait.Interrupted(err) {
			require.NoError(t, err)
		}
	}
}

// neverWas refers to an owner that does not exist.
func neverWas(i int) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "never-was", UID: types.UID(fmt.Sprintf("1c2e9b1e-0000-4000-8000-%012d", i))}
}

func (s *space) eventually(ask func(context.Context) error, what ...any) {
	s.t.Helper()
	framework.Eventually(s.t, limit, ask, what...)
}

// gone waits until an object is not there any more.
func gone[T any](s *space, get func(context.Context, string, metav1.GetOptions) (T, error), name string) {
	s.t.Helper()
	s.eventually(func(ctx context.Context) error {
		switch _, err := get(ctx, name, metav1.GetOptions{}); {
		case err == nil:
			return fmt.Errorf("%s is still there", name)
		case apierrors.IsNotFound(err):
			return nil
		default:
			return err
		}
	})
}

// there returns an object that is there.
func there[T any](s *space, get func(context.Context, string, metav1.GetOptions) (T, error), name string) T {
	s.t.Helper()
	obj, err := get(s.t.Context(), name, metav1.GetOptions{})
	require.NoError(s.t, err)
	return obj
}

// marked waits until an object is being deleted.
func marked[T metav1.Object](s *space, get func(context.Context, string, metav1.GetOptions) (T, error), name string) {
	s.t.Helper()
	s.eventually(func(ctx context.Context) error {
		obj, err := get(ctx, name, metav1.GetOptions{})
		if err == nil && obj.GetDeletionTimestamp() == nil {
			err = errors.New("is not being deleted")
		}
		return err
	})
}

// ownedBy are the owner references to an object.
func ownedBy(version, kind string, owner metav1.Object) []metav1.OwnerReference {
	yes := true
	return []metav1.OwnerReference{{APIVersion: version, Kind: kind, Name: owner.GetName(), UID: owner.GetUID(), BlockOwnerDeletion: &yes}}
}

func ownedByMap(owner *corev1.ConfigMap) []metav1.OwnerReference {
	return ownedBy("v1", "ConfigMap", owner)
}

func ownedByTemplate(owner *v1alpha4.MetalStackMachineTemplate) []metav1.OwnerReference {
	return ownedBy(v1alpha4.SchemeGroupVersion.String(), "MetalStackMachineTemplate", owner)
}

func (s *space) newMap(name string, owners ...metav1.OwnerReference) *corev1.ConfigMap {
	s.t.Helper()
	created, err := s.maps.Create(s.t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: owners}}, metav1.CreateOptions{})
	require.NoError(s.t, err)
	return created
}

// newTemplate makes an object of ours that no controller of ours looks after.
func (s *space) newTemplate(name string, owners ...metav1.OwnerReference) *v1alpha4.MetalStackMachineTemplate {
	s.t.Helper()
	created, err := s.templates.Create(s.t.Context(), objects.MachineTemplate(name, func(m *v1alpha4.MetalStackMachineTemplate) {
		m.OwnerReferences = owners
	}), metav1.CreateOptions{})
	require.NoError(s.t, err)
	return created
}

// machine is one that the controller manager leaves alone.
func machine(name string, owners ...metav1.OwnerReference) *v1alpha4.MetalStackMachine {
	return objects.Machine(name, objects.InDefaultPartition, func(m *v1alpha4.MetalStackMachine) {
		m.OwnerReferences, m.Annotations = owners, map[string]string{infrastructure.PausedAnnotation: "true"}
	})
}
