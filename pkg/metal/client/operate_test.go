// SPDX-License-Identifier: Apache-2.0

package client

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metaltest"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// exactImage is an image's id, and no alias.
const exactImage = simulator.MachineImage + ".20260101"

const someMachine = "00000000-0000-4000-8000-000000000001"

func TestOperate_RequestsPowerAndReinstallation(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		ctx, id := t.Context(), e.allocate(simulator.ProjectA)
		var paths []string
		e.transport.Around(func(r *http.Request) { paths = append(paths, r.Method+" "+r.URL.RequestURI()) }, nil)
		for action := range powerCalls {
			paths = nil
			require.NoError(t, e.client.RequestPower(ctx, id, action))
			require.Equal(t, []string{"POST /v1/machine/" + id + "/power/" + string(action)}, paths)
		}
		err := e.client.RequestPower(ctx, id, "explode")
		require.Equal(t, metal.Refused, metal.KindOf(err), "%v", err)

		paths = nil
		require.NoError(t, e.client.SetLED(ctx, id, true, "here I am"))
		require.NoError(t, e.client.SetLED(ctx, id, false, ""))
		require.Equal(t, []string{
			"POST /v1/machine/" + id + "/power/chassis-identify-led-on?description=here+I+am",
			"POST /v1/machine/" + id + "/power/chassis-identify-led-off",
		}, paths)

		locked, err := e.client.SetState(ctx, id, metal.StateLocked, "hold")
		require.NoError(t, err)
		require.Equal(t, []string{metal.StateLocked, "hold"}, []string{locked.State, locked.StateDescription})
		_, err = e.client.Reinstall(ctx, id, exactImage, "why")
		require.Equal(t, metal.Refused, metal.KindOf(err), "a locked one: %v", err)
		free, err := e.client.SetState(ctx, id, metal.StateAvailable, "")
		require.NoError(t, err)
		require.Empty(t, free.State+free.StateDescription)
		m, err := e.client.Reinstall(ctx, id, exactImage, "why")
		require.NoError(t, err)
		require.True(t, m.Allocation.Reinstall)
		_, err = e.client.Reinstall(ctx, id, "ubuntu-24.04", "an alias")
		require.Equal(t, metal.Refused, metal.KindOf(err), "%v", err)
		var refused *metal.Error
		require.ErrorAs(t, err, &refused)
		require.Equal(t, metal.FieldImage, refused.Field)
	})
}

// With the queue away it is not known what was done.
func TestOperate_IsUncertainWhenTheQueueIsAway(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		ctx, id := t.Context(), e.allocate(simulator.ProjectA)
		e.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultBackendDown, Backend: "nsq"})
		for action := range powerCalls {
			err := e.client.RequestPower(ctx, id, action)
			require.Equal(t, metal.Uncertain, metal.KindOf(err), "%s: %v", action, err)
		}
		require.Equal(t, metal.Uncertain, metal.KindOf(e.client.SetLED(ctx, id, true, "")))
		_, err := e.client.Reinstall(ctx, id, exactImage, "why")
		require.Equal(t, metal.Uncertain, metal.KindOf(err), "%v", err)
		m, err := e.client.Machine(ctx, id)
		require.NoError(t, err)
		require.True(t, m.Allocation.Reinstall, "it is marked")
		_, err = e.client.SetState(ctx, id, metal.StateLocked, "hold")
		require.NoError(t, err, "needs no queue")
		_, err = e.client.ConsolePassword(ctx, id, "ticket 4711: no ssh")
		require.NoError(t, err, "needs no queue")
	})
}

const reportedMachine = `{"id":"` + someMachine + `","allocation":{"allocationuuid":"a1","project":"p1","user_data":"the-secret"},"bios":{"version":"3.2"},` +
	`"ipmi":{"address":"127.0.0.1:623","mac":"00:0b","user":"ADMIN-user","password":"the-secret","powerstate":"OFF","bmcversion":"2.14.0","last_updated":"2026-11-28T16:53:14.589Z"}}`

func TestPowerState_ReadsNoCredential(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		e.transport.Answer(metaltest.Respond(200, "application/json", reportedMachine))
		state, err := e.client.PowerState(t.Context(), someMachine)
		require.NoError(t, err)
		require.Equal(t, "a1", state.Machine.AllocationUUID())
		require.Equal(t, "p1", state.Machine.Project())
		state.Machine = nil
		require.Equal(t, &metal.PowerState{
			State: "OFF", Time: time.Date(2026, 11, 28, 16, 53, 14, 589_000_000, time.UTC), BMCVersion: "2.14.0", BIOSVersion: "3.2",
		}, state)
	})
}

// Every recorded answer that shows a controller is read without what it takes to reach it.
func TestPowerState_ReadsRecordings(t *testing.T) {
	n := 0
	for _, r := range recorded(t) {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.Path, "/ipmi") || r.Status != http.StatusOK {
			continue
		}
		n++
		runTest(t, envConfig{}, func(t *testing.T, e *env) {
			e.transport.Answer(metaltest.Respond(200, "application/json", string(r.Body)))
			state, err := e.client.PowerState(t.Context(), someMachine)
			require.NoError(t, err, r.name)
			require.NotEmpty(t, state.Machine.ID, r.name)
			text := fmt.Sprintf("%+v %+v", state, state.Machine)
			for _, secret := range []string{"ADMIN", "127.0.0.", "00:0b:"} {
				require.NotContains(t, text, secret, r.name)
			}
		})
	}
	require.Greater(t, n, 3)
}

// Whatever of an answer cannot be read, errors say nothing of it.
func TestSecrets_AreInNoError(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		const password = `{"id":"` + someMachine + `","console_password":"the-secret"}`
		for _, whole := range []string{reportedMachine, password} {
			answers := []string{
				strings.Replace(whole, `"the-secret"`, `["the-secret"]`, 1), strings.Replace(whole, `"the-secret"`, `the-secret`, 1),
				strings.Replace(whole, `"the-secret"`, `"the-secret\x"`, 1), whole + "the-secret", whole + whole, "[" + whole + "]", `"the-secret"`,
				strings.Replace(whole, someMachine, "", 1), strings.Replace(whole, someMachine, "the-secret", 1),
			}
			for cut := range len(whole) {
				answers = append(answers, whole[:cut])
			}
			for _, answer := range answers {
				e.transport.Answer(metaltest.Respond(200, "application/json", answer))
				_, stateErr := e.client.PowerState(t.Context(), someMachine)
				_, layoutErr := e.client.Layout(t.Context(), someMachine)
				read, err := e.client.ConsolePassword(t.Context(), someMachine, "ticket 4711: no ssh")
				if whole == password && assert.Error(t, err, answer) {
					require.Equal(t, metal.Unavailable, metal.KindOf(err))
				}
				require.Empty(t, read)
				for _, err := range []error{stateErr, layoutErr, err} {
					for ; err != nil; err = errors.Unwrap(err) {
						require.NotContains(t, err.Error(), "secret", "%q", answer)
						require.NotContains(t, err.Error(), "ADMIN", "%q", answer)
					}
				}
			}
		}
		e.transport.Answer(metaltest.Respond(200, "application/json", password))
		read, err := e.client.ConsolePassword(t.Context(), someMachine, "ticket 4711: no ssh")
		require.NoError(t, err)
		require.Equal(t, "the-secret", read)
	})
}

func TestLayout_SaysWhetherItCanBeReinstalled(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		layout, err := e.client.Layout(t.Context(), e.allocate(simulator.ProjectA))
		require.NoError(t, err)
		require.NotEmpty(t, layout.ID)
		require.NotEmpty(t, layout.AllocationUUID)
		require.True(t, layout.Reinstallable)
		require.Contains(t, layout.Images, "ubuntu")
		require.True(t, layout.Refuses("debian-12.0.20260101"))

		e.transport.Answer(metaltest.Respond(200, "application/json", `{"id":"x","allocation":{"allocationuuid":"a","filesystemlayout":{"id":"keep","disks":[{"wipeonreinstall":false}]}}}`))
		layout, err = e.client.Layout(t.Context(), someMachine)
		require.NoError(t, err)
		require.Equal(t, &metal.Layout{ID: "keep", AllocationUUID: "a"}, layout)
	})
}
