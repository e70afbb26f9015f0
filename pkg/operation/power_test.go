// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/component-base/metrics/testutil"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestPower_IsSentAndRecorded(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.machine("node")
	answer, err := env.o.RequestPower(env.context(), target("node"), infrastructure.MachinePowerSpec{
		Action: infrastructure.PowerCycle, Reason: "it\nhangs", RequestID: "r1",
	})
	require.NoError(t, err)
	require.Equal(t, m.UID, answer.UID)
	require.Equal(t, map[string]int{"machine-power": 1}, env.calls())
	last := env.get("node").Status.LastOperation
	require.WithinDuration(t, env.clock.Now(), last.RequestTime.Time, 0)
	last.RequestTime = nil
	require.Equal(t, &infrastructure.MachineOperation{
		Action: "Cycle", RequestID: "r1", AllocationUUID: m.Status.Allocation.AllocationUUID, User: "alice@example.org", Reason: "it hangs",
		Outcome: infrastructure.OperationSent,
	}, last)
	require.Equal(t, []Event{{
		Kind: "MetalStackMachine", Namespace: teamA, Name: "node", UID: m.UID, ResourceVersion: "7", Reason: ReasonPowerRequested, Action: "PowerCycle",
		Note: `The power action "Cycle" was sent to the machine's controller, requested by "alice@example.org": it hangs`,
	}}, env.events.taken())
}

func TestPower_EveryActionIsSent(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	for action := range powerActions {
		require.NoError(t, env.power(env.o, "node", action, string(action)))
	}
	require.Equal(t, len(powerActions), env.calls()["machine-power"])
	requireCode(t, http.StatusUnprocessableEntity, env.power(env.o, "node", "Explode", ""), "spec.action", "Explode", `"BootBIOS", "BootDisk", "BootPXE", "Cycle", "Off", "On", "Reset"`)
}

// A client that has lost an answer repeats the request.
func TestPower_SameRequestIsOneCall(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	require.NoError(t, env.power(env.o, "node", infrastructure.PowerOff, "off"))
	env.clock.Step(time.Hour)
	require.NoError(t, env.power(env.o, "node", infrastructure.PowerOff, "off"))
	require.NoError(t, env.power(env.newOperator(), "node", infrastructure.PowerOff, "off"), "of another server")
	require.Equal(t, 1, env.calls()["machine-power"])
	require.Len(t, env.events.taken(), 1)
	requireCode(t, http.StatusUnprocessableEntity, env.power(env.o, "node", infrastructure.PowerOn, "off"), "spec.requestID", "Off")
	require.NoError(t, env.power(env.o, "node", infrastructure.PowerOff, "another"))
	require.Equal(t, 2, env.calls()["machine-power"])
}

func TestPower_SameActionWithinSecondsIsOneRequest(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	require.NoError(t, env.power(env.o, "node", infrastructure.PowerReset, ""))
	env.clock.Step(repeatInterval - time.Second)
	require.NoError(t, env.power(env.o, "node", infrastructure.PowerReset, ""))
	require.Equal(t, 1, env.calls()["machine-power"])
	require.NoError(t, env.power(env.o, "node", infrastructure.PowerCycle, ""), "another action")
	require.Equal(t, 2, env.calls()["machine-power"])
	env.clock.Step(repeatInterval)
	require.NoError(t, env.power(env.o, "node", infrastructure.PowerCycle, ""))
	require.Equal(t, 3, env.calls()["machine-power"])
}

// A client that has waited for a slow call retries after it, not after its request.
func TestPower_SameActionAfterASlowCallIsOneRequest(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	to := env.discovered()
	env.o.opts.CrashPoint = func(name string) {
		if name == "called" {
			env.clock.Step(metal.OperateTimeout)
		}
	}
	reset := func(o *Operator, to Target) error {
		_, err := o.RequestPower(env.context(), to, infrastructure.MachinePowerSpec{Action: infrastructure.PowerReset})
		return err
	}
	other := env.newOperator() // which does not know when a call ended
	for n, to := range []Target{to, target("node")} {
		require.NoError(t, reset(env.o, to))
		env.clock.Step(repeatInterval - time.Second)
		require.NoError(t, reset(env.o, to))
		require.Equal(t, n+1, env.calls()["machine-power"])
	}
	require.NoError(t, reset(other, target("node")))
	require.Equal(t, 2, env.calls()["machine-power"])
	env.clock.Step(2 * time.Second)
	require.NoError(t, reset(other, target("node")))
	require.Equal(t, 2, env.calls()["machine-power"])
	env.clock.Step(repeatInterval)
	require.NoError(t, reset(other, target("node")))
	require.Equal(t, 3, env.calls()["machine-power"])
}

// What was not sent does not replace what was sent before.
func TestPower_RequestBeforeOneThatWasNotSentIsStillOne(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	for _, to := range []Target{env.discovered(), target("node")} {
		request := func(action infrastructure.PowerAction, id string) error {
			_, err := env.o.RequestPower(env.context(), to, infrastructure.MachinePowerSpec{Action: action, RequestID: id})
			return err
		}
		require.NoError(t, request(infrastructure.PowerOff, "off"))
		env.clock.Step(repeatInterval)
		up := env.down("machine-power", http.StatusForbidden, "not you")
		requireCode(t, http.StatusServiceUnavailable, request(infrastructure.PowerOn, "on"), "not you")
		up()
		before := env.calls()["machine-power"]
		require.NoError(t, request(infrastructure.PowerOff, "off"))
		require.Equal(t, before, env.calls()["machine-power"])
		require.NoError(t, request(infrastructure.PowerOff, ""))
		require.Equal(t, before+1, env.calls()["machine-power"], "the one before was sent more than some seconds ago")
	}
}

// After a conflict, something may have been done: it is no answer that nothing was sent.
func TestPower_ConflictIsUncertain(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	up := env.down("machine-power", http.StatusConflict, "Conflict cannot update machine (x): the entity was changed from another, please retry")
	requireCode(t, http.StatusGatewayTimeout, env.power(env.o, "node", infrastructure.PowerReset, "r1"), "please retry")
	up()
	requireCode(t, http.StatusGatewayTimeout, env.power(env.o, "node", infrastructure.PowerReset, "r1"), "please retry")
	require.Equal(t, infrastructure.OperationUncertain, env.get("node").Status.LastOperation.Outcome)
}

func TestPower_ConcurrentRequestsMakeOneCall(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"", "r1"} {
		env := newEnvironment(t)
		env.machine("node")
		servers := []*Operator{env.o, env.newOperator()}
		var all sync.WaitGroup
		for n := range 20 {
			all.Go(func() {
				if err := env.power(servers[n%2], "node", infrastructure.PowerCycle, id); err != nil && !apierrors.IsTimeout(err) {
					assert.True(t, apierrors.IsConflict(err), "%v", err)
					seconds, ok := apierrors.SuggestsClientDelay(err)
					assert.True(t, ok && seconds > 0, "%v", err)
				}
			})
		}
		all.Wait()
		require.Equal(t, 1, env.calls()["machine-power"])
	}
}

func TestPower_CrashBetweenRecordAndCallSendsNothing(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	crashAt(env.o, "recorded")
	require.Error(t, env.power(env.o, "node", infrastructure.PowerOff, "off"))
	next := env.newOperator()
	requireCode(t, http.StatusGatewayTimeout, env.power(next, "node", infrastructure.PowerOff, "off"), "may have been sent")
	err := env.power(next, "node", infrastructure.PowerOff, "off-again")
	requireCode(t, http.StatusConflict, err, "in flight")
	seconds, ok := apierrors.SuggestsClientDelay(err)
	require.True(t, ok)
	require.Zero(t, env.calls()["machine-power"])
	env.clock.Step(time.Duration(seconds) * time.Second)
	requireCode(t, http.StatusGatewayTimeout, env.power(next, "node", infrastructure.PowerOff, "off"), "may have been sent")
	require.NoError(t, env.power(next, "node", infrastructure.PowerOff, "off-again"))
	require.Equal(t, 1, env.calls()["machine-power"])
}

func TestPower_CrashAfterCallSendsNoSecondOne(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	crashAt(env.o, "called")
	require.Error(t, env.power(env.o, "node", infrastructure.PowerOff, "off"))
	require.Equal(t, infrastructure.OperationRequested, env.get("node").Status.LastOperation.Outcome)
	for range 3 {
		env.clock.Step(time.Minute)
		requireCode(t, http.StatusGatewayTimeout, env.power(env.newOperator(), "node", infrastructure.PowerOff, "off"), "may have been sent")
	}
	require.Equal(t, 1, env.calls()["machine-power"])
}

func TestPower_CrashAfterItsOutcomeWasRecordedIsAnsweredFromTheRecord(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	crashAt(env.o, "ended")
	require.Error(t, env.power(env.o, "node", infrastructure.PowerOff, "off"))
	require.NoError(t, env.power(env.newOperator(), "node", infrastructure.PowerOff, "off"))
	require.Equal(t, 1, env.calls()["machine-power"])
}

func TestPower_LostAnswerIsUncertain(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	env.sim.Inject(simulator.Fault{Endpoint: "machine-power", Kind: simulator.FaultCommitThenLose, Times: 1})
	for range 3 {
		requireCode(t, http.StatusGatewayTimeout, env.power(env.o, "node", infrastructure.PowerCycle, "r1"), "may have been sent", "requestID")
	}
	last := env.get("node").Status.LastOperation
	require.Equal(t, infrastructure.OperationUncertain, last.Outcome)
	require.NotEmpty(t, last.Message)
	require.Equal(t, 1, env.calls()["machine-power"])
	events := env.events.taken()
	require.Len(t, events, 1)
	require.True(t, events[0].Warning)
	require.Contains(t, events[0].Note, "It is not known whether")
}

func TestPower_QueueAwayIsUncertain(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	up := env.withoutQueue()
	requireCode(t, http.StatusGatewayTimeout, env.power(env.o, "node", infrastructure.PowerCycle, "r1"), "connection refused")
	up()
	requireCode(t, http.StatusGatewayTimeout, env.power(env.o, "node", infrastructure.PowerCycle, "r1"))
	require.NoError(t, env.power(env.o, "node", infrastructure.PowerCycle, "r2"))
}

// What was not sent for certain is not recorded as a request, which can be repeated.
func TestPower_UnavailableMetalAPILeavesNoRecord(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	require.NoError(t, env.power(env.o, "node", infrastructure.PowerOn, "before"))
	before := env.get("node").Status.LastOperation
	for _, endpoint := range []string{"machine-power", "machine-get"} {
		up := env.down(endpoint, http.StatusForbidden, "not you")
		requireCode(t, http.StatusServiceUnavailable, env.power(env.o, "node", infrastructure.PowerOff, "off"), "not you")
		up()
		require.Equal(t, before, env.get("node").Status.LastOperation)
	}
	require.NoError(t, env.power(env.o, "node", infrastructure.PowerOff, "off"))
	require.Equal(t, infrastructure.OperationSent, env.get("node").Status.LastOperation.Outcome)
}

func TestPower_RefusalIsRecordedInTheMetalAPIsWords(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.machine("node")
	up := env.down("machine-power", http.StatusNotFound, `NotFound no machine with id "x" found`)
	requireCode(t, http.StatusUnprocessableEntity, env.power(env.o, "node", infrastructure.PowerOff, "off"), "refused by the metal-api", `NotFound no machine with id "x" found`, "MachinePower")
	up()
	requireCode(t, http.StatusUnprocessableEntity, env.power(env.o, "node", infrastructure.PowerOff, "off"), "refused by the metal-api")
	require.Equal(t, infrastructure.OperationRefused, env.get("node").Status.LastOperation.Outcome)
	require.Equal(t, m.UID, env.get("node").UID)
}

// The write of the record may have been made although it failed.
func TestPower_UncertainRecordSendsNothing(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"before", "after"} {
		env := newEnvironment(t)
		env.machine("node")
		env.machines.fail = func(w string) error {
			if w == when {
				return errors.New("the ledger went away")
			}
			return nil
		}
		requireCode(t, http.StatusServiceUnavailable, env.power(env.o, "node", infrastructure.PowerOff, "off"), "the ledger went away")
		env.machines.fail = nil
		require.Zero(t, env.calls()["machine-power"])
		err := env.power(env.o, "node", infrastructure.PowerOff, "off")
		if when == "after" {
			requireCode(t, http.StatusGatewayTimeout, err)
			require.Zero(t, env.calls()["machine-power"])
		} else {
			require.NoError(t, err)
		}
	}
}

// The outcome is recorded as soon as the ledger takes it.
func TestPower_OutcomeIsRecordedWhenTheLedgerIsBack(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	failures := 0
	env.o.opts.CrashPoint = func(name string) {
		if name == "called" {
			failures = 3
		}
	}
	env.machines.fail = func(when string) error {
		if when == "before" && failures > 0 {
			failures--
			return errors.New("the ledger went away")
		}
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- env.power(env.o, "node", infrastructure.PowerOff, "off") }()
	for waiting := true; waiting; {
		select {
		case err := <-done:
			require.NoError(t, err)
			waiting = false
		default:
			if env.clock.HasWaiters() {
				env.clock.Step(time.Second)
			}
			runtime.Gosched()
		}
	}
	require.Equal(t, infrastructure.OperationSent, env.get("node").Status.LastOperation.Outcome)
	require.Equal(t, 1, env.calls()["machine-power"])
}

func TestMetrics_CountByOperationAndResult(t *testing.T) {
	t.Parallel()
	RegisterMetrics()
	env := newEnvironment(t)
	env.machine("node")
	count := func(result string) float64 {
		n, err := testutil.GetCounterMetricValue(requestsCounter.WithLabelValues(verbReinstall, result))
		require.NoError(t, err)
		return n
	}
	before := count("422")
	_, err := env.reinstall(env.o, target("node"), "nope-1.0")
	requireCode(t, http.StatusUnprocessableEntity, err)
	require.Greater(t, count("422"), before)
}

func TestPower_SuspendedServerSendsNothing(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	env.o.opts.CrashPoint = func(name string) {
		if name == "recorded" {
			env.clock.Step(beginTimeout + time.Second)
		}
	}
	requireCode(t, http.StatusServiceUnavailable, env.power(env.o, "node", infrastructure.PowerOff, "off"), "nothing was sent")
	require.Zero(t, env.calls()["machine-power"])
	require.Nil(t, env.get("node").Status.LastOperation)
}

func TestPower_GoesOnWithoutItsCaller(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	reached, resume := make(chan struct{}), make(chan struct{})
	env.o.opts.CrashPoint = func(name string) {
		if name == "recorded" {
			close(reached)
			<-resume
		}
	}
	ctx, cancel := context.WithCancel(env.context())
	go func() { <-reached; cancel() }()
	_, err := env.o.RequestPower(ctx, target("node"), infrastructure.MachinePowerSpec{Action: infrastructure.PowerOff, RequestID: "off"})
	requireCode(t, http.StatusGatewayTimeout, err, "continues", "only with the same requestID, or, without one, within ten seconds", "as long as no other")
	// Neither another operation nor a release begins meanwhile.
	requireCode(t, http.StatusConflict, env.power(env.o, "node", infrastructure.PowerOn, "on"), "another power request is in progress")
	_, err = env.protocol.ReleaseMachine(env.context(), teamA, "node", "")
	requireCode(t, http.StatusConflict, err, "another power request is in progress")
	_, delayed := apierrors.SuggestsClientDelay(err)
	require.False(t, delayed, "the controller manager takes it for a release in progress")
	close(resume)
	require.Eventually(t, func() bool { return env.get("node").Status.LastOperation.Outcome == infrastructure.OperationSent }, time.Minute, time.Millisecond)
	require.Equal(t, 1, env.calls()["machine-power"])
}
