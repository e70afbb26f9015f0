// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	informers "metal-stack.io/infrastructure-apiserver/generated/informers/externalversions"
	api "metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/options"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/testserver"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

const team = testserver.NamespaceA

func machine(name string) *api.MetalStackMachine {
	return &api.MetalStackMachine{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       api.MetalStackMachineSpec{Image: simulator.MachineImage, MachineType: simulator.SmallSize},
	}
}

func timeout(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// warnings collects what a client is warned of.
type warnings struct {
	mu    sync.Mutex
	texts []string
}

func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts = append(w.texts, text)
}

func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	texts := w.texts
	w.texts = nil
	return texts
}

func warnedClient(t *testing.T, s *testserver.Server) (versioned.Interface, *warnings) {
	t.Helper()
	w := &warnings{}
	config := rest.CopyConfig(s.Config)
	config.WarningHandler = w
	client, err := versioned.NewForConfig(config)
	require.NoError(t, err)
	return client, w
}

// allocatedCluster makes a cluster with its private network.
func allocatedCluster(t *testing.T, s *testserver.Server, name string) *api.MetalStackCluster {
	t.Helper()
	ctx, clusters := timeout(t), s.Client().InfrastructureV1alpha4().MetalStackClusters(team)
	_, err := clusters.Create(ctx, &api.MetalStackCluster{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       api.MetalStackClusterSpec{Partition: simulator.DefaultPartition, PublicNetworkID: simulator.InternetNetwork},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	c, err := clusters.Allocate(ctx, name, &api.Allocation{}, metav1.CreateOptions{})
	require.NoError(t, err)
	return c
}

// get returns what an anonymous client is answered.
func get(t *testing.T, s *testserver.Server, path string) (code int, body string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get(s.URL + path)
	require.NoError(t, err)
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(content)
}

func TestServer_AnswersUnavailableBeforeTheInitialSync(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	s.Stop()
	resume := s.Metal.Sim.StopAnswering()
	t.Cleanup(resume)
	s.RestartUnready()
	ctx := timeout(t)

	machines := s.Client().InfrastructureV1alpha4().MetalStackMachines(team)
	require.Eventually(t, func() bool {
		// Without the client's own retries, which the answer asks for.
		err := s.Client().InfrastructureV1alpha4().RESTClient().Get().Namespace(team).Resource("metalstackmachines").MaxRetries(0).Do(ctx).Error()
		return apierrors.IsServiceUnavailable(err)
	}, time.Minute, 20*time.Millisecond)
	code, body := get(t, s, "/readyz")
	assert.Equal(t, http.StatusInternalServerError, code)
	assert.Equal(t, "readyz check failed", body, "without credentials, the check is not named")
	code, body = get(t, s, "/livez")
	assert.Equal(t, http.StatusOK, code, body)
	_, err := s.Client().Discovery().ServerResourcesForGroupVersion(api.SchemeGroupVersion.String())
	require.NoError(t, err, "what is served is known")

	resume()
	s.AwaitReady()
	_, err = machines.List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
}

func TestServer_ReadsWarnWhileMetalAPIIsUnavailable(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{ConsistentReadTimeout: 200 * time.Millisecond})
	ctx := timeout(t)
	client, warned := warnedClient(t, s)
	machines := client.InfrastructureV1alpha4().MetalStackMachines(team)
	_, err := machines.Create(ctx, machine("node-1"), metav1.CreateOptions{})
	require.NoError(t, err)
	// On a busy machine the metal-api's answer, too, may take longer than a read waits.
	require.Eventually(t, func() bool {
		_, err := machines.List(ctx, metav1.ListOptions{})
		return err == nil && len(warned.take()) == 0
	}, time.Minute, 20*time.Millisecond, "a read that the metal-api confirms has no warning")

	t.Cleanup(s.Metal.Sim.StopAnswering())
	list, err := machines.List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	assert.Len(t, list.Items, 1)
	texts := warned.take()
	require.Len(t, texts, 1)
	assert.Contains(t, texts[0], "stale: last observed at")

	_, err = machines.Create(ctx, machine("node-2"), metav1.CreateOptions{})
	require.NoError(t, err, "records are written all the same")
	code, body := get(t, s, "/readyz")
	assert.Equal(t, http.StatusOK, code, body)
}

func TestUserData_IsInNoAuditEventAndNoRecord(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	policy, log := filepath.Join(dir, "policy"), filepath.Join(dir, "log")
	require.NoError(t, os.WriteFile(policy, []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: RequestResponse}]\n"), 0o600))
	s := testserver.Start(t, testserver.Options{Flags: func(o *options.Options) {
		o.Audit.PolicyFile, o.Audit.LogOptions.Path = policy, log
	}})
	ctx := timeout(t)
	client := s.Client().InfrastructureV1alpha4()
	allocatedCluster(t, s, "c")
	_, err := client.MetalStackMachines(team).Create(ctx, machine("node-1"), metav1.CreateOptions{})
	require.NoError(t, err)
	secret := []byte("a-join-token-that-must-stay-secret")
	_, err = client.MetalStackMachines(team).Allocate(ctx, "node-1", &api.Allocation{ClusterRef: &api.LocalReference{Name: "c"}, UserData: secret}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = client.MetalStackFirewalls(team).Create(ctx, &api.MetalStackFirewall{
		ObjectMeta: metav1.ObjectMeta{Name: "firewall-1"},
		Spec:       api.MetalStackFirewallSpec{Image: simulator.FirewallImage, MachineType: simulator.SmallSize, UserData: &api.SecretReference{Name: "firewall-1"}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = client.MetalStackFirewalls(team).Allocate(ctx, "firewall-1", &api.Allocation{ClusterRef: &api.LocalReference{Name: "c"}, UserData: secret}, metav1.CreateOptions{})
	require.NoError(t, err)
	s.Stop()

	audit, err := os.ReadFile(log)
	require.NoError(t, err)
	assert.Contains(t, string(audit), `"requestObject"`, "other bodies are audited")
	assert.Contains(t, string(audit), `/metalstackmachines/node-1/allocation`)
	assert.Contains(t, string(audit), `/metalstackfirewalls/firewall-1/allocation`)
	records, err := os.ReadFile(filepath.Join(s.DataDir, "records.db"))
	require.NoError(t, err)
	for _, content := range [][]byte{audit, records} {
		assert.False(t, bytes.Contains(content, secret))
		assert.False(t, bytes.Contains(content, []byte(base64.StdEncoding.EncodeToString(secret))))
	}
}

// A body that cannot be decoded may have user data in it all the same.
func TestUserData_IsInNoErrorOfAnAllocation(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{Memory: true})
	secret := base64.StdEncoding.EncodeToString([]byte("a-join-token-that-stays-secret"))
	for _, c := range []struct{ mediaType, body, says string }{
		{"application/json", `{"apiVersion":"example.org/","userData":"` + secret + `"}`, `must be "infrastructure.cluster.x-k8s.io/v1alpha4" and "Allocation", or omitted`},
		{"application/json", `{"userData":"` + secret, `unexpected end of JSON input`},
		{"application/json", `{"userData":["` + secret + `"]}`, `cannot unmarshal`},
		{"application/json", `{"userData":"` + secret + `!"}`, `illegal base64 data`},
		{"application/json", `{"apiVersion":"v1","kind":"Secret","userData":"` + secret + `"}`, `must be "infrastructure.cluster.x-k8s.io/v1alpha4" and "Allocation", or omitted`},
		{"application/json", `["` + secret + `"]`, `couldn't get version/kind`},
		{"application/yaml", "userData: *" + secret, "details are withheld"},
		{"application/yaml", "- " + secret, "couldn't get version/kind"},
	} {
		result := s.Client().InfrastructureV1alpha4().RESTClient().Post().Namespace(team).Resource("metalstackmachines").Name("node-1").SubResource("allocation").
			SetHeader("Content-Type", c.mediaType).Body([]byte(c.body)).Do(timeout(t))
		err := result.Error()
		require.True(t, apierrors.IsBadRequest(err), "%s: %v", c.body, err)
		assert.ErrorContains(t, err, "cannot be handled as a Allocation", c.body)
		assert.ErrorContains(t, err, c.says, c.body)
		assert.NotContains(t, err.Error(), secret[:12])
	}
}

func TestServer_AnonymousUsersReadHealthOnly(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{Memory: true})
	for path, want := range map[string]int{
		"/healthz": http.StatusOK, "/livez": http.StatusOK, "/readyz": http.StatusOK,
		"/apis": http.StatusUnauthorized, "/metrics": http.StatusUnauthorized, "/version": http.StatusUnauthorized,
	} {
		code, _ := get(t, s, path)
		assert.Equal(t, want, code, path)
	}
}

func TestServerSideApply_OwnsFieldsThatItCanSet(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{Memory: true})
	ctx := timeout(t)
	machines := s.Dynamic().Resource(api.SchemeGroupVersion.WithResource("metalstackmachines")).Namespace(team)
	intent := func(size string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": api.SchemeGroupVersion.String(), "kind": "MetalStackMachine",
			"metadata": map[string]any{"name": "node-1"},
			"spec":     map[string]any{"image": simulator.MachineImage, "machineType": size},
			"status":   map[string]any{"ready": true},
		}}
	}
	m, err := machines.Apply(ctx, "node-1", intent(simulator.SmallSize), metav1.ApplyOptions{FieldManager: "a"})
	require.NoError(t, err)
	owned := m.GetManagedFields()
	require.Len(t, owned, 1)
	assert.NotContains(t, owned[0].FieldsV1.String(), "f:status")

	_, err = machines.Apply(ctx, "node-1", intent(simulator.LargeSize), metav1.ApplyOptions{FieldManager: "b"})
	require.True(t, apierrors.IsConflict(err), "%v", err)
	again, err := machines.Apply(ctx, "node-1", intent(simulator.SmallSize), metav1.ApplyOptions{FieldManager: "a"})
	require.NoError(t, err)
	assert.Equal(t, m.GetResourceVersion(), again.GetResourceVersion(), "nothing has changed")

	status := intent(simulator.SmallSize)
	delete(status.Object, "spec")
	status.Object["status"] = map[string]any{"conditions": []any{map[string]any{
		"type": "Paused", "status": "False", "reason": "NotPaused", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
	}}}
	m, err = machines.ApplyStatus(ctx, "node-1", status, metav1.ApplyOptions{FieldManager: "c"})
	require.NoError(t, err)
	conditions, _, err := unstructured.NestedSlice(m.Object, "status", "conditions")
	require.NoError(t, err)
	assert.Len(t, conditions, 2, "the server's Ready, and Paused")
}

func TestDiscoveredMachine_IsListedWithoutOwner(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{Memory: true})
	ctx := timeout(t)
	c := allocatedCluster(t, s, "c")
	id, err := s.Metal.Sim.AllocateFor(simulator.AllocateRequest{
		Project: simulator.ProjectA, Name: "byhand", Hostname: "byhand", Size: simulator.SmallSize,
		Partition: simulator.DefaultPartition, Image: simulator.MachineImage, Networks: []string{c.Spec.PrivateNetworkID},
	})
	require.NoError(t, err)
	machines := s.Client().InfrastructureV1alpha4().MetalStackMachines(team)
	m, err := machines.Get(ctx, id, metav1.GetOptions{})
	require.NoError(t, err, "a get waits for an observation")
	assert.False(t, m.Status.Metal.Managed)
	assert.True(t, apierrors.IsForbidden(machines.Delete(ctx, id, metav1.DeleteOptions{})))
	require.NoError(t, machines.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
	_, err = machines.Get(ctx, id, metav1.GetOptions{})
	require.NoError(t, err)
	list, err := s.Client().InfrastructureV1alpha4().MetalStackMachines(testserver.NamespaceB).List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	assert.Empty(t, list.Items)
}

func TestServer_AnswersProtobufClientsWithJSON(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{Memory: true})
	ctx := timeout(t)
	machines := s.Client().InfrastructureV1alpha4().MetalStackMachines(team)
	_, err := machines.Create(ctx, machine("node-1"), metav1.CreateOptions{})
	require.NoError(t, err)
	// As the namespace controller and the garbage collector do.
	client, err := metadata.NewForConfig(s.Config)
	require.NoError(t, err)
	resource := client.Resource(api.SchemeGroupVersion.WithResource("metalstackmachines")).Namespace(team)
	require.NoError(t, resource.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
	list, err := resource.List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	assert.NotNil(t, list.Items[0].DeletionTimestamp)
	_, err = resource.Patch(ctx, "node-1", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	require.NoError(t, resource.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}), "also when nothing is left")
}

func TestServer_InformersContinueAfterKill(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	ctx := timeout(t)
	machines := s.Client().InfrastructureV1alpha4().MetalStackMachines(team)
	_, err := machines.Create(ctx, machine("node-1"), metav1.CreateOptions{})
	require.NoError(t, err)

	var mu sync.Mutex
	seen := map[string]int{}
	factory := informers.NewSharedInformerFactory(s.Client(), 0)
	informer := factory.Infrastructure().V1alpha4().MetalStackMachines().Informer()
	_, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(o any) {
		mu.Lock()
		defer mu.Unlock()
		seen[o.(*api.MetalStackMachine).Name]++
	}})
	require.NoError(t, err)
	factory.Start(ctx.Done())
	require.True(t, cache.WaitForCacheSync(ctx.Done(), informer.HasSynced))

	s.Kill()
	s.Restart()
	_, err = machines.Create(ctx, machine("node-2"), metav1.CreateOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return seen["node-2"] == 1
	}, time.Minute, 50*time.Millisecond)
	mu.Lock()
	defer mu.Unlock()
	assert.Equal(t, map[string]int{"node-1": 1, "node-2": 1}, seen)
}

func TestServer_StopWaitsForInFlightAllocation(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	ctx := timeout(t)
	client := s.Client().InfrastructureV1alpha4()
	allocatedCluster(t, s, "c")
	_, err := client.MetalStackMachines(team).Create(ctx, machine("node-1"), metav1.CreateOptions{})
	require.NoError(t, err)

	arrived := make(chan struct{})
	s.Metal.Sim.Inject(simulator.Fault{Endpoint: "machine-allocate", Kind: simulator.FaultLatency, Latency: time.Second, Times: 1, Match: func(*http.Request) bool {
		close(arrived)
		return true
	}})
	answer := make(chan error, 1)
	go func() {
		_, err := client.MetalStackMachines(team).Allocate(ctx, "node-1", &api.Allocation{ClusterRef: &api.LocalReference{Name: "c"}}, metav1.CreateOptions{})
		answer <- err
	}()
	<-arrived
	s.Stop()
	require.NoError(t, <-answer)

	s.Restart()
	m, err := client.MetalStackMachines(team).Get(ctx, "node-1", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, api.AllocationAllocated, m.Status.Allocation.Phase)
	assert.Equal(t, 1, s.Metal.Sim.CallsOf("machine-allocate"))
}
