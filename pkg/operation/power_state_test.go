// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

func TestPowerState_ShowsWhatTheControllerReported(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.machine("node")
	for _, c := range []struct {
		reported string
		shown    infrastructure.PowerState
	}{{"ON", infrastructure.PowerStateOn}, {"OFF", infrastructure.PowerStateOff}, {"", infrastructure.PowerStateUnknown}, {"else", infrastructure.PowerStateUnknown}} {
		require.Equal(t, c.shown, powerStateOf(c.reported))
	}
	for range 5 {
		state, err := env.o.PowerState(env.context(), target("node"))
		require.NoError(t, err)
		require.Equal(t, m.UID, state.UID)
		require.NotEmpty(t, state.Status.State)
	}
	require.Equal(t, 1, env.sim.CallsOf("machine-ipmi-get"), "it is cached for some seconds")

	require.NoError(t, env.sim.ForceFree(m.Status.Allocation.MachineID))
	env.clock.Step(time.Minute)
	_, err := env.o.PowerState(env.context(), target("node"))
	requireCode(t, http.StatusConflict, err, "not allocated any more")
	up := env.down("machine-ipmi-get", http.StatusBadGateway, "away")
	env.clock.Step(time.Minute)
	_, err = env.o.PowerState(env.context(), target("node"))
	requireCode(t, http.StatusServiceUnavailable, err, "away")
	up()
}

// What was requested is seen some time after it was sent.
func TestPowerState_FollowsRequest(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	require.NoError(t, env.power(env.o, "node", infrastructure.PowerOff, "off"))
	requested := env.clock.Now()
	var state infrastructure.MachinePowerStatus
	for range 10 {
		env.clock.Step(5 * time.Second)
		env.sim.Advance()
		power, err := env.o.PowerState(env.context(), target("node"))
		require.NoError(t, err)
		if state = power.Status; state.State == infrastructure.PowerStateOff {
			break
		}
	}
	require.Equal(t, infrastructure.PowerStateOff, state.State)
	require.True(t, state.ObservedTime.After(requested))
	require.NotEmpty(t, state.BMCVersion)
}

func TestPowerState_CountsAgainstTheLimitOfTheNamespace(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	for n := range 100 {
		require.NoError(t, env.o.opts.Catalogue.AcquireMachineLookup(env.o.opts.Catalogue.WithAllowance(env.context(), teamA), fmt.Sprint(n)))
	}
	_, err := env.o.PowerState(env.context(), target("node"))
	requireCode(t, http.StatusTooManyRequests, err, "too many lookups")
	env.clock.Step(time.Minute)
	_, err = env.o.PowerState(env.context(), target("node"))
	require.NoError(t, err)
}
