// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestConsolePassword_IsNowhereButInTheAnswer(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.machine("node")
	answer, err := env.o.ConsolePassword(env.context(), target("node"), infrastructure.MachineConsolePasswordSpec{Reason: "no ssh\nany more"})
	require.NoError(t, err)
	require.Equal(t, m.UID, answer.UID)
	password := answer.Status.Password
	require.NotEmpty(t, password)
	events := env.events.taken()
	require.Len(t, events, 1)
	require.Equal(t, ReasonConsolePasswordRead, events[0].Reason)
	require.Equal(t, `The console password is requested by "alice@example.org": no ssh any more`, events[0].Note)
	env.events.all = events

	// Errors of whatever kind do not have it, either.
	up := env.sim.Inject(simulator.Fault{Endpoint: "machine-consolepassword", Kind: simulator.FaultTruncatedBody})
	_, err = env.o.ConsolePassword(env.context(), target("node"), infrastructure.MachineConsolePasswordSpec{Reason: "no ssh any more"})
	up()
	requireCode(t, http.StatusServiceUnavailable, err)
	require.NotContains(t, err.Error(), password)
	require.NotContains(t, env.everything(), password)
}

func TestConsolePassword_IsThereOnceTheMachineWasInstalled(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	id, err := env.sim.AllocateFor(simulator.AllocateRequest{
		Project: simulator.ProjectA, Name: "m", Size: simulator.SmallSize, Partition: simulator.DefaultPartition, Networks: []string{env.network},
		Tags: []string{metal.Tag(metal.TagUID, "uid-1")},
	})
	require.NoError(t, err)
	m := &infrastructure.MetalStackMachine{ObjectMeta: env.objectMeta("node")}
	m.Status.Allocation = &infrastructure.MachineAllocation{MachineID: id, AllocationUUID: env.observe(id).AllocationUUID()}
	m.Status.Allocation.Phase, m.Status.Allocation.UID = infrastructure.AllocationAllocated, "uid-1"
	env.machines.put(m)
	_, err = env.o.ConsolePassword(env.context(), target("node"), infrastructure.MachineConsolePasswordSpec{Reason: "no ssh any more"})
	requireCode(t, http.StatusConflict, err, "no console password", "at the end of its installation")
	require.Equal(t, []string{
		`The console password is requested by "alice@example.org": no ssh any more`,
		`The console password was not given (machine ` + id + ` has reported no console password: it reports one at the end of its installation: retry then), requested by "alice@example.org": no ssh any more`,
	}, env.events.notes())
	up := env.down("machine-consolepassword", http.StatusBadRequest, "reason must be at least 10 characters long")
	_, err = env.o.ConsolePassword(env.context(), target("node"), infrastructure.MachineConsolePasswordSpec{Reason: "no ssh"})
	up()
	requireCode(t, http.StatusUnprocessableEntity, err, "MachineConsolePassword", `spec.reason: Invalid value: "no ssh"`, "reason must be at least 10 characters long")
}

// The metal-api reads a password by the machine's id, whatever allocation it has by then.
func TestConsolePassword_OfAnotherAllocationIsNotGiven(t *testing.T) {
	t.Parallel()
	for _, discovered := range []bool{false, true} {
		env := newEnvironment(t)
		to := target("node")
		if discovered {
			to = env.discovered()
			to.User = "alice@example.org"
		} else {
			env.machine("node")
		}
		env.o.opts.Metal = releasedMeanwhile{Operator: env.client, release: env.sim.ForceFree}
		_, err := env.o.ConsolePassword(env.context(), to, infrastructure.MachineConsolePasswordSpec{Reason: "no ssh any more"})
		requireCode(t, http.StatusConflict, err)
		require.NotContains(t, err.Error(), "secret")
		notes := env.events.notes()
		require.Len(t, notes, 2)
		require.Contains(t, notes[1], "The console password was not given")
		require.NotContains(t, env.everything(), "secret")
	}
}

// releasedMeanwhile is a metal-api in which a machine is released while its password is read.
type releasedMeanwhile struct {
	metal.Operator
	release func(id string) error
}

func (r releasedMeanwhile) ConsolePassword(_ context.Context, id, _ string) (string, error) {
	return "secret", r.release(id)
}

func TestIdentify_SwitchesTheLED(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	identify := func(state infrastructure.LEDState, reason string) error {
		_, err := env.o.Identify(env.context(), target("node"), infrastructure.MachineIdentifySpec{State: state, Reason: reason})
		return err
	}
	require.NoError(t, identify(infrastructure.LEDOn, "here"))
	require.NoError(t, identify(infrastructure.LEDOn, "here"))
	require.Equal(t, 1, env.calls()["machine-power"], "the same within seconds is one")
	require.NoError(t, identify(infrastructure.LEDOff, ""))
	require.Equal(t, 2, env.calls()["machine-power"])
	require.Equal(t, []string{
		`The request to switch the chassis LED On was sent, requested by "alice@example.org": here`,
		`The request to switch the chassis LED Off was sent, requested by "alice@example.org"`,
	}, env.events.notes())
	up := env.withoutQueue()
	requireCode(t, http.StatusGatewayTimeout, identify(infrastructure.LEDOn, ""),
		"it is not known whether the request to switch the chassis LED On was sent: retry")
	require.Equal(t, []string{`It is not known whether the request to switch the chassis LED On was sent, requested by "alice@example.org"`}, env.events.notes())
	up()
	require.NoError(t, identify(infrastructure.LEDOn, ""))
	up = env.down("machine-power", http.StatusForbidden, "not you")
	requireCode(t, http.StatusServiceUnavailable, identify(infrastructure.LEDOff, "x"), "not you")
	up()
}

func TestLog_ShowsEventsOfThisAllocationNewestLast(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.machine("node")
	id := m.Status.Allocation.MachineID
	observed := *env.observe(id)
	created := observed.Allocation.Created
	observed.Events = []metal.Event{
		{Event: "Phoned Home", Time: created.Add(3 * time.Second)},
		{Event: "Installing", Message: "a\n" + strings.Repeat("x", 5000), Time: created.Add(time.Second)},
		{Event: "Phoned Home", Message: "of an earlier allocation", Time: created.Add(-time.Second)},
	}
	env.facts.LearnMachine(&observed)
	env.sim.ResetCalls()
	log, err := env.o.Log(env.context(), target("node"))
	require.NoError(t, err)
	require.Empty(t, env.sim.Calls())
	require.Equal(t, m.UID, log.UID)
	require.Len(t, log.Events, 2)
	require.Equal(t, []string{"Installing", "Phoned Home"}, []string{log.Events[0].Event, log.Events[1].Event})
	require.LessOrEqual(t, len(log.Events[0].Message), maxEventMessage)
	require.NotContains(t, log.Events[0].Message, "\n")

	env.facts.set(id, nil)
	_, err = env.o.Log(env.context(), target("node"))
	requireCode(t, http.StatusConflict, err, "does not show machine")
	env.facts.machines = nil
	_, err = env.o.Log(env.context(), target("node"))
	requireCode(t, http.StatusServiceUnavailable, err, "not observed")
	other := observed
	other.Allocation = &metal.Allocation{UUID: "another", Project: simulator.ProjectA}
	env.facts.LearnMachine(&other)
	_, err = env.o.Log(env.context(), target("node"))
	requireCode(t, http.StatusConflict, err, "another allocation")
}

func TestLock_IsIdempotent(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.machine("node")
	state := func() infrastructure.MachineLockStatus {
		l, err := env.o.LockState(env.context(), target("node"))
		require.NoError(t, err)
		return l.Status
	}
	require.Equal(t, infrastructure.MachineLockStatus{}, state())
	for range 2 {
		l, err := env.o.Lock(env.context(), target("node"), infrastructure.MachineLockSpec{Reason: "forensics"})
		require.NoError(t, err)
		require.Equal(t, infrastructure.MachineLockStatus{Locked: true, Reason: "forensics"}, l.Status)
	}
	require.Equal(t, infrastructure.MachineLockStatus{Locked: true, Reason: "forensics"}, state())
	require.Equal(t, []string{ReasonLocked}, env.events.reasons())
	for range 2 {
		l, err := env.o.Unlock(env.context(), target("node"), "done")
		require.NoError(t, err)
		require.Equal(t, infrastructure.MachineLockStatus{}, l.Status)
	}
	require.Equal(t, infrastructure.MachineLockStatus{}, state())
	require.Equal(t, []string{ReasonUnlocked}, env.events.reasons())
	require.Equal(t, map[string]int{"machine-state": 2}, env.calls())

	require.NoError(t, env.sim.Lock(m.Status.Allocation.MachineID, "of another client"))
	require.Equal(t, infrastructure.MachineLockStatus{Locked: true, Reason: "of another client"}, state(), "it is read for each request")
	l, err := env.o.Lock(env.context(), target("node"), infrastructure.MachineLockSpec{Reason: "mine"})
	require.NoError(t, err)
	require.Equal(t, infrastructure.MachineLockStatus{Locked: true, Reason: "of another client"}, l.Status)
}

func TestLock_LeavesReservationsAlone(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.machine("node")
	require.NoError(t, env.sim.Reserve(m.Status.Allocation.MachineID, "for a customer"))
	_, err := env.o.Lock(env.context(), target("node"), infrastructure.MachineLockSpec{Reason: "mine"})
	requireCode(t, http.StatusConflict, err, "RESERVED", "for a customer")
	l, err := env.o.Unlock(env.context(), target("node"), "done")
	require.NoError(t, err)
	require.Equal(t, infrastructure.MachineLockStatus{Reason: "for a customer"}, l.Status)
	require.Empty(t, env.calls())
}

func TestLockState_IsNotAnsweredFromACache(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	to := env.discovered()
	for _, t := range []Target{target("node"), to} {
		_, err := env.o.LockState(env.context(), t)
		require.NoError(env.t, err)
	}
	up := env.down("machine-get", http.StatusBadGateway, "away")
	for _, at := range []Target{target("node"), to} {
		_, err := env.o.LockState(env.context(), at)
		requireCode(t, http.StatusServiceUnavailable, err, "away")
	}
	up()
	limited := false
	for range 150 {
		_, err := env.o.LockState(env.context(), to)
		limited = limited || apierrors.IsTooManyRequests(err)
	}
	require.True(t, limited)
}

// A locked machine is not released, and its object can still be unlocked.
func TestUnlock_WhileTheObjectIsBeingDeleted(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.machine("node")
	_, err := env.o.Lock(env.context(), target("node"), infrastructure.MachineLockSpec{Reason: "hold"})
	require.NoError(t, err)
	now := metav1.NewTime(env.clock.Now())
	m.DeletionTimestamp, m.Status.Allocation.Phase = &now, infrastructure.AllocationReleasing
	env.machines.put(m)
	l, err := env.o.LockState(env.context(), target("node"))
	require.NoError(t, err)
	require.True(t, l.Status.Locked)
	_, err = env.o.Unlock(env.context(), target("node"), "let it go")
	require.NoError(t, err)
	l, err = env.o.LockState(env.context(), target("node"))
	require.NoError(t, err)
	require.False(t, l.Status.Locked)
	_, err = env.o.Lock(env.context(), target("node"), infrastructure.MachineLockSpec{Reason: "hold"})
	requireCode(t, http.StatusConflict, err, "being released")

	m.Status.Allocation.MachineID = ""
	env.machines.put(m)
	_, err = env.o.Unlock(env.context(), target("node"), "let it go")
	requireCode(t, http.StatusConflict, err, "being released")
}

func TestLock_LostAnswerIsUncertain(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	env.sim.Inject(simulator.Fault{Endpoint: "machine-state", Kind: simulator.FaultCommitThenLose, Times: 1})
	_, err := env.o.Lock(env.context(), target("node"), infrastructure.MachineLockSpec{Reason: "hold"})
	requireCode(t, http.StatusGatewayTimeout, err, "may have been set")
	notes := env.events.notes()
	require.Len(t, notes, 2)
	require.Equal(t, `The lock of the machine is requested by "alice@example.org": hold`, notes[0])
	require.Contains(t, notes[1], "The lock of the machine failed (the state of the machine may have been set")
	l, err := env.o.Lock(env.context(), target("node"), infrastructure.MachineLockSpec{Reason: "hold"})
	require.NoError(t, err)
	require.True(t, l.Status.Locked)
	require.Equal(t, map[string]int{"machine-state": 1}, env.calls())
}

// discovered is a machine of the project that no object has.
func (env *environment) discovered() Target {
	a := env.allocate("", false)
	return Target{
		Kind: "MetalStackMachine", Namespace: teamA, Name: a.MachineID, UID: "of the discovered object", User: "alice",
		Discovered: &infrastructure.Metal{MachineID: a.MachineID, AllocationUUID: a.AllocationUUID},
	}
}

func TestDiscovered_IsOperated(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	to := env.discovered()
	for _, id := range []string{"r1", "r1", ""} {
		_, err := env.o.RequestPower(env.context(), to, infrastructure.MachinePowerSpec{Action: infrastructure.PowerReset, RequestID: id})
		require.NoError(t, err)
	}
	require.Equal(t, 1, env.calls()["machine-power"])
	require.InDelta(t, objectLimit-1, env.o.limits.objects.of(keyOf(to), env.clock.Now()).TokensAt(env.clock.Now()), 0.1, "what repeats costs nothing")
	events := env.events.taken()
	require.Len(t, events, 1)
	require.Equal(t, to.UID, events[0].UID)
	for verb, err := range env.verbs(env.context(), env.o, to) {
		require.NoError(t, err, verb)
	}
	state, err := env.o.PowerState(env.context(), to)
	require.NoError(t, err)
	require.Equal(t, to.UID, state.UID)
	_, err = env.o.LockState(env.context(), to)
	require.NoError(t, err)
	log, err := env.o.Log(env.context(), to)
	require.NoError(t, err)
	require.NotEmpty(t, log.Events)
}

func TestDiscovered_IsRefusedWhenItIsNotAnyMore(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(env *environment, to *Target)
		code   int
		// reads are refused, too.
		reads bool
	}{
		"freed": {change: func(env *environment, to *Target) { require.NoError(env.t, env.sim.ForceFree(to.Name)) }, reads: true},
		"another allocation": {change: func(_ *environment, to *Target) {
			to.Discovered = &infrastructure.Metal{MachineID: to.Name, AllocationUUID: "another"}
		}, reads: true},
		"another project":   {change: func(_ *environment, to *Target) { to.Namespace = teamB }, reads: true},
		"unbound namespace": {change: func(_ *environment, to *Target) { to.Namespace = "nowhere" }, code: http.StatusForbidden, reads: true},
		"a firewall":        {change: func(_ *environment, to *Target) { to.Kind = "MetalStackFirewall" }},
		"adopted by another namespace": {change: func(env *environment, to *Target) {
			m := &infrastructure.MetalStackMachine{ObjectMeta: env.objectMeta("adopted")}
			m.Status.Allocation = &infrastructure.MachineAllocation{MachineID: to.Name, AllocationUUID: to.Discovered.AllocationUUID, Adopted: true}
			m.Status.Allocation.Phase = infrastructure.AllocationAllocated
			env.machines.put(m)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			to := env.discovered()
			c.change(env, &to)
			env.observeAll()
			if c.code == 0 {
				c.code = http.StatusConflict
			}
			for verb, err := range env.verbs(env.context(), env.o, to) {
				if verb != "reinstall" || to.Kind != "MetalStackFirewall" {
					requireCode(t, c.code, err)
				}
			}
			require.Empty(t, env.calls())
			require.Empty(t, env.events.taken())
			if c.reads {
				_, err := env.o.PowerState(env.context(), to)
				requireCode(t, c.code, err)
				_, err = env.o.LockState(env.context(), to)
				requireCode(t, c.code, err)
				_, err = env.o.Log(env.context(), to)
				requireCode(t, c.code, err)
			}
		})
	}
}

func (env *environment) observeAll() {
	all, err := env.client.ListMachines(env.context())
	require.NoError(env.t, err)
	for _, m := range all {
		env.facts.LearnMachine(m)
	}
}
