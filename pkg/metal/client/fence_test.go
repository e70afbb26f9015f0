// SPDX-License-Identifier: Apache-2.0

package client

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metaltest"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestWrite_IsNotSentBehindClosedFence(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		id := e.allocate(simulator.ProjectA)
		cause := errors.New("another server is the active one")
		shut := false
		fenced, err := New(Options{URL: "http://metal-api.test", HMAC: simulator.DefaultHMAC.Edit, Transport: e.transport, Fence: func() error {
			if shut {
				return cause
			}
			return nil
		}})
		require.NoError(t, err)
		ctx := t.Context()
		network, err := fenced.AllocateNetwork(ctx, metal.NetworkRequest{Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Name: "n"})
		require.NoError(t, err, "while it is open")

		shut = true
		e.sim.ResetCalls()
		writes := map[string]error{}
		_, writes["machine allocate"] = fenced.AllocateMachine(ctx, metaltest.MachineRequest(network.ID))
		_, writes["firewall allocate"] = fenced.AllocateFirewall(ctx, metal.FirewallRequest{MachineRequest: metaltest.MachineRequest(network.ID)})
		_, writes["network allocate"] = fenced.AllocateNetwork(ctx, metal.NetworkRequest{Project: simulator.ProjectA, Partition: simulator.DefaultPartition})
		_, writes["ip allocate"] = fenced.AllocateIP(ctx, metal.IPRequest{Project: simulator.ProjectA, Network: simulator.InternetNetwork})
		_, writes["machine free"] = fenced.FreeMachine(ctx, id)
		_, writes["network free"] = fenced.FreeNetwork(ctx, network.ID)
		_, writes["ip free"] = fenced.FreeIP(ctx, "203.0.113.1")
		_, writes["ip update"] = fenced.SetIPTags(ctx, "203.0.113.1", nil)
		writes["machine power on"] = fenced.RequestPower(ctx, id, metal.PowerOn)
		writes["machine led on"] = fenced.SetLED(ctx, id, true, "")
		_, writes["machine reinstall"] = fenced.Reinstall(ctx, id, simulator.MachineImage, "")
		_, writes["machine state set"] = fenced.SetState(ctx, id, metal.StateLocked, "hold")
		for op, err := range writes {
			require.ErrorIs(t, err, cause, op)
			require.Equal(t, metal.Unavailable, metal.KindOf(err), "%s: it is certain that nothing was done: %v", op, err)
		}
		require.Empty(t, e.sim.Calls())
		_, err = fenced.Machine(ctx, id)
		require.NoError(t, err, "reads need no fence")
		_, err = fenced.Project(ctx, simulator.ProjectA)
		require.NoError(t, err)
		_, err = fenced.PowerState(ctx, id)
		require.NoError(t, err)
		_, err = fenced.ConsolePassword(ctx, id, "ticket 4711: no ssh")
		require.NoError(t, err, "it changes nothing")
	})
}
