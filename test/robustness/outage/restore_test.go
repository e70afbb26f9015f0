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

// installation is a cluster with a companion, and one team. Its etcd is restored
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
	w := startInstallation(t)
	ctx := t.Context()
	maps := w.Client().CoreV1().ConfigMaps(w.team.Namespace)
	w.newCluster("orchid")
	before := w.ready(w.newMachine("before", "orchid", w.newOwner("owner-before")))
	backup := w.SnapshotEtcd(t)

	// These are allocated after the backup was made: one in a cluster that the
	// backup knows, one in a cluster that it does not.
	w.newCluster("lotus")
	after := w.ready(w.newMachine("after", "orchid", w.newOwner("owner-after")))
	unknown := w.ready(w.newMachine("unknown", "lotus", w.newOwner("owner-unknown")))

	w.Companion.Stop(t)
	w.Servers[0].Stop(t)
	w.RestoreEtcd(t, backup)
	w.Servers[0].Start(t)
	w.Companion.Start(t)
	w.Servers[0].AwaitReady(t)
	w.AwaitAvailable(t)
	w.Companion.AwaitReady(t)

	known := w.get("before")
	require.Equal(t, before.UID, known.UID)
	require.Equal(t, before.Status.Allocation, known.Status.Allocation)
	require.True(t, known.Status.Metal.Managed)
	for _, m := range []*v1alpha4.MetalStackMachine{after, unknown} {
		_, err := w.machines.Get(ctx, m.Name, metav1.GetOptions{})
		require.True(t, apierrors.IsNotFound(err), "%v", err)
		w.isDiscovered(m)
	}

	// An owner that vanishes does not take along what holds metal.
	w.collects()
	require.NoError(t, maps.Delete(ctx, "owner-before", metav1.DeleteOptions{}))
	w.collects()
	w.refused("before")
	known = w.get("before")
	require.Nil(t, known.DeletionTimestamp)
	require.Equal(t, before.Status.Allocation.AllocationUUID, w.allocation(before))
	require.NoError(t, w.machines.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
	w.collects()
	for _, m := range []*v1alpha4.MetalStackMachine{after, unknown} {
		err := w.machines.Delete(ctx, m.Status.Metal.MachineID, metav1.DeleteOptions{})
		require.True(t, apierrors.IsForbidden(err), "%v", err)
		w.isDiscovered(m)
	}

	// Whoever names one has it back, and can then give it back.
	again := objects.Machine("after", objects.InDefaultPartition, objects.OfCluster("orchid"))
	again.Spec.ProviderID = after.Spec.ProviderID
	_, err := w.machines.Create(ctx, again, metav1.CreateOptions{})
	require.NoError(t, err)
	adopted := w.ready("after")
	require.Equal(t, after.Status.Allocation.AllocationUUID, adopted.Status.Allocation.AllocationUUID, "it is the same allocation")
	_, err = w.machines.Get(ctx, after.Status.Metal.MachineID, metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "it is shown once: %v", err)
	require.NoError(t, w.machines.Delete(ctx, "after", metav1.DeleteOptions{}))
	w.eventually(func(ctx context.Context) error {
		if w.allocation(after) != "" {
			return errors.New("it is still allocated")
		}
		return nil
	})
	w.isDiscovered(unknown)
}

func startInstallation(t *testing.T) *installation {
	t.Helper()
	opts := cluster.Options{Companion: true, Simulator: simulator.Config{DataCentre: simulator.DefaultDataCentre(16), Speed: 120}}
	team := opts.AddTeams(1)[0]
	c := cluster.Start(t, opts)
	c.Bind(t, team.Namespace, team.Project)
	ours := c.Metalstack(t, c.Admin()).InfrastructureV1alpha4()
	return &installation{
		Cluster: c, t: t, team: team, clusters: ours.MetalStackClusters(team.Namespace),
		machines: ours.MetalStackMachines(team.Namespace), templates: ours.MetalStackMachineTemplates(team.Namespace),
	}
}

func (w *installation) newOwner(name string) *corev1.ConfigMap {
	w.t.Helper()
	owner, err := w.Client().CoreV1().ConfigMaps(w.team.Namespace).Create(w.t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	require.NoError(w.t, err)
	return owner
}

func (w *installation) newCluster(name string) {
	w.t.Helper()
	_, err := w.clusters.Create(w.t.Context(), objects.Cluster(name, func(c *v1alpha4.MetalStackCluster) {
		c.Labels = map[string]string{infrastructure.ClusterNameLabel: name}
	}), metav1.CreateOptions{})
	require.NoError(w.t, err)
}

func (w *installation) newMachine(name, ofCluster string, owner *corev1.ConfigMap) string {
	w.t.Helper()
	m := objects.Machine(name, objects.InDefaultPartition, objects.OfCluster(ofCluster))
	m.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID}}
	_, err := w.machines.Create(w.t.Context(), m, metav1.CreateOptions{})
	require.NoError(w.t, err)
	return name
}

func (w *installation) get(name string) *v1alpha4.MetalStackMachine {
	w.t.Helper()
	m, err := w.machines.Get(w.t.Context(), name, metav1.GetOptions{})
	require.NoError(w.t, err)
	return m
}

// ready waits until a machine runs.
func (w *installation) ready(name string) (m *v1alpha4.MetalStackMachine) {
	w.t.Helper()
	w.eventually(func(ctx context.Context) (err error) {
		m, err = w.machines.Get(ctx, name, metav1.GetOptions{})
		if err == nil && !m.Status.Ready {
			err = fmt.Errorf("%s is not ready: %v", name, m.Status.Conditions)
		}
		return err
	})
	return m
}

// isDiscovered: the machine is shown as nobody's, in the allocation that it was
// in before.
func (w *installation) isDiscovered(m *v1alpha4.MetalStackMachine) {
	w.t.Helper()
	shown := w.get(m.Status.Metal.MachineID)
	require.False(w.t, shown.Status.Metal.Managed)
	require.Empty(w.t, shown.OwnerReferences)
	require.Nil(w.t, shown.DeletionTimestamp)
	require.Equal(w.t, m.Status.Allocation.AllocationUUID, shown.Status.Metal.AllocationUUID)
	require.Equal(w.t, m.Status.Allocation.AllocationUUID, w.allocation(m), "it is still allocated")
}

// allocation is the one that the machine is in, after the metal-api itself.
func (w *installation) allocation(m *v1alpha4.MetalStackMachine) string {
	w.t.Helper()
	found, err := w.Metal.Client.Machine().FindMachine(machine.NewFindMachineParamsWithContext(w.t.Context()).WithID(m.Status.Metal.MachineID), nil)
	require.NoError(w.t, err)
	if found.Payload.Allocation == nil {
		return ""
	}
	return *found.Payload.Allocation.Allocationuuid
}

// refused waits until the garbage collector was refused an object, as its log
// says.
func (w *installation) refused(name string) {
	w.t.Helper()
	refusal := regexp.MustCompile(regexp.QuoteMeta(name) + `\\*" (is forbidden: it )?holds metal`)
	w.eventually(func(context.Context) error {
		log, err := os.ReadFile(filepath.Join(w.Dir(), "kube-controller-manager.log"))
		if err == nil && !refusal.Match(log) {
			err = fmt.Errorf("the garbage collector was not refused %s", name)
		}
		return err
	})
}

// collects waits until the garbage collector has done what it does to an object
// of ours without an owner.
func (w *installation) collects() {
	w.t.Helper()
	_, err := w.templates.Create(w.t.Context(), objects.MachineTemplate("orphan", func(m *v1alpha4.MetalStackMachineTemplate) {
		m.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "never-was", UID: "1c2e9b1e-0000-4000-8000-000000000001"}}
	}), metav1.CreateOptions{})
	require.NoError(w.t, err)
	w.eventually(func(ctx context.Context) error {
		_, err := w.templates.Get(ctx, "orphan", metav1.GetOptions{})
		switch {
		case err == nil:
			return errors.New("the orphan is still there")
		case apierrors.IsNotFound(err):
			return nil
		}
		return err
	})
}

func (w *installation) eventually(ask func(context.Context) error, what ...any) {
	w.t.Helper()
	framework.Eventually(w.t, limit, ask, what...)
}
