// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/go-openapi/runtime"
	httptransport "github.com/go-openapi/runtime/client"
	"github.com/go-openapi/strfmt"
	metalgo "github.com/metal-stack/metal-go/api/client"
	"github.com/metal-stack/metal-go/api/client/health"
	"github.com/metal-stack/metal-go/api/client/ip"
	"github.com/metal-stack/metal-go/api/client/machine"
	"github.com/metal-stack/metal-go/api/models"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/testserver"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator/simtest"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

// Each cluster has a project and a namespace of its own, which costs the metal-api most:
// addresses are read by project.
const (
	ccmClusters, ccmNodes, ccmServices = 100, 10, 5
	ccmWindow                          = 2 * time.Minute
)

// pollingCluster is a cluster whose metal-ccm is at rest.
type pollingCluster struct {
	project, id string
	machines    []string
	api         *metalgo.MetalAPI
}

// metalCCMs are a server and clusters, and the metal-api behind.
type metalCCMs struct {
	*testserver.Server

	clusters []*pollingCluster
}

func newMetalCCMs(b *testing.B) *metalCCMs {
	b.Helper()
	d := simulator.DefaultDataCentre(ccmClusters * ccmNodes)
	var bindings []string
	c := &metalCCMs{}
	for i := range ccmClusters {
		p := simulator.Project{ID: fmt.Sprintf("20000000-0000-4000-8000-%012d", i), Name: fmt.Sprintf("project-%d", i), Tenant: d.Tenants[0].ID}
		d.Projects = append(d.Projects, p)
		c.clusters = append(c.clusters, &pollingCluster{project: p.ID})
		bindings = append(bindings, p.Name+"="+p.ID)
	}
	metal := simtest.Start(b, simulator.Config{DataCentre: d, Seed: 1})
	c.Server = testserver.Start(b, testserver.Options{
		Metal: metal, Memory: true, Bind: bindings, SweepInterval: 10 * time.Second,
		Configure: func(c *apiserver.Config) { c.Extra.Observer.Budget = 0.05 },
	})
	client, err := rest.HTTPClientFor(c.Config)
	require.NoError(b, err)
	server, err := url.Parse(c.URL)
	require.NoError(b, err)
	ids := metal.Sim.MachineIDs()
	for i, cluster := range c.clusters {
		namespace := fmt.Sprintf("project-%d", i)
		clusters := c.Client().InfrastructureV1alpha4().MetalStackClusters(namespace)
		_, err := clusters.Create(b.Context(), objects.Cluster("cluster"), metav1.CreateOptions{})
		require.NoError(b, err)
		made, err := clusters.Allocate(b.Context(), "cluster", &v1alpha4.Allocation{}, metav1.CreateOptions{})
		require.NoError(b, err)
		cluster.id = made.Status.ClusterID
		transport := httptransport.NewWithClient(server.Host, "/apis/infrastructure.cluster.x-k8s.io/v1alpha4/namespaces/"+namespace+"/metalstackclusters/cluster/metalapi", []string{server.Scheme}, client)
		transport.DefaultAuthentication = runtime.ClientAuthInfoWriterFunc(func(runtime.ClientRequest, strfmt.Registry) error { return nil })
		cluster.api = metalgo.New(transport, strfmt.Default)
		for n := range ccmNodes {
			id, err := metal.Sim.AllocateFor(simulator.AllocateRequest{
				ID: ids[i*ccmNodes+n], Project: cluster.project, Name: "node", Hostname: fmt.Sprintf("node-%d", n),
				Networks: []string{made.Status.Network.ID, simulator.InternetNetwork}, Tags: []string{"cluster.metal-stack.io/id=" + cluster.id},
			})
			require.NoError(b, err)
			require.NoError(b, metal.Sim.PhoneHome(id))
			cluster.machines = append(cluster.machines, id)
		}
		for n := range ccmServices {
			_, err := cluster.api.IP.AllocateIP(ip.NewAllocateIPParams().WithBody(&models.V1IPAllocateRequest{
				Name: "metallb", Projectid: &cluster.project, Networkid: new(simulator.InternetNetwork), Type: new("ephemeral"),
				Tags: []string{fmt.Sprintf("cluster.metal-stack.io/id/namespace/service=%s/default/web-%d", cluster.id, n)},
			}), nil)
			require.NoError(b, err)
		}
	}
	framework.Eventually(b, time.Minute, func(context.Context) error {
		for _, cluster := range c.clusters {
			if err := cluster.poll(cluster.api.Health, cluster.api.IP, cluster.api.Machine); err != nil {
				return err
			}
		}
		return nil
	})
	metal.Sim.SetCosts(true)
	return c
}

// poll is what a metal-ccm asks for in a minute.
func (c *pollingCluster) poll(h health.ClientService, i ip.ClientService, m machine.ClientService) error {
	if _, err := h.Health(health.NewHealthParams(), nil); err != nil {
		return err
	}
	found, err := i.FindIPs(ip.NewFindIPsParams().WithBody(&models.V1IPFindRequest{Projectid: c.project}), nil)
	switch {
	case err != nil:
		return err
	case len(found.Payload) < ccmServices+ccmNodes:
		return fmt.Errorf("%d addresses were found", len(found.Payload))
	}
	for _, id := range c.machines {
		if _, err := m.FindMachine(machine.NewFindMachineParams().WithID(id), nil); err != nil {
			return err
		}
	}
	return nil
}

// What a hundred metal-ccms at rest cost the metal-api: nothing but what is observed
// without them, through the metal-api of their clusters, and directly. The observation is
// part of each.
func BenchmarkMetalCCMs(b *testing.B) {
	if testing.Short() {
		b.Skip("takes minutes")
	}
	c := newMetalCCMs(b)
	direct := c.Metal.Edit
	for _, way := range []struct {
		name string
		poll func(*pollingCluster) error
	}{
		{"None", func(*pollingCluster) error { return nil }},
		{"Through", func(p *pollingCluster) error { return p.poll(p.api.Health, p.api.IP, p.api.Machine) }},
		{"Directly", func(p *pollingCluster) error { return p.poll(direct.Health(), direct.IP(), direct.Machine()) }},
	} {
		b.Run(way.name, func(b *testing.B) {
			for b.Loop() {
				c.measure(b, way.poll)
			}
		})
	}
}

// measure lets every cluster poll once a minute, one after the other.
func (c *metalCCMs) measure(b *testing.B, poll func(*pollingCluster) error) {
	c.Metal.Sim.ResetCalls()
	began := time.Now()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var took time.Duration
	polls := 0
	for i, cluster := range c.clusters {
		wg.Go(func() {
			for at := time.Minute / ccmClusters * time.Duration(i); at < ccmWindow; at += time.Minute {
				<-time.After(time.Until(began.Add(at)))
				one := timed(func() {
					if err := poll(cluster); err != nil {
						b.Error(err)
					}
				})
				mu.Lock()
				took, polls = took+one, polls+1
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	<-time.After(time.Until(began.Add(ccmWindow)))
	calls, busy, minutes := 0, c.Metal.Sim.BusyTime(), time.Since(began).Minutes()
	for _, call := range c.Metal.Sim.Calls() {
		calls += call.Calls
		b.Logf("%s: %d calls, %v", call.Endpoint, call.Calls, call.Busy)
	}
	b.ReportMetric(float64(calls)/minutes, "metal-calls/min")
	b.ReportMetric(float64(busy.Milliseconds())/minutes, "metal-ms/min")
	b.ReportMetric(100*busy.Minutes()/minutes, "%busy")
	b.ReportMetric(float64(took.Microseconds())/1000/float64(polls), "ms/poll")
	b.ReportMetric(0, "ns/op")
}
