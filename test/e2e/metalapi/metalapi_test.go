// SPDX-License-Identifier: Apache-2.0

package metalapi

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/metal-stack/metal-go/api/client/health"
	"github.com/metal-stack/metal-go/api/client/image"
	"github.com/metal-stack/metal-go/api/client/ip"
	"github.com/metal-stack/metal-go/api/client/machine"
	"github.com/metal-stack/metal-go/api/client/network"
	"github.com/metal-stack/metal-go/api/client/partition"
	"github.com/metal-stack/metal-go/api/client/size"
	"github.com/metal-stack/metal-go/api/models"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

func TestMetalAPIOfCluster_ServesMetalCCM(t *testing.T) {
	t.Parallel()
	env := start(t)
	id, machineID := env.allocatedCluster(t, "rose", "node-1")
	api := env.metalAPI(t, "rose")

	healthy, err := api.Health.Health(health.NewHealthParams(), nil)
	require.NoError(t, err)
	assert.Equal(t, "healthy", *healthy.Payload.Status)

	m, err := api.Machine.FindMachine(machine.NewFindMachineParams().WithID(machineID), nil)
	require.NoError(t, err)
	assert.Equal(t, simulator.SmallSize, *m.Payload.Size.ID)
	assert.Equal(t, simulator.DefaultPartition, *m.Payload.Partition.ID)
	assert.Equal(t, projectA, *m.Payload.Allocation.Project)
	assert.Contains(t, m.Payload.Tags, "cluster.metal-stack.io/id="+id)
	require.NotEmpty(t, m.Payload.Allocation.Networks)
	assert.Equal(t, "privateprimaryunshared", *m.Payload.Allocation.Networks[0].Networktype)
	assert.NotEmpty(t, m.Payload.Allocation.Networks[0].Ips)
	asn := false
	for _, tag := range m.Payload.Tags {
		asn = asn || strings.HasPrefix(tag, "machine.metal-stack.io/network.primary.asn=")
	}
	assert.True(t, asn, "without the label, the BGP configuration of all Nodes fails")

	found, err := api.Machine.FindMachines(machine.NewFindMachinesParams().WithBody(&models.V1MachineFindRequest{AllocationHostname: "node-1", AllocationProject: projectA}), nil)
	require.NoError(t, err)
	require.Len(t, found.Payload, 1)
	assert.Equal(t, machineID, *found.Payload[0].ID)

	// A Service of type LoadBalancer comes, and goes.
	address, err := allocateIP(api, id, "web")
	require.NoError(t, err)
	again, err := allocateIP(api, id, "web")
	require.NoError(t, err)
	assert.Equal(t, *address.Ipaddress, *again.Ipaddress, "the answer of the first request may have been lost")
	byTag := func() []*models.V1IPResponse {
		found, err := api.IP.FindIPs(ip.NewFindIPsParams().WithBody(&models.V1IPFindRequest{Projectid: projectA, Tags: []string{serviceTag(id, "web")}}), nil)
		require.NoError(t, err)
		return found.Payload
	}
	require.Len(t, byTag(), 1)
	assert.Equal(t, []string{serviceTag(id, "web")}, byTag()[0].Tags, "metal-ccm frees an address when no other tag is left")
	updated, err := api.IP.UpdateIP(ip.NewUpdateIPParams().WithBody(&models.V1IPUpdateRequest{Ipaddress: address.Ipaddress, Tags: []string{serviceTag(id, "web"), serviceTag(id, "web")}}), nil)
	require.NoError(t, err)
	assert.Equal(t, []string{serviceTag(id, "web")}, updated.Payload.Tags)
	_, err = api.IP.FreeIP(ip.NewFreeIPParams().WithID(*address.Ipaddress), nil)
	require.NoError(t, err)
	assert.Empty(t, byTag())

	// A Service that is rolled back: its tags are cleared before the address is freed.
	address, err = allocateIP(api, id, "mail")
	require.NoError(t, err)
	updated, err = api.IP.UpdateIP(ip.NewUpdateIPParams().WithBody(&models.V1IPUpdateRequest{Ipaddress: address.Ipaddress, Tags: []string{}}), nil)
	require.NoError(t, err)
	assert.Empty(t, updated.Payload.Tags)
	_, err = api.IP.FreeIP(ip.NewFreeIPParams().WithID(*address.Ipaddress), nil)
	require.NoError(t, err)

	networks, err := api.Network.ListNetworks(network.NewListNetworksParams(), nil)
	require.NoError(t, err)
	assert.NotEmpty(t, networks.Payload)
	for _, n := range networks.Payload {
		assert.NotEqual(t, projectB, n.Projectid)
	}
	sizes, err := api.Size.ListSizes(size.NewListSizesParams(), nil)
	require.NoError(t, err)
	assert.NotEmpty(t, sizes.Payload)
	images, err := api.Image.ListImages(image.NewListImagesParams(), nil)
	require.NoError(t, err)
	assert.NotEmpty(t, images.Payload)
	partitions, err := api.Partition.ListPartitions(partition.NewListPartitionsParams(), nil)
	require.NoError(t, err)
	assert.NotEmpty(t, partitions.Payload)
}

func TestMetalAPIOfCluster_EphemeralAddressServesOneService(t *testing.T) {
	t.Parallel()
	env := start(t)
	id, _ := env.allocatedCluster(t, "rose", "node-1")
	api := env.metalAPI(t, "rose")
	address, err := allocateIP(api, id, "fixed")
	require.NoError(t, err)
	// A Service that kept the address in spec.loadBalancerIP when it was rolled back.
	_, err = api.IP.UpdateIP(ip.NewUpdateIPParams().WithBody(&models.V1IPUpdateRequest{Ipaddress: address.Ipaddress, Tags: []string{serviceTag(id, "fixed"), serviceTag(id, "web")}}), nil)
	require.ErrorContains(t, err, "an ephemeral address is for one Service")
}

func TestMetalAPIOfCluster_AnswersReadsWhileMetalAPIIsAway(t *testing.T) {
	t.Parallel()
	env := start(t)
	id, machineID := env.allocatedCluster(t, "rose", "node-1")
	api := env.metalAPI(t, "rose")
	find := ip.NewFindIPsParams().WithBody(&models.V1IPFindRequest{Projectid: projectA})
	address, err := allocateIP(api, id, "mail")
	require.NoError(t, err)
	before, err := api.IP.FindIPs(find, nil)
	require.NoError(t, err)
	comeBack := env.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultRefused})
	defer comeBack()
	healthy, err := api.Health.Health(health.NewHealthParams(), nil)
	require.NoError(t, err)
	assert.Equal(t, "healthy", *healthy.Payload.Status, "with another status, metal-ccm ends")
	_, err = api.Machine.FindMachine(machine.NewFindMachineParams().WithID(machineID), nil)
	require.NoError(t, err)
	after, err := api.IP.FindIPs(find, nil)
	require.NoError(t, err)
	assert.Len(t, after.Payload, len(before.Payload))
	for name, write := range map[string][3]string{
		"allocate": {"POST", "v1/ip/allocate", `{"networkid":"` + simulator.InternetNetwork + `","tags":["` + serviceTag(id, "web") + `"]}`},
		"update":   {"POST", "v1/ip", `{"ipaddress":"` + *address.Ipaddress + `","tags":[]}`},
		"free":     {"DELETE", "v1/ip/free/" + *address.Ipaddress, ""},
	} {
		status, answer := env.ask(t, write[0], "rose", write[1], write[2])
		assert.Equal(t, http.StatusServiceUnavailable, status, "%s: %s", name, answer)
		var inner string
		require.NoError(t, json.Unmarshal([]byte(answer), &inner), "%s: in the metal-api's form: %s", name, answer)
		assert.Contains(t, inner, `{"statuscode":503,"message":"`, name)
	}
	after, err = api.IP.FindIPs(find, nil)
	require.NoError(t, err)
	assert.Len(t, after.Payload, len(before.Payload), "also after a write that failed")
	comeBack()
	_, err = api.IP.FreeIP(ip.NewFreeIPParams().WithID(*address.Ipaddress), nil)
	require.NoError(t, err)
}

func TestMetalAPIOfCluster_FloodIsRefused(t *testing.T) {
	t.Parallel()
	env := start(t)
	env.allocatedCluster(t, "rose", "node-1")
	// The limit of writes, which a slow machine reaches, too: one request is in flight at a time, and
	// each second allows one more.
	status := 0
	for i := 0; i < 1000 && status != http.StatusTooManyRequests; i++ {
		status, _ = env.ask(t, "DELETE", "rose", "v1/ip/free/198.51.100.1", "")
	}
	assert.Equal(t, http.StatusTooManyRequests, status)
}

func TestMetalAPIOfCluster_ClusterThatIsReleasedGetsNoAddresses(t *testing.T) {
	t.Parallel()
	env := start(t)
	ctx := t.Context()
	_, err := env.clusters.Create(ctx, objects.Cluster("rose"), metav1.CreateOptions{})
	require.NoError(t, err)
	status, answer := env.ask(t, "GET", "rose", "v1/machine", "")
	assert.Equal(t, http.StatusConflict, status, "no cluster id yet: %s", answer)
	assert.Contains(t, answer, `{\"statuscode\":409,\"message\":\"`, "in the metal-api's form")
	status, answer = env.ask(t, "GET", "lily", "v1/machine", "")
	assert.Equal(t, http.StatusNotFound, status, answer)
	assert.Contains(t, answer, `{\"statuscode\":404,\"message\":\"`)
	c, err := env.clusters.Allocate(ctx, "rose", &v1alpha4.Allocation{}, metav1.CreateOptions{})
	require.NoError(t, err)
	api := env.metalAPI(t, "rose")
	address, err := allocateIP(api, c.Status.ClusterID, "web")
	require.NoError(t, err)
	require.NoError(t, env.clusters.Delete(ctx, "rose", metav1.DeleteOptions{}))
	_, err = allocateIP(api, c.Status.ClusterID, "late")
	require.ErrorContains(t, err, "is being deleted")
	err = env.Client().InfrastructureV1alpha4().RESTClient().Delete().Namespace(teamA).Resource("metalstackclusters").Name("rose").SubResource("allocation").Do(ctx).Error()
	require.NoError(t, err)
	assert.Empty(t, env.addressState(*address.Ipaddress).Project, "freed with the cluster")
}

// A spec that names the cluster id of another cluster gives nothing of it.
func TestMetalAPIOfCluster_ClusterIDOfAnotherIsRefused(t *testing.T) {
	t.Parallel()
	v := newVictims(t)
	create := func(name, id string, external bool) {
		_, err := v.clusters.Create(t.Context(), objects.Cluster(name, func(c *v1alpha4.MetalStackCluster) {
			c.Spec.ClusterID = id
			if external {
				metav1.SetMetaDataAnnotation(&c.ObjectMeta, infrastructure.ManagedByAnnotation, "somebody")
			}
		}), metav1.CreateOptions{})
		require.NoError(t, err)
	}
	create("copy", v.lily, false)
	create("external-copy", v.lily, true)
	create("external", "an-id", true)
	for _, name := range []string{"copy", "external-copy"} {
		for _, request := range [][3]string{
			{"GET", "v1/machine"}, {"GET", "v1/machine/" + v.lilysMachine}, {"GET", "v1/ip"}, {"DELETE", "v1/ip/free/" + v.lilysService},
			{"POST", "v1/ip", `{"ipaddress":"` + v.lilysService + `","tags":[]}`},
		} {
			status, answer := v.ask(t, request[0], name, request[1], request[2])
			assert.Equal(t, http.StatusConflict, status, "%s %v: %s", name, request, answer)
			assert.Contains(t, answer, "must be unique", name)
		}
	}
	for _, name := range []string{"lily", "external"} {
		status, answer := v.ask(t, "GET", name, "v1/machine", "")
		assert.Equal(t, http.StatusOK, status, "%s: %s", name, answer)
	}
	v.requireUntouched(t)
}
