// SPDX-License-Identifier: Apache-2.0

package testserver

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	typed "metal-stack.io/infrastructure-apiserver/generated/clientset/versioned/typed/infrastructure/v1alpha4"
	api "metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// metalWrites are the requests to the metal-api that change metal.
type metalWrites struct {
	http.RoundTripper

	mu   sync.Mutex
	sent []string
}

func (w *metalWrites) RoundTrip(req *http.Request) (*http.Response, error) {
	if read := req.Method == http.MethodGet || strings.HasSuffix(req.URL.Path, "/find"); !read {
		w.mu.Lock()
		w.sent = append(w.sent, req.Method+" "+req.URL.Path)
		w.mu.Unlock()
	}
	return w.RoundTripper.RoundTrip(req)
}

func (w *metalWrites) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	sent := w.sent
	w.sent = nil
	return sent
}

func TestNewerRecord_StopsWritesAndCallsThatChangeMetal(t *testing.T) {
	t.Parallel()
	records, writes := memory.New(), &metalWrites{}
	s := Start(t, Options{
		Memory: true, Simulator: simulator.Config{Speed: 200},
		Transport: func(next http.RoundTripper) http.RoundTripper { writes.RoundTripper = next; return writes },
		Configure: func(c *apiserver.Config) { c.Extra.Ledger = records },
	})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	client := s.Client().InfrastructureV1alpha4()
	clusters, machines := client.MetalStackClusters(NamespaceA), client.MetalStackMachines(NamespaceA)
	_, err := clusters.Create(ctx, newCluster("c"), metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = clusters.Allocate(ctx, "c", &api.Allocation{}, metav1.CreateOptions{})
	require.NoError(t, err)
	body := &api.Allocation{ClusterRef: &api.LocalReference{Name: "c"}, UserData: []byte("#cloud-config")}
	for _, name := range []string{"node-1", "node-2", "node-3"} {
		_, err = machines.Create(ctx, newMachine(name), metav1.CreateOptions{})
		require.NoError(t, err)
	}
	for _, name := range []string{"node-1", "node-2"} {
		_, err = machines.Allocate(ctx, name, body, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	require.NoError(t, machines.Delete(ctx, "node-2", metav1.DeleteOptions{}))
	require.NotEmpty(t, writes.take(), "the test sees what changes metal")

	// A newer server writes the record of the cluster, and this one meets it by a conflict.
	writeNewer(t, records, "metalstackclusters/"+NamespaceA+"/c")
	_, err = label(ctx, clusters, metav1.UpdateOptions{})
	require.ErrorContains(t, err, "records have format 2, written by v9.0.0")
	before, err := records.List(ctx)
	require.NoError(t, err)

	for call, do := range writesTo(t, s, body) {
		_, err := do(ctx, []string{metav1.DryRunAll})
		require.True(t, apierrors.IsServiceUnavailable(err), "dry run of %s: %v", call, err)
		_, realErr := do(ctx, nil)
		assert.Equal(t, realErr, err, "a dry run of %s is answered as the request", call)
		assert.ErrorContains(t, err, "upgrade the server", call)
		delay, repeated := apierrors.SuggestsClientDelay(err)
		assert.True(t, repeated && delay > 0, "%s is answered without Retry-After: %v", call, err)
	}
	assert.Empty(t, writes.take(), "requests that change metal")
	after, err := records.List(ctx)
	require.NoError(t, err)
	assert.Equal(t, before, after, "records")

	shown, err := machines.List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	assert.Len(t, shown.Items, 3)
	shownCluster, err := clusters.Get(ctx, "c", metav1.GetOptions{})
	require.NoError(t, err)
	assert.NotContains(t, shownCluster.Labels, "a")
	probe, err := rest.HTTPClientFor(s.Config)
	require.NoError(t, err)
	ready, err := probe.Get(s.URL + "/readyz?verbose")
	require.NoError(t, err)
	defer ready.Body.Close()
	text, err := io.ReadAll(ready.Body)
	require.NoError(t, err)
	assert.Contains(t, string(text), "[-]record-format failed")

	// It does not start again, either.
	s.Stop()
	_, err = s.build(ctx, &run{killSwitch: newKillSwitch(), cancel: cancel, done: make(chan error, 1)})
	require.ErrorContains(t, err, "upgrade the server")
	after, err = records.List(t.Context())
	require.NoError(t, err)
	assert.Equal(t, before, after, "records after the start")
}

// label puts a label on the cluster, although its metal may be observed meanwhile.
func label(ctx context.Context, clusters typed.MetalStackClusterInterface, opts metav1.UpdateOptions) (c *api.MetalStackCluster, err error) {
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		if c, err = clusters.Get(ctx, "c", metav1.GetOptions{}); err != nil {
			return err
		}
		c.Labels = map[string]string{"a": "b"}
		c, err = clusters.Update(ctx, c, opts)
		return err
	})
	return c, err
}

// withoutRetryAfter removes the header for which client-go repeats a request up to ten times,
// once a second.
type withoutRetryAfter struct{ http.RoundTripper }

func (w withoutRetryAfter) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := w.RoundTripper.RoundTrip(req)
	if err == nil {
		resp.Header.Del("Retry-After")
	}
	return resp, err
}

// writesTo are requests that change something, by what they do.
func writesTo(t *testing.T, s *Server, body *api.Allocation) map[string]func(context.Context, []string) (any, error) {
	t.Helper()
	config := rest.CopyConfig(s.Config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return withoutRetryAfter{next} })
	clients, err := versioned.NewForConfig(config)
	require.NoError(t, err)
	client := clients.InfrastructureV1alpha4()
	clusters, machines, ips := client.MetalStackClusters(NamespaceA), client.MetalStackMachines(NamespaceA), client.MetalStackIPs(NamespaceA)
	create := func(dry []string) metav1.CreateOptions { return metav1.CreateOptions{DryRun: dry} }
	remove := func(dry []string) metav1.DeleteOptions { return metav1.DeleteOptions{DryRun: dry} }
	patch := func(kind types.PatchType, name, patch string, subresources ...string) func(context.Context, []string) (any, error) {
		return func(ctx context.Context, dry []string) (any, error) {
			options := metav1.PatchOptions{DryRun: dry}
			if kind == types.ApplyPatchType {
				options.FieldManager = "test"
			}
			return machines.Patch(ctx, name, kind, []byte(patch), options, subresources...)
		}
	}
	subresource := func(name, subresource string) *rest.Request {
		return client.RESTClient().Delete().Namespace(NamespaceA).Resource("metalstackmachines").Name(name).SubResource(subresource)
	}
	ip := &api.MetalStackIP{ObjectMeta: metav1.ObjectMeta{Name: "ip"}, Spec: api.MetalStackIPSpec{NetworkID: simulator.InternetNetwork}}
	return map[string]func(context.Context, []string) (any, error){
		"create": func(ctx context.Context, dry []string) (any, error) {
			return machines.Create(ctx, newMachine("node-4"), create(dry))
		},
		"create generated": func(ctx context.Context, dry []string) (any, error) {
			m := newMachine("")
			m.GenerateName = "node-"
			return machines.Create(ctx, m, create(dry))
		},
		"create claim": func(ctx context.Context, dry []string) (any, error) { return ips.Create(ctx, ip, create(dry)) },
		"update": func(ctx context.Context, dry []string) (any, error) {
			return label(ctx, clusters, metav1.UpdateOptions{DryRun: dry})
		},
		"patch":        patch(types.MergePatchType, "node-1", `{"metadata":{"labels":{"a":"b"}}}`),
		"patch status": patch(types.MergePatchType, "node-1", `{"status":{"conditions":[]}}`, "status"),
		"apply":        patch(types.ApplyPatchType, "node-1", `{"apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha4","kind":"MetalStackMachine","metadata":{"name":"node-1","labels":{"a":"b"}}}`),
		"apply to a new name": patch(types.ApplyPatchType, "node-5", fmt.Sprintf(
			`{"apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha4","kind":"MetalStackMachine","metadata":{"name":"node-5"},"spec":{"image":%q,"machineType":%q}}`,
			simulator.MachineImage, simulator.SmallSize)),
		"delete": func(ctx context.Context, dry []string) (any, error) {
			return nil, machines.Delete(ctx, "node-1", remove(dry))
		},
		"delete collection": func(ctx context.Context, dry []string) (any, error) {
			return nil, machines.DeleteCollection(ctx, remove(dry), metav1.ListOptions{})
		},
		"allocate": func(ctx context.Context, dry []string) (any, error) {
			return machines.Allocate(ctx, "node-3", body, create(dry))
		},
		"release": func(ctx context.Context, dry []string) (any, error) {
			options := remove(dry)
			return nil, subresource("node-2", "allocation").Body(&options).Do(ctx).Error()
		},
		"power": func(ctx context.Context, dry []string) (any, error) {
			return machines.RequestPower(ctx, "node-1", &api.MachinePower{Spec: api.MachinePowerSpec{Action: api.PowerCycle}}, create(dry))
		},
		"identify": func(ctx context.Context, dry []string) (any, error) {
			return machines.Identify(ctx, "node-1", &api.MachineIdentify{Spec: api.MachineIdentifySpec{State: api.LEDOn}}, create(dry))
		},
		"reinstall": func(ctx context.Context, dry []string) (any, error) {
			return machines.Reinstall(ctx, "node-1", &api.MachineReinstall{Spec: api.MachineReinstallSpec{Image: simulator.MachineImage, Reason: "test"}}, create(dry))
		},
		"lock": func(ctx context.Context, dry []string) (any, error) {
			return machines.Lock(ctx, "node-1", &api.MachineLock{Spec: api.MachineLockSpec{Reason: "test"}}, create(dry))
		},
	}
}

// writeNewer replaces a record by one of a newer format.
func writeNewer(t *testing.T, l ledger.Ledger, key string) {
	t.Helper()
	r, err := l.Get(t.Context(), key)
	require.NoError(t, err)
	_, err = l.Update(t.Context(), key, r.Version, []byte(`{"format":2,"writtenBy":"v9.0.0"}`))
	require.NoError(t, err)
}
