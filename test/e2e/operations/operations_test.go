// Package operations_test is the operator that docs/operations.md is written
// for: it runs the commands of that page against a real installation, in their
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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
)

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

// team is the tenant of the page.
const team = "team-a"

// patience is how long what takes some seconds may take on a busy machine.
const patience = time.Minute

// world is an installation.
type world struct {
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

func TestPage_CommandsDoWhatItSays(t *testing.T) {
	t.Parallel()
	w := &world{plane: controlplane.Start(t), metal: simtest.Start(t, simulator.Config{}), blocks: blocks(t)}
	w.variables = map[string]string{
		"METAL_API_URL": w.metal.URL, "PROJECT": simulator.ProjectA, "HMAC_FILE": filepath.Join(t.TempDir(), "hmac"),
	}
	w.key(t, w.metal.Key("Metal-Edit"))
	w.install(t)
	// One after the other, as an operator would.
	for _, step := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"bind a tenant and give access", w.handOver},
		{"read the metrics", w.readMetrics},
		{"the metal-api is away", w.metalAway},
		{"what alerts and the dashboard ask for is there", w.askedFor},
		{"rotate the HMAC key", w.rotateKey},
		{"rotate certificates", w.rotateCertificates},
		{"upgrade", w.upgrade},
		{"look for what waits", w.lookAround},
		{"keep the metal of what was deleted", w.keepMetal},
		{"uninstall", w.uninstall},
	} {
		if !t.Run(step.name, step.do) {
			return
		}
	}
	assert.Empty(t, w.blocks, "these are not run by any test: mark them, or run them")
}

func (w *world) key(t *testing.T, key string) {
	t.Helper()
	// As an editor leaves it, with a line break.
	require.NoError(t, os.WriteFile(w.variables["HMAC_FILE"], []byte(key+"\n"), 0o600))
}

func (w *world) install(t *testing.T) {
	w.run(t, "install")
	w.Cluster = cluster.Start(t, cluster.Options{ControlPlane: w.plane, Metal: w.metal, Companion: true})
	stdout, stderr := w.run(t, "check")
	assert.Equal(t, 2, strings.Count(stdout, "condition met"))
	for _, kind := range []string{"MetalStackCluster", "MetalStackMachine", "MetalStackFirewall", "msm"} {
		assert.Contains(t, stdout, kind)
	}
	assert.NotContains(t, stderr, "stale")
}

func (w *world) handOver(t *testing.T) {
	w.run(t, "bind")
	ns, err := w.Client().CoreV1().Namespaces().Get(t.Context(), team, metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, simulator.ProjectA, ns.Labels["metal-stack.infrastructure.cluster.x-k8s.io/project"])
	stdout, _ := w.run(t, "bindings")
	assert.Contains(t, stdout, simulator.ProjectA)
	w.run(t, "access")
}

func (w *world) machines(t *testing.T) versioned.Interface { return w.Metalstack(t, w.Admin()) }

// confirmed is whether a read comes without a warning.
func (w *world) confirmed(t *testing.T) bool {
	t.Helper()
	config, warned := w.Admin(), &warnings{}
	config.WarningHandlerWithContext = warned
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := w.Metalstack(t, config).InfrastructureV1alpha4().MetalStackMachines(team).List(ctx, metav1.ListOptions{})
	return err == nil && !warned.any
}

type warnings struct{ any bool }

func (w *warnings) HandleWarningHeaderWithContext(context.Context, int, string, string) { w.any = true }

var _ rest.WarningHandlerWithContext = &warnings{}

func (w *world) metalAway(t *testing.T) {
	resume := w.metal.Sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultRefused})
	defer resume()
	stdout, stderr := w.run(t, "metal-api-away")
	assert.Contains(t, stdout, "node-1", "the last known state")
	assert.Contains(t, stderr, "stale: last observed at")
	resume()
	require.Eventually(t, func() bool { return w.confirmed(t) }, patience, 50*time.Millisecond)
}

func (w *world) rotateKey(t *testing.T) {
	server, next := w.Servers[0], "a-key-that-nobody-may-see"
	before := server.Log(t)
	w.metal.Sim.ChangeKeys(simulator.HMACKeys{Edit: next})
	require.Eventually(t, func() bool { return !w.confirmed(t) }, patience, 50*time.Millisecond, "the old key is refused")
	list, err := w.machines(t).InfrastructureV1alpha4().MetalStackMachines(team).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	assert.NotEmpty(t, list.Items, "reads go on")

	w.key(t, next)
	w.run(t, "rotate-hmac")
	// As the kubelet does with a Secret that is mounted.
	secret, err := w.Client().CoreV1().Secrets(cluster.Namespace).Get(t.Context(), "metal-api", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, w.metal.URL, string(secret.Data["url"]))
	path := filepath.Join(server.Mounts, "hmac")
	require.NoError(t, os.WriteFile(path+".new", secret.Data["hmac"], 0o600))
	require.NoError(t, os.Rename(path+".new", path))
	require.Eventually(t, func() bool { return w.confirmed(t) }, patience, 50*time.Millisecond, "the new key is used")
	select {
	case <-server.Ended():
		t.Error("the server was not to be restarted")
	default:
	}
	log := strings.TrimPrefix(server.Log(t), before)
	assert.Contains(t, log, "The metal-api's key has changed")
	assert.NotContains(t, log, next)
}

func (w *world) rotateCertificates(t *testing.T) {
	server := w.Servers[0]
	data := func() map[string][]byte {
		secret, err := w.Client().CoreV1().Secrets(cluster.Namespace).Get(t.Context(), "metalstack-apiserver-serving", metav1.GetOptions{})
		require.NoError(t, err)
		return secret.Data
	}
	renewed := func(changes []string, blocks ...string) {
		before := data()
		for _, block := range blocks {
			w.run(t, block)
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
		require.Eventually(t, func() bool { return w.confirmed(t) }, patience, 100*time.Millisecond, "the kube-apiserver verifies it")
	}
	old := data()
	renewed([]string{"tls.crt", "ca.crt", "ca.key"}, "rotate-certificate", "rotate-authority")
	assert.True(t, bytes.HasSuffix(data()["ca.crt"], old["ca.crt"]), "the old authority is still trusted")
	renewed([]string{"tls.crt", "ca.crt", "ca.key"}, "replace-everything")
	assert.NotContains(t, string(data()["ca.crt"]), string(old["ca.crt"]), "the old authority is not trusted any more")
	stdout, _ := w.run(t, "certificate-expiry")
	assert.Equal(t, string(data()["tls.crt"]), strings.TrimSpace(stdout)+"\n")
}

func (w *world) upgrade(t *testing.T) {
	_, err := w.Client().AppsV1().Deployments(cluster.Namespace).Get(t.Context(), cluster.APIServer, metav1.GetOptions{})
	require.NoError(t, err)
	stdout, _ := w.run(t, "diff")
	assert.Empty(t, stdout, "nothing is different yet")
	stdout, _ = w.run(t, "upgrade")
	assert.NotContains(t, stdout, "created")
}

func (w *world) lookAround(t *testing.T) {
	stdout, _ := w.run(t, "conditions")
	assert.Contains(t, stdout, "MetalStackMachine")
	assert.Contains(t, stdout, "node-1")
	stdout, _ = w.run(t, "restored-namespace")
	assert.Contains(t, stdout, "node-1")
	w.run(t, "leases")
	stdout, _ = w.run(t, "admission-policies")
	assert.Equal(t, 8, strings.Count(stdout, "metalstack-apiserver-"), "four policies and their bindings")
	stdout, _ = w.run(t, "owners")
	assert.Contains(t, stdout, "node-1")
	stdout, _ = w.run(t, "bootstrap-data")
	assert.Contains(t, stdout, team+" ", "the RoleBinding of the bound namespace")
	stdout, _ = w.run(t, "server-away")
	assert.Contains(t, stdout, "v1alpha4.infrastructure.cluster.x-k8s.io")
}

// keepMetal has a deletion held, which cannot be taken back, and keeps the metal.
func (w *world) keepMetal(t *testing.T) {
	machines := w.machines(t).InfrastructureV1alpha4().MetalStackMachines(team)
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

	w.run(t, "keep-metal")
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

func (w *world) uninstall(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	w.run(t, "uninstall-stop")
	for _, program := range append(w.Servers, w.Companion) {
		// As the Deployment's controller and the kubelet do.
		program.Stop(t)
		program.Pod.Delete(t)
	}
	namespaces := w.Client().CoreV1().Namespaces()
	require.NoError(t, namespaces.Delete(ctx, team, metav1.DeleteOptions{}))
	w.run(t, "uninstall")
	for _, name := range []string{cluster.Namespace, team} {
		require.Eventually(t, func() bool {
			_, err := namespaces.Get(ctx, name, metav1.GetOptions{})
			return apierrors.IsNotFound(err)
		}, patience, 100*time.Millisecond, "no deletion of a namespace waits any more: %s", name)
	}
	err := w.Client().Discovery().RESTClient().Get().AbsPath("/apis/" + v1alpha4.SchemeGroupVersion.String()).Do(ctx).Error()
	assert.True(t, apierrors.IsNotFound(err), "%v", err)
	stdout, stderr, err := w.plane.Kubectl(t, w.plane.Admin(), "get", "customresourcedefinition",
		"-o", `jsonpath={range .items[*]}{.metadata.name} {.metadata.deletionTimestamp}.{"\n"}{end}`)
	require.NoError(t, err, stderr)
	assert.NotContains(t, stdout, v1alpha4.GroupName+" .", "each definition is gone, or going")
	kept := slices.ContainsFunc(w.metal.Sim.Books().Machines, func(m simulator.MachineAccount) bool {
		return m.ID == w.machine && m.Allocated
	})
	assert.True(t, kept, "nobody gave the metal back")
}
