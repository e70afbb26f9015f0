// SPDX-License-Identifier: Apache-2.0

package metalapi

import (
	"slices"
	"testing"
	"time"

	metalgo "github.com/metal-stack/metal-go"
	"github.com/metal-stack/metal-go/api/client/firewall"
	"github.com/metal-stack/metal-go/api/client/health"
	"github.com/metal-stack/metal-go/api/client/image"
	"github.com/metal-stack/metal-go/api/client/ip"
	"github.com/metal-stack/metal-go/api/client/machine"
	"github.com/metal-stack/metal-go/api/client/network"
	"github.com/metal-stack/metal-go/api/client/partition"
	"github.com/metal-stack/metal-go/api/client/project"
	"github.com/metal-stack/metal-go/api/client/size"
	"github.com/metal-stack/metal-go/api/client/version"
	"github.com/metal-stack/metal-go/api/models"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// TestMetalAPIOfCluster_ServesMetalctl makes the requests of metalctl's commands as it
// makes them: lists that are not set are empty and not null, and what its tables show is
// read without a look whether it is there.
func TestMetalAPIOfCluster_ServesMetalctl(t *testing.T) {
	t.Parallel()
	env := start(t)
	_, machineID := env.allocatedCluster(t, "rose", "node-1")
	require.NoError(t, env.sim.PhoneHome(machineID))
	tlsConfig, err := rest.TLSConfigFor(env.Config)
	require.NoError(t, err)
	c, err := metalgo.NewClient(env.URL+metalAPIPath("rose"), metalgo.HMACAuth("", ""), metalgo.BearerToken(""), metalgo.TLSClientConfig(tlsConfig))
	require.NoError(t, err)
	none := []string{}

	// metalctl health
	healthy, err := c.Health().Health(health.NewHealthParams(), nil)
	require.NoError(t, err)
	assert.Equal(t, "healthy", *healthy.Payload.Status)

	// metalctl machine ls, machine ls --mac, machine describe
	list := &models.V1MachineFindRequest{NetworkDestinationPrefixes: none, NetworkIds: none, NetworkIps: none, Tags: none}
	machines, err := c.Machine().FindMachines(machine.NewFindMachinesParams().WithBody(list), nil)
	require.NoError(t, err)
	require.Len(t, machines.Payload, 1)
	m := machines.Payload[0]
	assert.Equal(t, machineID, *m.ID)
	assert.Empty(t, *m.State.Value+*m.State.Description+*m.Ledstate.Value)
	assert.NotEmpty(t, m.Rackid)
	assert.NotEmpty(t, *m.Events.Log[0].Event)
	assert.False(t, time.Time(m.Events.LastEventTime).IsZero() || time.Time(*m.Allocation.Created).IsZero())
	assert.NotEmpty(t, m.Allocation.Image.Name)
	assert.NotEmpty(t, *m.Allocation.Networks[0].Nattypev2+*m.Allocation.Networks[0].Networktypev2)
	list.NicsMacAddresses = []string{"00:03:00:00:03:01"}
	_, err = c.Machine().FindMachines(machine.NewFindMachinesParams().WithBody(list), nil)
	require.ErrorContains(t, err, "nics_mac_addresses")
	_, err = c.Machine().FindMachine(machine.NewFindMachineParams().WithID(machineID), nil)
	require.NoError(t, err)

	// metalctl network ip ls, network ip describe
	ips, err := c.IP().FindIPs(ip.NewFindIPsParams().WithBody(&models.V1IPFindRequest{Tags: none}), nil)
	require.NoError(t, err)
	require.NotEmpty(t, ips.Payload)
	address, err := c.IP().FindIP(ip.NewFindIPParams().WithID(*ips.Payload[0].Ipaddress), nil)
	require.NoError(t, err)
	assert.False(t, time.Time(address.Payload.Created).IsZero() || time.Time(address.Payload.Changed).IsZero())

	// metalctl network ls, network describe
	networks, err := c.Network().FindNetworks(network.NewFindNetworksParams().WithBody(&models.V1NetworkFindRequest{Prefixes: none, Destinationprefixes: none}), nil)
	require.NoError(t, err)
	i := slices.IndexFunc(networks.Payload, func(n *models.V1NetworkResponse) bool { return *n.ID == simulator.InternetNetwork })
	require.GreaterOrEqual(t, i, 0)
	assert.True(t, *networks.Payload[i].Nat)
	_, err = c.Network().FindNetwork(network.NewFindNetworkParams().WithID(simulator.InternetNetwork), nil)
	require.NoError(t, err)

	// metalctl image ls, image describe
	images, err := c.Image().FindImages(image.NewFindImagesParams().WithBody(&models.V1ImageFindRequest{Features: none}).WithShowUsage(new(false)), nil)
	require.NoError(t, err)
	require.NotEmpty(t, images.Payload)
	assert.False(t, time.Time(*images.Payload[0].ExpirationDate).IsZero())
	_, err = c.Image().FindImage(image.NewFindImageParams().WithID(*images.Payload[0].ID), nil)
	require.NoError(t, err)

	// metalctl size ls, size describe, partition ls, partition describe
	sizes, err := c.Size().ListSizes(size.NewListSizesParams(), nil)
	require.NoError(t, err)
	require.NotEmpty(t, sizes.Payload)
	assert.NotEmpty(t, *sizes.Payload[0].Constraints[0].Type)
	_, err = c.Size().FindSize(size.NewFindSizeParams().WithID(simulator.SmallSize), nil)
	require.NoError(t, err)
	partitions, err := c.Partition().ListPartitions(partition.NewListPartitionsParams(), nil)
	require.NoError(t, err)
	require.NotEmpty(t, partitions.Payload)
	_, err = c.Partition().FindPartition(partition.NewFindPartitionParams().WithID(simulator.DefaultPartition), nil)
	require.NoError(t, err)

	// What is not served: 404.
	for command, call := range map[string]func() error{
		"machine power off": func() error {
			_, err := c.Machine().MachineOff(machine.NewMachineOffParams().WithID(machineID).WithBody([]string{}), nil)
			return err
		},
		"machine rm": func() error {
			_, err := c.Machine().FreeMachine(machine.NewFreeMachineParams().WithID(machineID), nil)
			return err
		},
		"firewall ls": func() error {
			_, err := c.Firewall().FindFirewalls(firewall.NewFindFirewallsParams().WithBody(&models.V1FirewallFindRequest{}), nil)
			return err
		},
		"project ls": func() error {
			_, err := c.Project().FindProjects(project.NewFindProjectsParams().WithBody(&models.V1ProjectFindRequest{}), nil)
			return err
		},
		"version": func() error {
			_, err := c.Version().Info(version.NewInfoParams(), nil)
			return err
		},
	} {
		require.ErrorContains(t, call(), "404", command)
	}
}
