// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework"
)

// TestClusterAPI shares one management cluster, which clusterctl installed.
func TestClusterAPI(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, Options{})
	t.Run("Clusterctl_InstallsEverything", func(t *testing.T) { clusterctlInstallsEverything(t, env) })
	t.Run("parallel", func(t *testing.T) {
		// Those that take longest come first.
		for _, test := range []struct {
			name string
			run  func(*testing.T, *environment, string, ProjectMetal)
		}{
			{"Firewall_ChangesWhileItRuns", firewallChangesWhileItRuns},
			{"HungWorkers_AreRebooted", hungWorkersAreRebooted},
			{"Move_ThereAndBack", moveThereAndBack},
			{"Cluster_CreateScaleRollDelete", clusterCreateScaleRollDelete},
			{"DeadWorkers_AreReplaced", deadWorkersAreReplaced},
			{"Backup_RestoresNamespaces", backupRestoresNamespaces},
			{"Services_HaveAddressesOfTheirCluster", servicesHaveAddressesOfTheirCluster},
			{"ClusterClass_CreatesAndChangesClusters", clusterClassCreatesAndChangesClusters},
			{"Owners_GetNewUIDs", ownersGetNewUIDs},
			{"HostedControlPlane_BringsTheEndpoint", hostedControlPlaneBringsTheEndpoint},
			{"Provisioning_ResumesAfterMetalAPIOutage", provisioningResumesAfterMetalAPIOutage},
		} {
			namespace, projectMetal := env.team(t)
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				test.run(t, env, namespace, projectMetal)
			})
		}
	})
	// The provider is deleted when nobody else needs it.
	t.Run("Clusterctl_UpgradesAndDeletesTheProvider", func(t *testing.T) {
		namespace, _ := env.team(t)
		clusterctlUpgradesAndDeletesTheProvider(t, env, namespace)
	})
}

// clusterCreateScaleRollDelete has a name with a dot, which Cluster API accepts
// and the names of hosts, services and labels do not all allow.
func clusterCreateScaleRollDelete(t *testing.T, env *environment, namespace string, projectMetal ProjectMetal) {
	const name = "web.prod"
	before, start := projectMetal.Inventory(), projectMetal.Mark()
	c := env.Order(t, Order{Namespace: namespace, Name: name, ControlPlane: 3, Workers: 3})
	c.AwaitMachines(t, slow, 3, 3)
	assert.Equal(t, Account{Allocated: 6, Most: 6}, projectMetal.Since(start, "machine"), "three of each, each once")
	assert.Equal(t, Account{Allocated: 1, Most: 1}, projectMetal.Since(start, "firewall"))
	hardwareIsDescribed(t, c)
	// A Service has an address until the cluster is gone.
	c.AwaitNodeLabels(t, slow)
	workload := c.Workload(t)
	workload.CreateService(t, "web", "")
	address := workload.AwaitServiceAddress(t, slow, "web")
	assert.Contains(t, projectMetal.Inventory(), "ip "+address+" ")
	description := env.Clusterctl(t, "describe", "cluster", name, "-n", namespace, "--echo", "--grouping=false")
	assert.Contains(t, description, "MetalStackCluster "+namespace+"/"+name)
	assert.Contains(t, description, "MetalStackMachine "+namespace+"/"+name+"-md-0-")

	scaled := projectMetal.Mark()
	c.Scale(t, 10)
	c.AwaitMachines(t, slow, 3, 10)
	c.Scale(t, 2)
	c.AwaitMachines(t, slow, 3, 2)
	framework.Eventually(t, slow, func(context.Context) error {
		if want, got := (Account{Allocated: 7, Freed: 8, Most: 13}), projectMetal.Since(scaled, "machine"); got != want {
			return fmt.Errorf("3 to 10 to 2: want %+v, got %+v", want, got)
		}
		return nil
	})

	rolled := projectMetal.Mark()
	roll(t, c, "ubuntu-22.04")
	framework.Eventually(t, slow, func(ctx context.Context) error {
		workers, err := c.Machines(ctx, false)
		if err != nil {
			return err
		}
		for i := range workers {
			hardware := &v1alpha4.MetalStackMachine{}
			if err := c.Client.Get(ctx, types.NamespacedName{Namespace: namespace, Name: workers[i].Spec.InfrastructureRef.Name}, hardware); err != nil {
				return err
			}
			if hardware.Status.Metal == nil || !strings.HasPrefix(hardware.Status.Metal.Image, "ubuntu-22.04") {
				return fmt.Errorf("%s has another image", hardware.Name)
			}
		}
		// One at a time: maxSurge is 1.
		if want, got := (Account{Allocated: 2, Freed: 2, Most: 6}), projectMetal.Since(rolled, "machine"); got != want {
			return fmt.Errorf("rolled: want %+v, got %+v", want, got)
		}
		return nil
	})
	c.AwaitMachines(t, slow, 3, 2)

	c.Delete(t, slow)
	awaitProjectMetal(t, projectMetal, before)
	total := projectMetal.Since(start, "machine")
	assert.Equal(t, total.Allocated, total.Freed)
}

// hardwareIsDescribed compares what Cluster API took over with the metal-api.
func hardwareIsDescribed(t *testing.T, c *Tenant) {
	t.Helper()
	cluster, err := c.Cluster(t.Context())
	require.NoError(t, err)
	assert.NotEmpty(t, cluster.Spec.ControlPlaneEndpoint.Host)
	for _, controlPlane := range []bool{true, false} {
		machines, err := c.Machines(t.Context(), controlPlane)
		require.NoError(t, err)
		for i := range machines {
			hardware := c.hardwareOf(t.Context(), t, &machines[i])
			require.NotNil(t, hardware.Status.Metal)
			assert.Equal(t, "metal://"+Partition+"/"+hardware.Status.Metal.MachineID, machines[i].Spec.ProviderID)
			assert.NotEmpty(t, machines[i].Status.NodeRef.Name)
			assert.NotEmpty(t, machines[i].Status.Addresses)
			assert.Equal(t, Partition, machines[i].Status.FailureDomain)
		}
	}
}

// roll has the workers made from another template, with another image.
func roll(t *testing.T, c *Tenant, image string) {
	t.Helper()
	template := &v1alpha4.MetalStackMachineTemplate{ObjectMeta: metav1.ObjectMeta{Namespace: c.Key.Namespace, Name: c.Key.Name + "-" + strings.ReplaceAll(image, ".", "-")}}
	template.Spec.Template.Spec = v1alpha4.MetalStackMachineSpec{Image: image, MachineType: simulator.SmallSize}
	require.NoError(t, c.Client.Create(t.Context(), template))
	md := &clusterv1.MachineDeployment{ObjectMeta: metav1.ObjectMeta{Namespace: c.Key.Namespace, Name: c.Key.Name + "-md-0"}}
	require.NoError(t, c.Client.Patch(t.Context(), md, client.RawPatch(types.MergePatchType,
		fmt.Appendf(nil, `{"spec":{"template":{"spec":{"infrastructureRef":{"name":%q}}}}}`, template.Name))))
}
