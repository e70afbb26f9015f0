package simulator_test

import (
	"testing"

	machineapi "github.com/metal-stack/metal-go/api/client/machine"
	networkapi "github.com/metal-stack/metal-go/api/client/network"
	"github.com/metal-stack/metal-go/api/models"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator/simtest"
)

func ref[T any](v T) *T { return &v }

func TestAMachineGetsItsNetworkAndAddressesAndGivesThemBack(t *testing.T) {
	t.Parallel()
	s := simtest.Start(t, simulator.Config{Seed: 1})
	nw, err := s.Edit.Network().AllocateNetwork(networkapi.NewAllocateNetworkParams().WithBody(&models.V1NetworkAllocateRequest{
		Name: "net", Partitionid: simulator.DefaultPartition, Projectid: simulator.ProjectA,
	}), nil)
	require.NoError(t, err)
	m, err := s.Edit.Machine().AllocateMachine(machineapi.NewAllocateMachineParams().WithBody(&models.V1MachineAllocateRequest{
		Name: "m", Hostname: "m", Projectid: ref(simulator.ProjectA), Partitionid: ref(simulator.DefaultPartition), Sizeid: ref(simulator.SmallSize),
		Imageid: ref(simulator.MachineImage), Networks: []*models.V1MachineAllocationNetwork{{Networkid: nw.Payload.ID, Autoacquire: ref(true)}},
		Tags: []string{"a=b"},
	}), nil)
	require.NoError(t, err)
	require.Contains(t, m.Payload.Tags, "a=b")
	require.Equal(t, []string{"10.0.0.1", "2001:db8:0:10::1"}, m.Payload.Allocation.Networks[0].Ips)
	require.NoError(t, s.Sim.PhoneHome(*m.Payload.ID))

	_, err = s.Edit.Machine().FreeMachine(machineapi.NewFreeMachineParams().WithID(*m.Payload.ID), nil)
	require.NoError(t, err)
	_, err = s.Edit.Network().FreeNetwork(networkapi.NewFreeNetworkParams().WithID(*nw.Payload.ID), nil)
	require.NoError(t, err)
	require.Empty(t, s.Sim.Books().IPs)
	require.Equal(t, 1, s.Sim.Books().Allocations("a=b"))
	require.Equal(t, 1, s.Sim.Books().Frees("a=b"))
}
