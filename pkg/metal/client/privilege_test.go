// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metaltest"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// far is an address of the same network that is not allocated.
func far(address string) string {
	a := netip.MustParseAddr(address)
	for range 40 {
		a = a.Next()
	}
	return a.String()
}

// everything makes each call of the client once, in an order in which each can
// succeed, and returns what each was answered.
func everything(ctx context.Context, c *Client, network, machine, address string) map[string]error {
	answers := map[string]error{}
	did := func(id string, err error) { answers[id] = err }
	_, err := c.Machine(ctx, machine)
	did("findMachine", err)
	_, err = c.FindMachines(ctx, metal.MachineQuery{Project: simulator.ProjectA})
	did("findMachines", err)
	_, err = c.ListMachines(ctx)
	did("listMachines", err)
	_, err = c.Network(ctx, network)
	did("findNetwork", err)
	_, err = c.FindNetworks(ctx, metal.NetworkQuery{Project: simulator.ProjectA})
	did("findNetworks", err)
	_, err = c.ListNetworks(ctx)
	did("listNetworks", err)
	_, err = c.IP(ctx, address)
	did("findIP", err)
	_, err = c.FindIPs(ctx, metal.IPQuery{Project: simulator.ProjectA})
	did("findIPs", err)
	_, err = c.ListSizes(ctx)
	did("listSizes", err)
	_, err = c.ListImages(ctx)
	did("listImages", err)
	_, err = c.ListPartitions(ctx)
	did("listPartitions", err)
	_, err = c.ListProjects(ctx)
	did("listProjects", err)
	_, err = c.Project(ctx, simulator.ProjectA)
	did("findProject", err)
	_, err = c.ListReservations(ctx)
	did("listSizeReservations", err)
	_, err = c.ListSizeImageConstraints(ctx)
	did("listSizeImageConstraints", err)
	_, err = c.ListLayouts(ctx)
	did("listFilesystemLayouts", err)

	m := metal.MachineRequest{
		Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Size: simulator.SmallSize,
		Image: simulator.MachineImage, Name: "node", Hostname: "node", Networks: []string{network},
	}
	_, err = c.AllocateMachine(ctx, m)
	did("allocateMachine", err)
	m.Image, m.Name, m.Networks = simulator.FirewallImage, "firewall", []string{network, simulator.InternetNetwork}
	_, err = c.AllocateFirewall(ctx, metal.FirewallRequest{MachineRequest: m})
	did("allocateFirewall", err)
	n, err := c.AllocateNetwork(ctx, metal.NetworkRequest{Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Name: "net"})
	did("allocateNetwork", err)
	_, err = c.AllocateIP(ctx, metal.IPRequest{Project: simulator.ProjectA, Network: simulator.InternetNetwork, Type: metal.TypeStatic})
	did("allocateIP", err)
	_, err = c.AllocateIP(ctx, metal.IPRequest{Project: simulator.ProjectA, Network: simulator.InternetNetwork, Type: metal.TypeStatic, Address: far(address)})
	did("allocateSpecificIP", err)
	_, err = c.SetIPTags(ctx, address, []string{"a=b"})
	did("updateIP", err)
	for action, id := range map[metal.PowerAction]string{
		metal.PowerOn: "machineOn", metal.PowerOff: "machineOff", metal.PowerReset: "machineReset", metal.PowerCycle: "machineCycle",
		metal.PowerBootDisk: "machineDisk", metal.PowerBootPXE: "machinePxe", metal.PowerBootBIOS: "machineBios",
	} {
		did(id, c.RequestPower(ctx, machine, action))
	}
	did("chassisIdentifyLEDOn", c.SetLED(ctx, machine, true, "here"))
	did("chassisIdentifyLEDOff", c.SetLED(ctx, machine, false, ""))
	_, err = c.PowerState(ctx, machine)
	did("findIPMIMachine", err)
	_, err = c.ConsolePassword(ctx, machine, "ticket 4711: no ssh")
	did("getMachineConsolePassword", err)
	_, err = c.Reinstall(ctx, machine, exactImage, "again")
	did("reinstallMachine", err)
	_, err = c.SetState(ctx, machine, metal.StateLocked, "hold")
	did("setMachineState", err)
	_, _ = c.SetState(ctx, machine, metal.StateAvailable, "")
	_, err = c.FreeMachine(ctx, machine)
	did("freeMachine", err)
	_, err = c.FreeIP(ctx, address)
	did("freeIP", err)
	if n != nil {
		network = n.ID
	}
	_, err = c.FreeNetwork(ctx, network)
	did("freeNetwork", err)
	return answers
}

// privileged makes every call with the key of a technical user.
func privileged(t *testing.T, user, key string) (answers map[string]error) {
	t.Helper()
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		network := e.network(simulator.ProjectA)
		m, err := e.client.AllocateMachine(t.Context(), metaltest.MachineRequest(network))
		require.NoError(t, err)
		ip, err := e.client.AllocateIP(t.Context(), metal.IPRequest{Project: simulator.ProjectA, Network: simulator.InternetNetwork, Type: metal.TypeStatic})
		require.NoError(t, err)
		c, err := New(Options{URL: "http://metal-api.test", HMAC: key, AuthType: user, Transport: e.transport})
		require.NoError(t, err)
		answers = everything(t.Context(), c, network, m.ID, ip.Address)
	})
	assert.ElementsMatch(t, slices.Collect(maps.Keys(operations)), slices.Collect(maps.Keys(answers)), "every call of the client is made")
	return answers
}

func TestPrivilege_MetalEditAllowsEveryCall(t *testing.T) {
	t.Parallel()
	for id, err := range privileged(t, AuthEdit, simulator.DefaultHMAC.Edit) {
		assert.NoError(t, err, id)
	}
}

func TestPrivilege_MetalViewAllowsReadsOnly(t *testing.T) {
	t.Parallel()
	for id, err := range privileged(t, "Metal-View", simulator.DefaultHMAC.View) {
		if operations[id].class == classRead || id == "findIPMIMachine" {
			assert.NoError(t, err, id)
			continue
		}
		var e *metal.Error
		require.ErrorAs(t, err, &e, id)
		assert.Equal(t, http.StatusForbidden, e.Status, id)
		assert.Equal(t, metal.Unavailable, e.Kind, "%s: it changed nothing, and is not reported as a refusal", id)
	}
}
