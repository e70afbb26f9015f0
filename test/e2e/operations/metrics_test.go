// SPDX-License-Identifier: Apache-2.0

package operations_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-base/metrics/testutil"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

// readMetrics has the controller manager build something, installs the monitoring
// component, and reads the metrics as Prometheus would.
func (env *environment) readMetrics(t *testing.T) {
	env.build(t)
	overlay := cluster.Overlay(t, "monitoring")
	env.monitoring = cluster.Render(t, env.plane, overlay)
	cluster.DefineOthers(t, env.plane, env.monitoring)
	_, stderr, err := env.Kubectl(t, env.Admin(), "apply", "-k", overlay)
	require.NoError(t, err, stderr)
	for _, program := range []*cluster.Program{env.Servers[0], env.ControllerManager} {
		_, status := env.get(t, program, "")
		assert.NotEqual(t, http.StatusOK, status, "%s shows unauthenticated clients nothing", program.Name)
	}

	// What there is has names that are nowhere else.
	machine, err := env.machines(t).InfrastructureV1alpha4().MetalStackMachines(team).Get(t.Context(), "node-1", metav1.GetOptions{})
	require.NoError(t, err)
	secret := map[string]string{
		"the namespace": team, "the project": simulator.ProjectA, "the machine": "node-1", "the cluster": "orchid",
		"the machine's id": machine.Status.Metal.MachineID, "its uid": string(machine.UID), "its allocation": machine.Status.Metal.AllocationUUID,
		"its address": machine.Status.Addresses[0].Address, "its owner": "alice@example.org",
	}
	_, err = env.Metalstack(t, env.User(secret["its owner"], team)).InfrastructureV1alpha4().MetalStackMachines(team).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err, "a tenant has the rights that the page gives")
	for _, samples := range env.scrapeOurs(t) {
		for _, sample := range samples {
			for what, value := range secret {
				for label, shown := range sample.Metric {
					assert.NotContains(t, string(shown), value, "%s: label %s shows %s", sample.Metric, label, what)
				}
			}
		}
	}
}

// build makes a cluster and a machine, and waits until it has its metal.
func (env *environment) build(t *testing.T) {
	t.Helper()
	client := env.machines(t).InfrastructureV1alpha4()
	meta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: name, Labels: map[string]string{"cluster.x-k8s.io/cluster-name": "orchid"}}
	}
	_, err := client.MetalStackClusters(team).Create(t.Context(), &v1alpha4.MetalStackCluster{
		ObjectMeta: meta("orchid"),
		Spec:       v1alpha4.MetalStackClusterSpec{Partition: simulator.DefaultPartition, PublicNetworkID: simulator.InternetNetwork},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = client.MetalStackMachines(team).Create(t.Context(), &v1alpha4.MetalStackMachine{
		ObjectMeta: meta("node-1"),
		Spec:       v1alpha4.MetalStackMachineSpec{Image: simulator.MachineImage, MachineType: simulator.SmallSize, Partition: simulator.DefaultPartition},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	var allocated *v1alpha4.MetalStackMachine
	require.Eventually(t, func() bool {
		machine, err := client.MetalStackMachines(team).Get(t.Context(), "node-1", metav1.GetOptions{})
		allocated = machine
		return err == nil && machine.Status.Metal != nil && machine.Status.Metal.AllocationUUID != "" && len(machine.Status.Addresses) > 0
	}, patience, patience/600, "the controller manager asks for metal")
	env.machine = allocated.Status.Metal.MachineID
	require.NoError(t, env.metal.Sim.PhoneHome(env.machine))
}

// monitor is the one endpoint of a program's ServiceMonitor.
func (env *environment) monitor(t *testing.T, program *cluster.Program) map[string]any {
	t.Helper()
	for _, object := range env.monitoring {
		if object.GetKind() == "ServiceMonitor" && strings.HasPrefix(program.Name, object.GetName()) {
			env.selects(t, object, program)
			endpoints, _, err := unstructured.NestedSlice(object.Object, "spec", "endpoints")
			require.NoError(t, err)
			require.Len(t, endpoints, 1)
			return endpoints[0].(map[string]any)
		}
	}
	t.Fatalf("no ServiceMonitor of %s", program.Name)
	return nil
}

// selects checks that the ServiceMonitor leads to the program by one Service.
func (env *environment) selects(t *testing.T, monitor *unstructured.Unstructured, program *cluster.Program) {
	t.Helper()
	wanted, _, err := unstructured.NestedStringMap(monitor.Object, "spec", "selector", "matchLabels")
	require.NoError(t, err)
	services, err := env.Client().CoreV1().Services(cluster.Namespace).List(t.Context(), metav1.ListOptions{LabelSelector: labels.FormatLabels(wanted)})
	require.NoError(t, err)
	require.Len(t, services.Items, 1)
	service := services.Items[0]
	job, _, err := unstructured.NestedString(monitor.Object, "spec", "jobLabel")
	require.NoError(t, err)
	assert.Equal(t, monitor.GetName(), service.Labels[job], "the job that alerts know")
	pods, err := env.Client().CoreV1().Pods(cluster.Namespace).List(t.Context(), metav1.ListOptions{LabelSelector: labels.FormatLabels(service.Spec.Selector)})
	require.NoError(t, err)
	var names []string
	for _, pod := range pods.Items {
		names = append(names, pod.Name)
	}
	assert.Contains(t, names, program.Name)
}

// secretKey is what a selector of a Secret's key leads to.
func (env *environment) secretKey(t *testing.T, from map[string]any, path ...string) string {
	t.Helper()
	selector, found, err := unstructured.NestedStringMap(from, path...)
	require.NoError(t, err)
	require.True(t, found, "%v", path)
	var value string
	require.Eventually(t, func() bool {
		secret, err := env.Client().CoreV1().Secrets(cluster.Namespace).Get(t.Context(), selector["name"], metav1.GetOptions{})
		if err == nil {
			value = string(secret.Data[selector["key"]])
		}
		return value != ""
	}, patience, patience/600, "%v", selector)
	return value
}

// get reads a program's metrics where its ServiceMonitor says, and as that says
// but for the token.
func (env *environment) get(t *testing.T, program *cluster.Program, token string) (body string, status int) {
	t.Helper()
	endpoint := env.monitor(t, program)
	config := &tls.Config{}
	insecure, _, err := unstructured.NestedBool(endpoint, "tlsConfig", "insecureSkipVerify")
	require.NoError(t, err)
	if config.InsecureSkipVerify = insecure; !insecure {
		config.ServerName, _, _ = unstructured.NestedString(endpoint, "tlsConfig", "serverName")
		config.RootCAs = x509.NewCertPool()
		require.True(t, config.RootCAs.AppendCertsFromPEM([]byte(env.secretKey(t, endpoint, "tlsConfig", "ca", "secret"))))
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	address := url.URL{
		Scheme: endpoint["scheme"].(string), Path: endpoint["path"].(string),
		Host: fmt.Sprintf("127.0.0.1:%d", program.Ports[endpoint["port"].(string)]),
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address.String(), nil)
	require.NoError(t, err)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(content), response.StatusCode
}

// scrapeOurs are the metrics of both programs.
func (env *environment) scrapeOurs(t *testing.T) testutil.Metrics {
	t.Helper()
	all := testutil.NewMetrics()
	for _, program := range []*cluster.Program{env.Servers[0], env.ControllerManager} {
		token := env.secretKey(t, env.monitor(t, program), "authorization", "credentials")
		body, status := env.get(t, program, token)
		require.Equal(t, http.StatusOK, status, body)
		require.NoError(t, testutil.ParseMetrics(body, &all))
	}
	return all
}

// scrapeAll adds those of the kube-apiserver.
func (env *environment) scrapeAll(t *testing.T) testutil.Metrics {
	t.Helper()
	all := env.scrapeOurs(t)
	body, err := env.Client().Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	require.NoError(t, err)
	require.NoError(t, testutil.ParseMetrics(string(body), &all))
	return all
}

// shown is the certificate that a program shows, PEM-encoded.
func shown(t *testing.T, program *cluster.Program) []byte {
	t.Helper()
	address, err := url.Parse(program.URL)
	require.NoError(t, err)
	connection, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", address.Host)
	require.NoError(t, err)
	defer connection.Close()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: connection.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw})
}
