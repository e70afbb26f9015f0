// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/test/e2e/capi/firewallcontroller"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

func moveThereAndBack(t *testing.T, env *environment, namespace string, projectMetal ProjectMetal) {
	before := projectMetal.Inventory()
	c := env.Order(t, Order{Namespace: namespace, Name: "fern", ControlPlane: 1, Workers: 2})
	c.AwaitMachines(t, slow, 1, 2)
	firewall := c.AwaitFirewall(t, slow)
	held, mark := projectMetal.Machines(), projectMetal.Mark()

	// Its controller manager has the flags of its Deployment.
	other := Start(t, Options{Site: env.Site, Repository: env.Repository})
	other.Bind(t, namespace, projectMetal.project)
	there := other.Tenant(t, namespace, "fern")
	move(t, env.Management, other, namespace)
	statusIsComplete(t, there)
	nothingIsLeft(t, c)
	template := client.ObjectKey{Namespace: namespace, Name: "fern-md-0"}
	require.NoError(t, there.Client.Get(t.Context(), template, &v1alpha4.MetalStackRemediationTemplate{}))
	require.True(t, apierrors.IsNotFound(c.Client.Get(t.Context(), template, &v1alpha4.MetalStackRemediationTemplate{})))
	there.AwaitMachines(t, slow, 1, 2)
	assert.Equal(t, held, projectMetal.Machines(), "moved, and not one machine touched")
	// metal-ccm speaks to the management cluster, which is another one now.
	there.RestartMetalCCM(t, slow)
	firewallKeepsItsRules(t, there, firewall)
	there.replaceFirewalls(t)
	firewall = there.AwaitOtherFirewall(t, slow, firewall)

	// It goes on working there.
	there.Scale(t, 3)
	there.AwaitMachines(t, slow, 1, 3)
	there.Scale(t, 2)
	there.AwaitMachines(t, slow, 1, 2)
	held = projectMetal.Machines()
	account := projectMetal.Since(mark, "machine")
	assert.Equal(t, [2]int{1, 1}, [2]int{account.Allocated, account.Freed})

	move(t, other, env.Management, namespace)
	statusIsComplete(t, c)
	nothingIsLeft(t, there)
	c.AwaitMachines(t, slow, 1, 2)
	assert.Equal(t, held, projectMetal.Machines(), "and back")
	firewallKeepsItsRules(t, c, firewall)
	c.RestartMetalCCM(t, slow)
	c.AwaitNodeLabels(t, slow)
	c.Workload(t).CreateService(t, "web", "")
	c.Workload(t).AwaitServiceAddress(t, slow, "web")
	awaitNoManagementObjects(t, there, "fern")
	require.NotEmpty(t, managementObjects(t, c, "fern"))
	c.Delete(t, slow)
	awaitProjectMetal(t, projectMetal, before)
	awaitNoManagementObjects(t, c, "fern")
}

// move has clusterctl move all clusters of a namespace.
func move(t *testing.T, from, to *Management, namespace string) {
	t.Helper()
	from.Clusterctl(t, "move", "--namespace", namespace, "--to-kubeconfig", to.plane.Kubeconfig(to.plane.Admin()))
}

// statusIsComplete: what the metal-api knows is there without anybody having
// written it, as soon as the controller manager has taken the machines over.
func statusIsComplete(t *testing.T, c *Tenant) {
	t.Helper()
	start := time.Now()
	defer func() { t.Logf("complete after %s", time.Since(start).Round(100*time.Millisecond)) }()
	framework.Eventually(t, slow, func(ctx context.Context) error {
		hardware, err := c.Hardware(ctx)
		if err == nil && len(hardware) == 0 {
			err = errors.New("there are no machines")
		}
		for _, h := range hardware {
			if m := h.Status.Metal; m == nil || !m.Managed || m.MachineID == "" || !h.Status.Ready {
				return fmt.Errorf("%s: ready: %v, metal: %+v", h.Name, h.Status.Ready, m)
			}
		}
		return err
	})
}

// nothingIsLeft: the source has forgotten, and shows the metal, which is
// there all the same, as discovered.
func nothingIsLeft(t *testing.T, c *Tenant) {
	t.Helper()
	_, err := c.Cluster(t.Context())
	assert.True(t, apierrors.IsNotFound(err), "%v", err)
	framework.Eventually(t, slow, func(ctx context.Context) error {
		hardware, err := c.Hardware(ctx)
		if err != nil {
			return err
		}
		for _, h := range hardware {
			if h.Status.Metal == nil || h.Status.Metal.Managed {
				return fmt.Errorf("%s is still there", h.Name)
			}
		}
		return nil
	})
}

// clusterctlInstallsEverything: clusterctl's inventory has Cluster API's providers,
// and ours in the version that was asked for.
func clusterctlInstallsEverything(t *testing.T, env *environment) {
	inventory, stderr, err := env.Kubectl(t, env.Admin(), "get", "providers.clusterctl.cluster.x-k8s.io", "-A",
		"-o", `jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name} {.version}{"\n"}{end}`)
	require.NoError(t, err, stderr)
	for _, p := range providers {
		assert.Contains(t, inventory, p.namespace+"/"+p.label+" v")
	}
	assert.Contains(t, inventory, cluster.Namespace+"/infrastructure-metal-stack "+Version+"\n")
}

func clusterctlUpgradesAndDeletesTheProvider(t *testing.T, env *environment, namespace string) {
	c := env.Tenant(t, namespace, "none")
	template := &v1alpha4.MetalStackMachineTemplate{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "kept"}}
	template.Spec.Template.Spec = v1alpha4.MetalStackMachineSpec{Image: Variables["WORKER_MACHINE_IMAGE"], MachineType: Variables["WORKER_MACHINE_SIZE"]}
	require.NoError(t, c.Client.Create(t.Context(), template))

	assert.Contains(t, env.Clusterctl(t, "upgrade", "plan"), Next)
	env.Clusterctl(t, "upgrade", "apply", "--infrastructure", "metal-stack-system/metal-stack:"+Next)
	images, stderr, err := env.Kubectl(t, env.Admin(), "get", "deployment", "-n", cluster.Namespace, "-o", "jsonpath={.items[*].spec.template.spec.containers[*].image}")
	require.NoError(t, err, stderr)
	assert.Contains(t, images, "metalstack-apiserver:"+Next)
	assert.Contains(t, images, "metalstack-controller-manager:"+Next)
	// The old Pods go, and new ones come.
	env.Servers[0].Kill()
	env.ControllerManager.Kill()
	env.Servers[0], env.ControllerManager = env.StartServer(t), env.StartControllerManager(t)
	env.Servers[0].AwaitReady(t)
	env.ControllerManager.AwaitReady(t)
	framework.Eventually(t, slow, func(ctx context.Context) error {
		after := &v1alpha4.MetalStackMachineTemplate{}
		if err := c.Client.Get(ctx, client.ObjectKeyFromObject(template), after); err != nil {
			return err
		}
		assert.Equal(t, template.UID, after.UID)
		return nil
	})
	require.NoError(t, c.Client.Delete(t.Context(), template))

	// clusterctl gives up if the kube-apiserver's discovery of our versions is stale,
	// as it is for up to a minute after the server was unavailable.
	framework.Eventually(t, slow, func(context.Context) error {
		if _, stderr, err := env.Kubectl(t, env.Admin(), "api-resources"); err != nil {
			return fmt.Errorf("%w: %s", err, stderr)
		}
		return nil
	})
	env.Clusterctl(t, "delete", "--infrastructure", "metal-stack")
	_, stderr, err = env.Kubectl(t, env.Admin(), "get", "deployment", "-n", cluster.Namespace, cluster.APIServer)
	require.Error(t, err)
	assert.Contains(t, stderr, "not found")
	_, stderr, err = env.Kubectl(t, env.Admin(), "get", "crd", "metalstackclusters.infrastructure.cluster.x-k8s.io")
	require.NoError(t, err, "clusterctl leaves definitions alone: %s", stderr)
	// As artifacts/clusterctl/README.md says: the server registered itself.
	for _, version := range append(slices.Clone(cluster.Versions), firewallcontroller.Firewalls.GroupVersion()) {
		_, stderr, err = env.Kubectl(t, env.Admin(), "delete", "apiservice", version.Version+"."+version.Group)
		require.NoError(t, err, stderr)
	}
}
