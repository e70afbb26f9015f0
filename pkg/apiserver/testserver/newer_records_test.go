// SPDX-License-Identifier: Apache-2.0

package testserver

import (
	"context"
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
	"k8s.io/client-go/rest"

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
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := s.Client().InfrastructureV1alpha4()
	clusters, machines, ips := client.MetalStackClusters(NamespaceA), client.MetalStackMachines(NamespaceA), client.MetalStackIPs(NamespaceA)
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
	cluster, err := clusters.Get(ctx, "c", metav1.GetOptions{})
	require.NoError(t, err)
	writeNewer(t, records, "metalstackclusters/"+NamespaceA+"/c")
	before, err := records.List(ctx)
	require.NoError(t, err)
	cluster.Labels = map[string]string{"a": "b"}
	_, err = clusters.Update(ctx, cluster, metav1.UpdateOptions{})
	require.ErrorContains(t, err, "records have format 2, written by v9.0.0")

	release := func(name string) error {
		return client.RESTClient().Delete().Namespace(NamespaceA).Resource("metalstackmachines").Name(name).SubResource("allocation").Do(ctx).Error()
	}
	ip := &api.MetalStackIP{ObjectMeta: metav1.ObjectMeta{Name: "ip"}, Spec: api.MetalStackIPSpec{NetworkID: simulator.InternetNetwork}}
	for call, do := range map[string]func() error{
		"create":       func() error { _, err := machines.Create(ctx, newMachine("node-4"), metav1.CreateOptions{}); return err },
		"update":       func() error { _, err := clusters.Update(ctx, cluster, metav1.UpdateOptions{}); return err },
		"delete":       func() error { return machines.Delete(ctx, "node-1", metav1.DeleteOptions{}) },
		"create claim": func() error { _, err := ips.Create(ctx, ip, metav1.CreateOptions{}); return err },
		"allocate":     func() error { _, err := machines.Allocate(ctx, "node-3", body, metav1.CreateOptions{}); return err },
		"release":      func() error { return release("node-2") },
		"power": func() error {
			_, err := machines.RequestPower(ctx, "node-1", &api.MachinePower{Spec: api.MachinePowerSpec{Action: api.PowerCycle}}, metav1.CreateOptions{})
			return err
		},
		"identify": func() error {
			_, err := machines.Identify(ctx, "node-1", &api.MachineIdentify{Spec: api.MachineIdentifySpec{State: api.LEDOn}}, metav1.CreateOptions{})
			return err
		},
	} {
		err := do()
		assert.True(t, apierrors.IsServiceUnavailable(err), "%s: %v", call, err)
		assert.ErrorContains(t, err, "upgrade the server", call)
	}
	// Neither does it by itself what it would have done: the Recoverer, too, has stopped.
	time.Sleep(2 * testTiming.MaxBackoff)
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

// writeNewer replaces a record by one of a newer format.
func writeNewer(t *testing.T, l ledger.Ledger, key string) {
	t.Helper()
	r, err := l.Get(t.Context(), key)
	require.NoError(t, err)
	_, err = l.Update(t.Context(), key, r.Version, []byte(`{"format":2,"writtenBy":"v9.0.0"}`))
	require.NoError(t, err)
}
