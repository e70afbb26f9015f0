// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/e2e/capi/metalccm"
	"metal-stack.io/infrastructure-apiserver/test/framework"
)

// servicesHaveAddressesOfTheirCluster has two clusters in one project, of which one's name
// begins like the other's: neither touches the other's addresses.
func servicesHaveAddressesOfTheirCluster(t *testing.T, env *environment, namespace string, projectMetal ProjectMetal) {
	before := projectMetal.Inventory()
	rose := env.Order(t, Order{Namespace: namespace, Name: "rose", ControlPlane: 1, Workers: 1})
	other := env.orderChanged(t, Order{Namespace: namespace, Name: "rose-2", ControlPlane: 1, Workers: 0}, "    controller:\n      interval: 10s\n", "")
	rose.AwaitMachines(t, slow, 1, 1)
	other.AwaitMachines(t, slow, 1, 0)
	nodesAreKnownToMetalCCM(t, rose)
	rose.AwaitNodeLabels(t, slow)
	other.AwaitNodeLabels(t, slow)

	services, others := rose.Workload(t), other.Workload(t)
	services.CreateService(t, "web", "")
	others.CreateService(t, "web", "")
	web, othersWeb := services.AwaitServiceAddress(t, slow, "web"), others.AwaitServiceAddress(t, slow, "web")
	assert.NotEqual(t, web, othersWeb)
	projectMetal.hasServices(t, web, serviceTag(t, rose, "web"))
	projectMetal.hasServices(t, othersWeb, serviceTag(t, other, "web"))
	awaitAnnounced(t, services, web)
	awaitAnnounced(t, others, othersWeb)
	assert.Empty(t, firewallObjects(t, other), "nothing for a firewall-controller that is not asked for")
	assert.NotEmpty(t, firewallObjects(t, rose))

	// A Service that names an address, which is kept when the Service goes.
	fixed, err := env.Site.Metal.Sim.AllocateIPFor(projectMetal.project, Variables["METAL_PUBLIC_NETWORK"], "fixed", nil)
	require.NoError(t, err)
	services.CreateService(t, "fixed", fixed)
	assert.Equal(t, fixed, services.AwaitServiceAddress(t, slow, "fixed"))
	projectMetal.hasServices(t, fixed, serviceTag(t, rose, "fixed"))
	services.DeleteService(t, slow, "fixed")
	projectMetal.hasServices(t, fixed)

	services.DeleteService(t, slow, "web")
	assert.Nil(t, projectMetal.ip(web), "freed with the Service")
	projectMetal.hasServices(t, othersWeb, serviceTag(t, other, "web"))

	// The cluster goes, and with it the address that a Service has and no tag of others.
	services.CreateService(t, "left", "")
	left := services.AwaitServiceAddress(t, slow, "left")
	services.CreateService(t, "fixed", fixed)
	services.AwaitServiceAddress(t, slow, "fixed")
	rose.Delete(t, slow)
	assert.Nil(t, projectMetal.ip(left), "freed with the cluster")
	projectMetal.hasServices(t, fixed)
	projectMetal.hasServices(t, othersWeb, serviceTag(t, other, "web"))
	others.CreateService(t, "more", "")
	others.AwaitServiceAddress(t, slow, "more")
	other.Delete(t, slow)
	assert.Equal(t, []string{"ip " + fixed + " []"}, projectMetal.since(before))
}

// nodesAreKnownToMetalCCM: Nodes have what metal-ccm learned from the metal-api.
func nodesAreKnownToMetalCCM(t *testing.T, c *Tenant) {
	t.Helper()
	nodes, err := c.Workload(t).Client().CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	hardware, err := c.Hardware(t.Context())
	require.NoError(t, err)
	assert.Len(t, nodes.Items, len(hardware))
	machines := map[string]string{}
	for _, h := range hardware {
		machines[h.Spec.ProviderID] = h.Status.Metal.MachineID
	}
	for _, node := range nodes.Items {
		assert.NotEmpty(t, machines[node.Spec.ProviderID], node.Spec.ProviderID)
		assert.Equal(t, simulator.SmallSize, node.Labels[corev1.LabelInstanceTypeStable])
		kinds := map[corev1.NodeAddressType]string{}
		for _, address := range node.Status.Addresses {
			kinds[address.Type] = address.Address
		}
		assert.Equal(t, node.Name, kinds[corev1.NodeHostName])
		assert.NotEmpty(t, kinds[corev1.NodeInternalIP])
		for _, taint := range node.Spec.Taints {
			assert.NotEqual(t, metalccm.TaintUninitialized, taint.Key)
		}
	}
}

// awaitAnnounced waits until metal-ccm has configured that all Nodes announce an address.
func awaitAnnounced(t *testing.T, w *Workload, address string) {
	t.Helper()
	framework.Eventually(t, slow, func(context.Context) error {
		ccm, err := w.c.metalCCM.controller()
		if err != nil {
			return err
		}
		for pool, addresses := range ccm.Announcements().Pools {
			if pool == Variables["METAL_PUBLIC_NETWORK"]+"-ephemeral" && len(addresses) == 1 && addresses[0] == address {
				return nil
			}
		}
		return fmt.Errorf("announced: %+v", ccm.Announcements())
	})
}

// serviceTag is on the address of a Service of a cluster.
func serviceTag(t *testing.T, c *Tenant, service string) string {
	t.Helper()
	infra, err := c.Infrastructure(t.Context())
	require.NoError(t, err)
	return "cluster.metal-stack.io/id/namespace/service=" + infra.Status.ClusterID + "/default/" + service
}

// ip is an address of the project; nil if it is not allocated.
func (p ProjectMetal) ip(address string) *simulator.IPState {
	for _, ip := range p.site.Metal.Sim.Inventory().IPs {
		if ip.Project == p.project && ip.Address == address {
			return &ip
		}
	}
	return nil
}

// hasServices holds an address to the tags of Services that it should have.
func (p ProjectMetal) hasServices(t *testing.T, address string, tags ...string) {
	t.Helper()
	ip := p.ip(address)
	if !assert.NotNil(t, ip, address) {
		return
	}
	var has []string
	for _, tag := range ip.Tags {
		if strings.HasPrefix(tag, "cluster.metal-stack.io/id/namespace/service=") {
			has = append(has, tag)
		}
	}
	assert.Equal(t, tags, has, address)
}

// since are the lines of the inventory that were not there before.
func (p ProjectMetal) since(before string) []string {
	known := map[string]bool{}
	for line := range strings.SplitSeq(before, "\n") {
		known[line] = true
	}
	var lines []string
	for line := range strings.SplitSeq(p.Inventory(), "\n") {
		if !known[line] && line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}
