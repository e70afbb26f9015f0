// SPDX-License-Identifier: Apache-2.0

// Package operations_test is the operator that docs/operations.md and docs/upgrade.md are
// written for: it runs the commands of these pages against a real installation, in their
// order, and sees that they do what the page says.
package operations_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator/simtest"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

// team is the tenant of the page.
const team = "team-a"

// patience is how long what takes some seconds may take on a busy machine.
const patience = time.Minute

// environment is an installation.
type environment struct {
	*cluster.Cluster
	plane     *controlplane.ControlPlane
	metal     *simtest.Server
	blocks    map[string]string // those that were not run yet
	variables map[string]string
	// machine is the id of the machine that is allocated.
	machine string
	// monitoring are the objects of the installation with that component.
	monitoring []*unstructured.Unstructured
}

func TestOperationsPage_CommandsWorkAsDescribed(t *testing.T) {
	t.Parallel()
	env := &environment{plane: controlplane.Start(t), metal: simtest.Start(t, simulator.Config{}), blocks: blocks(t)}
	env.variables = map[string]string{
		"METAL_API_URL": env.metal.URL, "PROJECT": simulator.ProjectA, "HMAC_FILE": filepath.Join(t.TempDir(), "hmac"),
	}
	env.key(t, env.metal.Key("Metal-Edit"))
	env.install(t)
	// One after the other, as an operator would.
	for _, step := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"bind a tenant and give access", env.handOver},
		{"give clusters access to their metal-api", env.giveMetalAPIAccess},
		{"read the metrics", env.readMetrics},
		{"the metal-api is unavailable", env.metalUnavailable},
		{"what alerts and the dashboard ask for is there", env.askedFor},
		{"rotate the HMAC key", env.rotateKey},
		{"rotate certificates", env.rotateCertificates},
		{"upgrade", env.upgrade},
		{"look for what waits", env.lookAround},
		{"keep the metal of what was deleted", env.keepMetal},
		{"uninstall", env.uninstall},
	} {
		if !t.Run(step.name, step.do) {
			return
		}
	}
	assert.Empty(t, env.blocks, "these are not run by any test: mark them, or run them")
}

func (env *environment) key(t *testing.T, key string) {
	t.Helper()
	// As an editor leaves it, with a line break.
	require.NoError(t, os.WriteFile(env.variables["HMAC_FILE"], []byte(key+"\n"), 0o600))
}

func (env *environment) install(t *testing.T) {
	env.run(t, "install")
	env.Cluster = cluster.Start(t, cluster.Options{
		ControlPlane: env.plane, Metal: env.metal,
		ControllerManager: true, ManagerFlags: []string{"--management-cluster-url=" + env.plane.Admin().Host},
	})
	stdout, stderr := env.run(t, "check")
	assert.Equal(t, 2, strings.Count(stdout, "condition met"))
	for _, kind := range []string{"MetalStackCluster", "MetalStackMachine", "MetalStackFirewall", "msm"} {
		assert.Contains(t, stdout, kind)
	}
	assert.NotContains(t, stderr, "stale")
}

func (env *environment) handOver(t *testing.T) {
	env.run(t, "bind")
	ns, err := env.Client().CoreV1().Namespaces().Get(t.Context(), team, metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, simulator.ProjectA, ns.Labels["metal-stack.infrastructure.cluster.x-k8s.io/project"])
	stdout, _ := env.run(t, "bindings")
	assert.Contains(t, stdout, simulator.ProjectA)
	env.run(t, "access")
}

func (env *environment) giveMetalAPIAccess(t *testing.T) {
	clusters := env.machines(t).InfrastructureV1alpha4().MetalStackClusters(team)
	_, err := clusters.Create(t.Context(), objects.Cluster("rose", func(c *v1alpha4.MetalStackCluster) { c.Spec.MetalAPIAccess = &v1alpha4.MetalAPIAccess{} }), metav1.CreateOptions{})
	require.NoError(t, err)
	provided := func() bool {
		c, err := clusters.Get(t.Context(), "rose", metav1.GetOptions{})
		return err == nil && meta.IsStatusConditionTrue(c.Status.Conditions, "MetalAPIAccessReady")
	}
	require.Eventually(t, provided, patience, 100*time.Millisecond)
	stdout, _ := env.run(t, "metalapi-access")
	assert.Regexp(t, `team-a +rose +Provided `, stdout)
	stdout, _ = env.run(t, "firewall-controllers")
	assert.Regexp(t, `team-a +rose +<none> `, stdout)
	env.run(t, "rotate-metalapi-token")
	// It need not be waited for if something has changed.
	_, err = clusters.Patch(t.Context(), "rose", types.MergePatchType, []byte(`{"spec":{"metalAPIAccess":{"additionalNetworkIDs":["tiny-`+simulator.DefaultPartition+`"]}}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	secrets := env.Client().CoreV1().Secrets(team)
	require.Eventually(t, func() bool {
		_, err := secrets.Get(t.Context(), "rose-metalapi-token", metav1.GetOptions{})
		return err == nil && provided()
	}, patience, 100*time.Millisecond)
	require.NoError(t, clusters.Delete(t.Context(), "rose", metav1.DeleteOptions{}))
	require.Eventually(t, func() bool {
		_, err := clusters.Get(t.Context(), "rose", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	}, patience, 100*time.Millisecond)
	_, err = secrets.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "rose-metal-ccm"}}, metav1.CreateOptions{})
	require.NoError(t, err, "none is left")
	env.run(t, "delete-left-access")
}

func (env *environment) machines(t *testing.T) versioned.Interface {
	return env.Metalstack(t, env.Admin())
}

// confirmed is whether a read comes without a warning.
func (env *environment) confirmed(t *testing.T) bool {
	t.Helper()
	config, warned := env.Admin(), &warnings{}
	config.WarningHandlerWithContext = warned
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := env.Metalstack(t, config).InfrastructureV1alpha4().MetalStackMachines(team).List(ctx, metav1.ListOptions{})
	return err == nil && !warned.any
}

type warnings struct{ any bool }

func (w *warnings) HandleWarningHeaderWithContext(context.Context, int, string, string) { w.any = true }

var _ rest.WarningHandlerWithContext = &warnings{}

func (env *environment) metalUnavailable(t *testing.T) {
	resume := env.metal.Sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultRefused})
	defer resume()
	stdout, stderr := env.run(t, "metal-api-unavailable")
	assert.Contains(t, stdout, "node-1", "the last known state")
	assert.Contains(t, stderr, "stale: last observed at")
	resume()
	require.Eventually(t, func() bool { return env.confirmed(t) }, patience, 50*time.Millisecond)
}

func (env *environment) rotateKey(t *testing.T) {
	server, next := env.Servers[0], "a-key-that-nobody-may-see"
	before := server.Log(t)
	env.metal.Sim.ChangeKeys(simulator.HMACKeys{Edit: next})
	require.Eventually(t, func() bool { return !env.confirmed(t) }, patience, 50*time.Millisecond, "the old key is refused")
	list, err := env.machines(t).InfrastructureV1alpha4().MetalStackMachines(team).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	assert.NotEmpty(t, list.Items, "reads go on")

	env.key(t, next)
	env.run(t, "rotate-hmac")
	// As the kubelet does with a Secret that is mounted.
	secret, err := env.Client().CoreV1().Secrets(cluster.Namespace).Get(t.Context(), "metal-api", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, env.metal.URL, string(secret.Data["url"]))
	path := filepath.Join(server.Mounts, "hmac")
	require.NoError(t, os.WriteFile(path+".new", secret.Data["hmac"], 0o600))
	require.NoError(t, os.Rename(path+".new", path))
	require.Eventually(t, func() bool { return env.confirmed(t) }, patience, 50*time.Millisecond, "the new key is used")
	select {
	case <-server.Ended():
		t.Error("the server was not to be restarted")
	default:
	}
	log := strings.TrimPrefix(server.Log(t), before)
	assert.Contains(t, log, "Reloaded the HMAC key for the metal-api")
	assert.NotContains(t, log, next)
}

func (env *environment) rotateCertificates(t *testing.T) {
	server := env.Servers[0]
	data := func() map[string][]byte {
		secret, err := env.Client().CoreV1().Secrets(cluster.Namespace).Get(t.Context(), "metalstack-apiserver-serving", metav1.GetOptions{})
		require.NoError(t, err)
		return secret.Data
	}
	renewed := func(changes []string, blocks ...string) {
		before := data()
		for _, block := range blocks {
			env.run(t, block)
		}
		require.Eventually(t, func() bool {
			now := data()
			for _, key := range changes {
				if len(now[key]) == 0 || bytes.Equal(now[key], before[key]) {
					return false
				}
			}
			return true
		}, patience, 100*time.Millisecond, "%v", blocks)
		require.Eventually(t, func() bool {
			return bytes.Equal(shown(t, server), data()["tls.crt"])
		}, patience, 100*time.Millisecond, "what is shown is what is kept")
		require.Eventually(t, func() bool { return env.confirmed(t) }, patience, 100*time.Millisecond, "the kube-apiserver verifies it")
		env.AwaitAvailable(t) // of all versions
	}
	old := data()
	renewed([]string{"tls.crt", "ca.crt", "ca.key"}, "rotate-certificate", "rotate-authority")
	assert.True(t, bytes.HasSuffix(data()["ca.crt"], old["ca.crt"]), "the old authority is still trusted")
	renewed([]string{"tls.crt", "ca.crt", "ca.key"}, "replace-everything")
	assert.NotContains(t, string(data()["ca.crt"]), string(old["ca.crt"]), "the old authority is not trusted any more")
	stdout, _ := env.run(t, "certificate-expiry")
	assert.Equal(t, string(data()["tls.crt"]), strings.TrimSpace(stdout)+"\n")
}

func (env *environment) upgrade(t *testing.T) {
	_, err := env.Client().AppsV1().Deployments(cluster.Namespace).Get(t.Context(), cluster.APIServer, metav1.GetOptions{})
	require.NoError(t, err)
	stdout, _ := env.run(t, "upgrade-healthy")
	assert.Equal(t, 2, strings.Count(stdout, "True"), stdout)
	stdout, _ = env.run(t, "diff")
	assert.Empty(t, stdout, "nothing is different yet")
	stdout, _ = env.run(t, "upgrade")
	assert.NotContains(t, stdout, "created")
	stdout, stderr := env.run(t, "upgrade-done")
	assert.Equal(t, 2, strings.Count(stdout, "condition met"), stdout)
	assert.Contains(t, stdout, "node-1")
	assert.NotContains(t, stderr, "stale")
}

func (env *environment) lookAround(t *testing.T) {
	stdout, _ := env.run(t, "conditions")
	assert.Contains(t, stdout, "MetalStackMachine")
	assert.Contains(t, stdout, "node-1")
	stdout, _ = env.run(t, "restored-namespace")
	assert.Contains(t, stdout, "node-1")
	stdout, _ = env.run(t, "matches-spec")
	assert.Contains(t, stdout, "node-1")
	stdout, _ = env.run(t, "newer-image")
	assert.Contains(t, stdout, "node-1")
	stdout, _ = env.run(t, "metal-issues")
	assert.Contains(t, stdout, "node-1")
	env.run(t, "leases")
	stdout, _ = env.run(t, "admission-policies")
	assert.Equal(t, 10, strings.Count(stdout, "/metalstack-"), "five policies and their bindings")
	stdout, _ = env.run(t, "owners")
	assert.Contains(t, stdout, "node-1")
	stdout, _ = env.run(t, "bootstrap-data")
	assert.Contains(t, stdout, team+" ", "the RoleBinding of the bound namespace")
	stdout, _ = env.run(t, "metalapi-access-not-granted")
	assert.Contains(t, stdout, team+" ", "the policy is enforced")
	stdout, _ = env.run(t, "server-unavailable")
	assert.Contains(t, stdout, "v1alpha4.infrastructure.cluster.x-k8s.io")
}

// keepMetal has a deletion held, which cannot be taken back, and keeps the metal.
func (env *environment) keepMetal(t *testing.T) {
	machines := env.machines(t).InfrastructureV1alpha4().MetalStackMachines(team)
	patch := func(body string) {
		t.Helper()
		_, err := machines.Patch(t.Context(), "node-1", types.MergePatchType, []byte(body), metav1.PatchOptions{})
		require.NoError(t, err)
	}
	before, err := machines.Get(t.Context(), "node-1", metav1.GetOptions{})
	require.NoError(t, err)
	patch(`{"metadata":{"annotations":{"cluster.x-k8s.io/paused":""}}}`)
	require.NoError(t, machines.Delete(t.Context(), "node-1", metav1.DeleteOptions{}))
	marked, err := machines.Get(t.Context(), "node-1", metav1.GetOptions{})
	require.NoError(t, err)
	require.NotNil(t, marked.DeletionTimestamp)
	require.Equal(t, v1alpha4.DeletionByUser, marked.Status.Deletion.RequestedBy)

	env.run(t, "keep-metal")
	patch(`{"metadata":{"annotations":{"cluster.x-k8s.io/paused":null}}}`)
	require.Eventually(t, func() bool {
		after, err := machines.Get(t.Context(), "node-1", metav1.GetOptions{})
		return err == nil && after.Status.Allocation != nil && after.Status.Allocation.Phase == v1alpha4.AllocationAllocated &&
			after.Status.Allocation.AllocationUUID == before.Status.Allocation.AllocationUUID &&
			after.UID != before.UID && after.DeletionTimestamp == nil && after.Status.Deletion == nil
	}, patience, 100*time.Millisecond)
	_, err = machines.Get(t.Context(), before.Status.Allocation.MachineID, metav1.GetOptions{})
	assert.True(t, apierrors.IsNotFound(err), "it is shown once: %v", err)
}

func (env *environment) uninstall(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	env.run(t, "uninstall-stop")
	for _, program := range append(env.Servers, env.ControllerManager) {
		// As the Deployment's controller and the kubelet do.
		program.Stop(t)
		program.Pod.Delete(t)
	}
	namespaces := env.Client().CoreV1().Namespaces()
	require.NoError(t, namespaces.Delete(ctx, team, metav1.DeleteOptions{}))
	env.run(t, "uninstall")
	for _, name := range []string{cluster.Namespace, team} {
		require.Eventually(t, func() bool {
			_, err := namespaces.Get(ctx, name, metav1.GetOptions{})
			return apierrors.IsNotFound(err)
		}, patience, 100*time.Millisecond, "no deletion of a namespace waits any more: %s", name)
	}
	err := env.Client().Discovery().RESTClient().Get().AbsPath("/apis/" + v1alpha4.SchemeGroupVersion.String()).Do(ctx).Error()
	assert.True(t, apierrors.IsNotFound(err), "%v", err)
	stdout, stderr, err := env.plane.Kubectl(t, env.plane.Admin(), "get", "customresourcedefinition",
		"-o", `jsonpath={range .items[*]}{.metadata.name} {.metadata.deletionTimestamp}.{"\n"}{end}`)
	require.NoError(t, err, stderr)
	assert.NotContains(t, stdout, v1alpha4.GroupName+" .", "each definition is gone, or going")
	kept := slices.ContainsFunc(env.metal.Sim.Inventory().Machines, func(m simulator.MachineState) bool {
		return m.ID == env.machine && m.Allocated
	})
	assert.True(t, kept, "nobody gave the metal back")
}
