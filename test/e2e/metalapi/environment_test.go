// SPDX-License-Identifier: Apache-2.0

// Package metalapi tests the metal-api of a cluster with metal-go, as metal-ccm uses it,
// and with what a thief of its token may try, against a server and a simulator.
package metalapi

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-openapi/runtime"
	httptransport "github.com/go-openapi/runtime/client"
	"github.com/go-openapi/strfmt"
	metalgo "github.com/metal-stack/metal-go/api/client"
	"github.com/metal-stack/metal-go/api/client/ip"
	"github.com/metal-stack/metal-go/api/models"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	typed "metal-stack.io/infrastructure-apiserver/generated/clientset/versioned/typed/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/testserver"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

const (
	teamA              = testserver.NamespaceA
	projectA, projectB = simulator.ProjectA, simulator.ProjectB
)

type environment struct {
	*testserver.Server

	sim      *simulator.Simulator
	clusters typed.MetalStackClusterInterface
	machines typed.MetalStackMachineInterface
}

func start(t *testing.T) *environment {
	t.Helper()
	s := testserver.Start(t, testserver.Options{
		Memory: true, SweepInterval: 100 * time.Millisecond, Simulator: simulator.Config{DataCentre: simulator.DefaultDataCentre(8)},
	})
	client := s.Client().InfrastructureV1alpha4()
	return &environment{Server: s, sim: s.Metal.Sim, clusters: client.MetalStackClusters(teamA), machines: client.MetalStackMachines(teamA)}
}

func metalAPIPath(cluster string) string {
	return "/apis/infrastructure.cluster.x-k8s.io/v1alpha4/namespaces/" + teamA + "/metalstackclusters/" + cluster + "/metalapi"
}

// metalAPI is metal-go's client of the metal-api of a cluster.
func (env *environment) metalAPI(t *testing.T, cluster string) *metalgo.MetalAPI {
	t.Helper()
	client, err := rest.HTTPClientFor(env.Config)
	require.NoError(t, err)
	base, err := url.Parse(env.URL)
	require.NoError(t, err)
	transport := httptransport.NewWithClient(base.Host, metalAPIPath(cluster), []string{base.Scheme}, client)
	transport.DefaultAuthentication = runtime.ClientAuthInfoWriterFunc(func(runtime.ClientRequest, strfmt.Registry) error { return nil })
	return metalgo.New(transport, strfmt.Default)
}

// allocatedCluster is a cluster with a network, and a machine in it.
func (env *environment) allocatedCluster(t *testing.T, name, node string) (clusterID, machineID string) {
	t.Helper()
	ctx := t.Context()
	_, err := env.clusters.Create(ctx, objects.Cluster(name), metav1.CreateOptions{})
	require.NoError(t, err)
	c, err := env.clusters.Allocate(ctx, name, &v1alpha4.Allocation{}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = env.machines.Create(ctx, objects.Machine(node, objects.InDefaultPartition), metav1.CreateOptions{})
	require.NoError(t, err)
	m, err := env.machines.Allocate(ctx, node, &v1alpha4.Allocation{
		ClusterRef: &v1alpha4.LocalReference{Name: name}, UserData: []byte("a secret join token"),
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	return c.Status.ClusterID, m.Status.Allocation.MachineID
}

func serviceTag(clusterID, service string) string {
	return "cluster.metal-stack.io/id/namespace/service=" + clusterID + "/default/" + service
}

// allocateIP allocates as metal-ccm does.
func allocateIP(api *metalgo.MetalAPI, clusterID, service string) (*models.V1IPResponse, error) {
	answer, err := api.IP.AllocateIP(ip.NewAllocateIPParams().WithBody(&models.V1IPAllocateRequest{
		Name: "metallb-12345", Projectid: new(projectA), Networkid: new(simulator.InternetNetwork), Type: new("ephemeral"),
		Tags: []string{serviceTag(clusterID, service)},
	}), nil)
	if err != nil {
		return nil, err
	}
	return answer.Payload, nil
}

// ask sends a request as it is.
func (env *environment) ask(t *testing.T, method, cluster, path, body string) (status int, answer string) {
	t.Helper()
	client, err := rest.HTTPClientFor(env.Config)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), method, env.URL+metalAPIPath(cluster)+"/"+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	response, err := client.Do(req)
	require.NoError(t, err)
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(raw)
}

// addressState is empty if the address is not allocated.
func (env *environment) addressState(address string) simulator.IPState {
	for _, state := range env.sim.Inventory().IPs {
		if state.Address == address {
			return state
		}
	}
	return simulator.IPState{}
}
