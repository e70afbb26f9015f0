// SPDX-License-Identifier: Apache-2.0

package outage_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/metal-stack/metal-go/api/client/machine"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	typed "metal-stack.io/infrastructure-apiserver/generated/clientset/versioned/typed/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

// installation is a cluster with a controller manager, and one team. Its etcd is restored
// from a backup that does not know of all machines.
type installation struct {
	*cluster.Cluster
	t         *testing.T
	team      cluster.Team
	clusters  typed.MetalStackClusterInterface
	machines  typed.MetalStackMachineInterface
	templates typed.MetalStackMachineTemplateInterface
}

func TestRestoreEtcd_UnknownMachinesAreDiscoveredAndKept(t *testing.T) {
	t.Parallel()
	env := startInstallation(t)
	ctx := t.Context()
	maps := env.Client().CoreV1().ConfigMaps(env.team.Namespace)
	env.newCluster("orchid")
	before := env.ready(env.newMachine("before", "orchid", env.newOwner("owner-before")))
	backup := env.SnapshotEtcd(t)

	// These are allocated after the backup was made: one in a cluster that the
	// backup knows, one in a cluster that it does not.
	env.newCluster("lotus")
	after := env.ready(env.newMachine("after", "orchid", env.newOwner("owner-after")))
	unknown := env.ready(env.newMachine("unknown", "lotus", env.newOwner("owner-unknown")))

	env.ControllerManager.Stop(t)
	env.Servers[0].Stop(t)
	env.RestoreEtcd(t, backup)
	env.Servers[0].Start(t)
	env.ControllerManager.Start(t)
	env.Servers[0].AwaitReady(t)
	env.AwaitAvailable(t)
	env.ControllerManager.AwaitReady(t)

	known := env.get("before")
	require.Equal(t, before.UID, known.UID)
	require.Equal(t, before.Status.Allocation, known.Status.Allocation)
	require.True(t, known.Status.Metal.Managed)
	for _, m := range []*v1alpha4.MetalStackMachine{after, unknown} {
		_, err := env.machines.Get(ctx, m.Name, metav1.GetOptions{})
		require.True(t, apierrors.IsNotFound(err), "%v", err)
		env.isDiscovered(m)
	}

	// An owner that vanishes does not take along what holds metal.
	env.collects()
	require.NoError(t, maps.Delete(ctx, "owner-before", metav1.DeleteOptions{}))
	env.collects()
	env.refused("before")
	known = env.get("before")
	require.Nil(t, known.DeletionTimestamp)
	require.Equal(t, before.Status.Allocation.AllocationUUID, env.allocation(before))
	require.NoError(t, env.machines.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
	env.collects()
	for _, m := range []*v1alpha4.MetalStackMachine{after, unknown} {
		err := env.machines.Delete(ctx, m.Status.Metal.MachineID, metav1.DeleteOptions{})
		require.True(t, apierrors.IsForbidden(err), "%v", err)
		env.isDiscovered(m)
	}

	// Whoever names one has it back, and can then give it back.
	again := objects.Machine("after", objects.InDefaultPartition, objects.OfCluster("orchid"))
	again.Spec.ProviderID = after.Spec.ProviderID
	_, err := env.machines.Create(ctx, again, metav1.CreateOptions{})
	require.NoError(t, err)
	adopted := env.ready("after")
	require.Equal(t, after.Status.Allocation.AllocationUUID, adopted.Status.Allocation.AllocationUUID, "it is the same allocation")
	_, err = env.machines.Get(ctx, after.Status.Metal.MachineID, metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "it is shown once: %v", err)
	require.NoError(t, env.machines.Delete(ctx, "after", metav1.DeleteOptions{}))
	env.eventually(func(ctx context.Context) error {
		if env.allocation(after) != "" {
			return errors.New("it is still allocated")
		}
		return nil
	})
	env.isDiscovered(unknown)
}

func startInstallation(t *testing.T) *installation {
	t.Helper()
	opts := cluster.Options{ControllerManager: true, Simulator: simulator.Config{DataCentre: simulator.DefaultDataCentre(16), Speed: 120}}
	team := opts.AddTeams(1)[0]
	c := cluster.Start(t, opts)
	c.Bind(t, team.Namespace, team.Project)
	ours := c.Metalstack(t, c.Admin()).InfrastructureV1alpha4()
	return &installation{
		Cluster: c, t: t, team: team, clusters: ours.MetalStackClusters(team.Namespace),
		machines: ours.MetalStackMachines(team.Namespace), templates: ours.MetalStackMachineTemplates(team.Namespace),
	}
}

func (env *installation) newOwner(name string) *corev1.ConfigMap {
	env.t.Helper()
	owner, err := env.Client().CoreV1().ConfigMaps(env.team.Namespace).Create(env.t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	require.NoError(env.t, err)
	return owner
}

func (env *installation) newCluster(name string) {
	env.t.Helper()
	_, err := env.clusters.Create(env.t.Context(), objects.Cluster(name, func(c *v1alpha4.MetalStackCluster) {
		c.Labels = map[string]string{infrastructure.ClusterNameLabel: name}
	}), metav1.CreateOptions{})
	require.NoError(env.t, err)
}

func (env *installation) newMachine(name, ofCluster string, owner *corev1.ConfigMap) string {
	env.t.Helper()
	m := objects.Machine(name, objects.InDefaultPartition, objects.OfCluster(ofCluster))
	m.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID}}
	_, err := env.machines.Create(env.t.Context(), m, metav1.CreateOptions{})
	require.NoError(env.t, err)
	return name
}

func (env *installation) get(name string) *v1alpha4.MetalStackMachine {
	env.t.Helper()
	m, err := env.machines.Get(env.t.Context(), name, metav1.GetOptions{})
	require.NoError(env.t, err)
	return m
}

// ready waits until a machine runs.
func (env *installation) ready(name string) (m *v1alpha4.MetalStackMachine) {
	env.t.Helper()
	env.eventually(func(ctx context.Context) (err error) {
		m, err = env.machines.Get(ctx, name, metav1.GetOptions{})
		if err == nil && !m.Status.Ready {
			err = fmt.Errorf("%s is not ready: %v", name, m.Status.Conditions)
		}
		return err
	})
	return m
}

// isDiscovered: the machine is shown as nobody's, in the allocation that it was
// in before.
func (env *installation) isDiscovered(m *v1alpha4.MetalStackMachine) {
	env.t.Helper()
	shown := env.get(m.Status.Metal.MachineID)
	require.False(env.t, shown.Status.Metal.Managed)
	require.Empty(env.t, shown.OwnerReferences)
	require.Nil(env.t, shown.DeletionTimestamp)
	require.Equal(env.t, m.Status.Allocation.AllocationUUID, shown.Status.Metal.AllocationUUID)
	require.Equal(env.t, m.Status.Allocation.AllocationUUID, env.allocation(m), "it is still allocated")
}

// allocation is the one that the machine is in, after the metal-api itself.
func (env *installation) allocation(m *v1alpha4.MetalStackMachine) string {
	env.t.Helper()
	found, err := env.Metal.Client.Machine().FindMachine(machine.NewFindMachineParamsWithContext(env.t.Context()).WithID(m.Status.Metal.MachineID), nil)
	require.NoError(env.t, err)
	if found.Payload.Allocation == nil {
		return ""
	}
	return *found.Payload.Allocation.Allocationuuid
}

// refused waits until the garbage collector was refused an object, as its log
// says.
func (env *installation) refused(name string) {
	env.t.Helper()
	refusal := regexp.MustCompile(regexp.QuoteMeta(name) + `\\*" (is forbidden: object )?holds metal`)
	env.eventually(func(context.Context) error {
		log, err := os.ReadFile(filepath.Join(env.Dir(), "kube-controller-manager.log"))
		if err == nil && !refusal.Match(log) {
			err = fmt.Errorf("the garbage collector was not refused %s", name)
		}
		return err
	})
}

// collects waits until the garbage collector has done what it does to an object
// of ours without an owner.
func (env *installation) collects() {
	env.t.Helper()
	_, err := env.templates.Create(env.t.Context(), objects.MachineTemplate("orphan", func(m *v1alpha4.MetalStackMachineTemplate) {
		m.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "never-was", UID: "1c2e9b1e-0000-4000-8000-000000000001"}}
	}), metav1.CreateOptions{})
	require.NoError(env.t, err)
	env.eventually(func(ctx context.Context) error {
		_, err := env.templates.Get(ctx, "orphan", metav1.GetOptions{})
		switch {
		case err == nil:
			return errors.New("the orphan is still there")
		case apierrors.IsNotFound(err):
			return nil
		}
		return err
	})
}

func (env *installation) eventually(ask func(context.Context) error, what ...any) {
	env.t.Helper()
	framework.Eventually(env.t, limit, ask, what...)
}
