// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// Metal that is not, or no longer, the object's is not touched.
func TestOperations_RefuseMetalThatIsNotTheObjects(t *testing.T) {
	t.Parallel()
	reallocate := func(env *environment, id, project string, tags ...string) {
		require.NoError(env.t, env.sim.ForceFree(id))
		require.NoError(env.t, env.sim.Recycle(id))
		network, err := env.sim.AllocateNetworkFor(project, simulator.DefaultPartition, "other", nil)
		require.NoError(env.t, err)
		_, err = env.sim.AllocateFor(simulator.AllocateRequest{
			Project: project, Name: "other", Size: simulator.SmallSize, Partition: simulator.DefaultPartition, Networks: []string{network}, ID: id, Tags: tags,
		})
		require.NoError(env.t, err)
	}
	for name, c := range map[string]struct {
		make   func(env *environment, m *infrastructure.MetalStackMachine)
		code   int
		words  string
		target func(t *Target)
		// unlocks: an unlock is answered all the same.
		unlocks bool
	}{
		"released in the metal-api": {make: func(env *environment, m *infrastructure.MetalStackMachine) {
			require.NoError(env.t, env.sim.ForceFree(m.Status.Allocation.MachineID))
		}, words: "not allocated any more"},
		"allocated again": {make: func(env *environment, m *infrastructure.MetalStackMachine) {
			reallocate(env, m.Status.Allocation.MachineID, simulator.ProjectA, metal.Tag(metal.TagUID, string(m.UID)))
		}, words: "another allocation"},
		"allocated in another project": {make: func(env *environment, m *infrastructure.MetalStackMachine) {
			reallocate(env, m.Status.Allocation.MachineID, simulator.ProjectB, metal.Tag(metal.TagUID, string(m.UID)))
		}, words: "another allocation"},
		"namespace of another project": {make: func(env *environment, m *infrastructure.MetalStackMachine) {
			m.Namespace = teamB
			env.machines.put(m)
		}, target: func(t *Target) { t.Namespace = teamB }, words: "another allocation"},
		"identity tag lost": {make: func(env *environment, m *infrastructure.MetalStackMachine) {
			require.NoError(env.t, env.sim.SetTags(m.Status.Allocation.MachineID, []string{"a=b"}))
		}, words: "lost its identity tag " + metal.TagUID},
		"identity of another object": {make: func(env *environment, m *infrastructure.MetalStackMachine) {
			require.NoError(env.t, env.sim.SetTags(m.Status.Allocation.MachineID, []string{metal.Tag(metal.TagUID, "another")}))
		}, words: "another object"},
		"not allocated": {make: func(env *environment, m *infrastructure.MetalStackMachine) {
			m.Status.Allocation = nil
			env.machines.put(m)
		}, words: "no machine is allocated"},
		"releasing": {make: func(env *environment, m *infrastructure.MetalStackMachine) {
			m.Status.Allocation.Phase = infrastructure.AllocationReleasing
			env.machines.put(m)
		}, words: "being released", unlocks: true},
		"released": {make: func(env *environment, m *infrastructure.MetalStackMachine) {
			m.Status.Allocation.Phase = infrastructure.AllocationReleased
			env.machines.put(m)
		}, words: "was released"},
		"being deleted": {make: func(env *environment, m *infrastructure.MetalStackMachine) {
			now := metav1.NewTime(env.clock.Now())
			m.DeletionTimestamp = &now
			env.machines.put(m)
		}, words: "being deleted", unlocks: true},
		"another uid":       {target: func(t *Target) { t.UID = "another" }, words: "UID precondition failed"},
		"unbound namespace": {target: func(t *Target) { t.Namespace = "nowhere" }, code: http.StatusNotFound},
		"unknown":           {target: func(t *Target) { t.Name = "another" }, code: http.StatusNotFound},
		"a firewall":        {target: func(t *Target) { t.Kind = "MetalStackFirewall" }, code: http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			m := env.machine("node")
			if c.make != nil {
				c.make(env, m)
			}
			to := target("node")
			if c.target != nil {
				c.target(&to)
			}
			if c.code == 0 {
				c.code = http.StatusConflict
			}
			env.sim.ResetCalls()
			for verb, err := range env.verbs(env.context(), env.o, to) {
				if verb == "reinstall" && to.Kind == "MetalStackFirewall" {
					continue // of an image that is not for firewalls
				}
				if verb == "unlock" && c.unlocks {
					require.NoError(t, err)
					continue
				}
				requireCode(t, c.code, err, c.words)
			}
			require.Empty(t, env.calls())
			require.Empty(t, env.events.taken())
			require.Nil(t, env.get("node").Status.LastOperation)
		})
	}
}

func TestOperations_RefuseNamespaceThatIsNotBound(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.machine("node")
	m.Namespace = "nowhere"
	env.machines.put(m)
	to := target("node")
	to.Namespace = "nowhere"
	for _, err := range env.verbs(env.context(), env.o, to) {
		requireCode(t, http.StatusForbidden, err, "not bound to a project")
	}
	require.Empty(t, env.calls())
}

func TestOperations_DryRunChangesNothing(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	for verb, err := range env.verbs(env.o.WithDryRun(env.context()), env.o, target("node")) {
		require.NoError(t, err, verb)
	}
	require.Empty(t, env.calls())
	require.Empty(t, env.events.taken())
	require.Nil(t, env.get("node").Status.LastOperation)
	env.clock.Step(time.Minute)
	require.NoError(t, env.sim.SetTags(env.get("node").Status.Allocation.MachineID, []string{"a=b"}))
	for verb, err := range env.verbs(env.o.WithDryRun(env.context()), env.o, target("node")) {
		require.True(t, apierrors.IsConflict(err), "%s: %v", verb, err)
	}
}

// Operations that need an Event are refused if it cannot be written.
func TestOperations_NeedTheirEvent(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.machine("node")
	env.events.fail = errors.New("no events today")
	errs := env.verbs(env.context(), env.o, target("node"))
	for _, verb := range []string{"consolepassword", "lock", "reinstall"} {
		requireCode(t, http.StatusServiceUnavailable, errs[verb], "nothing was done", "no events today")
	}
	require.NoError(t, env.sim.Lock(m.Status.Allocation.MachineID, "hold"))
	_, err := env.o.Unlock(env.context(), target("node"), "go on")
	requireCode(t, http.StatusServiceUnavailable, err, "nothing was done")
	requireCode(t, http.StatusConflict, env.power(env.o, "node", infrastructure.PowerBootPXE, ""), "locked")
	require.NoError(t, env.sim.Unlock(m.Status.Allocation.MachineID))
	env.clock.Step(repeatInterval)
	requireCode(t, http.StatusServiceUnavailable, env.power(env.o, "node", infrastructure.PowerBootPXE, ""), "nothing was done", "no events today")
	require.NoError(t, errs["power"])
	require.NoError(t, errs["identify"])
	require.Equal(t, map[string]int{"machine-power": 2}, env.calls())
	require.Contains(t, env.logs.String(), "Failed to write an Event")
}

// In a namespace that is being deleted no Event can be written, and the deletion waits for the
// unlock: its Event is logged.
func TestUnlock_LogsItsEventInNamespaceThatIsBeingDeleted(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.machine("node")
	id := m.Status.Allocation.MachineID
	require.NoError(t, env.sim.Lock(id, "hold"))
	forbidden := apierrors.NewForbidden(eventsv1.SchemeGroupVersion.WithResource("events").GroupResource(), "node.1", errors.New("unable to create new content"))
	env.events.fail = forbidden
	_, err := env.o.Unlock(env.context(), target("node"), "go on")
	requireCode(t, http.StatusServiceUnavailable, err, "nothing was done", "unable to create new content")
	require.Empty(t, env.calls(), "without the right to write Events nothing is unlocked")

	terminating := forbidden.ErrStatus.DeepCopy()
	terminating.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	env.events.fail = &apierrors.StatusError{ErrStatus: *terminating}
	lock, err := env.o.Unlock(env.context(), target("node"), "go on")
	require.NoError(t, err)
	require.False(t, lock.Status.Locked)
	require.Equal(t, map[string]int{"machine-state": 1}, env.calls())
	for _, words := range []string{`reason="Unlocked"`, `namespace="team-a"`, `name="node"`, string(m.UID), `The unlocking of the machine is requested by \"alice@example.org\": go on`} {
		require.Contains(t, env.logs.String(), words)
	}
	_, err = env.o.Lock(env.context(), target("node"), infrastructure.MachineLockSpec{Reason: "hold"})
	requireCode(t, http.StatusServiceUnavailable, err, "nothing was done")
	_, err = env.o.ConsolePassword(env.context(), target("node"), infrastructure.MachineConsolePasswordSpec{Reason: "no ssh any more"})
	requireCode(t, http.StatusServiceUnavailable, err, "nothing was done")
	require.Equal(t, map[string]int{"machine-state": 1}, env.calls())
}

// A process that was suspended after it read the machine makes no call: the machine may be
// another object's by then.
func TestOperations_OfSuspendedServerSendNothing(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.machine("node")
	env.o.opts.CrashPoint = func(name string) {
		if name == "observed" {
			env.clock.Step(beginTimeout + time.Second)
		}
	}
	for verb, err := range env.verbs(env.context(), env.o, target("node")) {
		if verb != "unlock" {
			requireCode(t, http.StatusServiceUnavailable, err, "nothing was sent")
		}
	}
	require.NoError(t, env.sim.Lock(m.Status.Allocation.MachineID, "hold"))
	_, err := env.o.Unlock(env.context(), target("node"), "go on")
	requireCode(t, http.StatusServiceUnavailable, err, "nothing was sent")
	require.Empty(t, env.calls())
	require.Nil(t, env.get("node").Status.LastOperation)
}

func TestEvents_KeepReasonWhole(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	up := env.down("machine-power", http.StatusNotFound, `NotFound no machine with id "`+strings.Repeat("x", 900)+`" found`)
	defer up()
	to := target("node")
	to.User = strings.Repeat(`"`, 4000)
	reason := strings.Repeat("r", maxReason)
	_, err := env.o.RequestPower(env.context(), to, infrastructure.MachinePowerSpec{Action: infrastructure.PowerReset, Reason: reason})
	requireCode(t, http.StatusUnprocessableEntity, err)
	notes := env.events.notes()
	require.Len(t, notes, 1)
	require.LessOrEqual(t, len(notes[0]), oneline.MaxNote)
	require.True(t, strings.HasSuffix(notes[0], ": "+reason), notes[0])
	require.True(t, strings.HasPrefix(notes[0], "The metal-api refused the power action"), notes[0])
}

func TestOperations_ShutdownSaysThatNothingWasSent(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	require.NoError(t, env.protocol.Shutdown(t.Context()))
	for verb, err := range env.verbs(env.context(), env.o, target("node")) {
		words := "shutting down: nothing was sent: retry"
		if verb == "consolepassword" {
			words = "shutting down: no password was given: retry"
		}
		requireCode(t, http.StatusServiceUnavailable, err, words)
		_, retried := apierrors.SuggestsClientDelay(err)
		require.True(t, retried)
	}
	require.Empty(t, env.calls())
}

func TestOperations_NeedAReason(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	for _, reason := range []string{"", " \n "} {
		_, err := env.o.ConsolePassword(env.context(), target("node"), infrastructure.MachineConsolePasswordSpec{Reason: reason})
		requireCode(t, http.StatusUnprocessableEntity, err, "MachineConsolePassword", "spec.reason")
		_, err = env.o.Lock(env.context(), target("node"), infrastructure.MachineLockSpec{Reason: reason})
		requireCode(t, http.StatusUnprocessableEntity, err, "MachineLock", "spec.reason")
		_, err = env.o.Unlock(env.context(), target("node"), reason)
		requireCode(t, http.StatusUnprocessableEntity, err, "reason")
		_, err = env.o.Reinstall(env.context(), target("node"), infrastructure.MachineReinstallSpec{Image: exactImage, Reason: reason})
		requireCode(t, http.StatusUnprocessableEntity, err, "MachineReinstall", "spec.reason")
		_, err = env.o.RequestPower(env.context(), target("node"), infrastructure.MachinePowerSpec{Action: infrastructure.PowerBootPXE, Reason: reason})
		requireCode(t, http.StatusUnprocessableEntity, err, "MachinePower", "spec.reason")
	}
	_, err := env.o.Identify(env.context(), target("node"), infrastructure.MachineIdentifySpec{State: "Blink"})
	requireCode(t, http.StatusUnprocessableEntity, err, "spec.state", "Blink", `"On", "Off"`)
	require.Empty(t, env.calls())
}

func TestOperations_AreLimitedByObject(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	env.machine("other")
	for n := range objectLimit {
		require.NoError(t, env.power(env.o, "node", infrastructure.PowerBootBIOS, fmt.Sprint(n)))
	}
	err := env.power(env.o, "node", infrastructure.PowerBootBIOS, "more")
	requireCode(t, http.StatusTooManyRequests, err, "10 per minute")
	seconds, ok := apierrors.SuggestsClientDelay(err)
	require.True(t, ok)
	require.NoError(t, env.power(env.o, "node", infrastructure.PowerBootBIOS, fmt.Sprint(objectLimit-1)), "what is recorded costs nothing")
	require.NoError(t, env.power(env.o, "other", infrastructure.PowerOn, ""))
	env.clock.Step(time.Duration(seconds) * time.Second)
	require.NoError(t, env.power(env.o, "node", infrastructure.PowerBootBIOS, "more"))
}

func TestLimits_AreOfNamespaceAndBounded(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	l := env.o.limits
	for n := range namespaceLimit {
		require.NoError(t, l.acquire(Target{Namespace: "a", Name: fmt.Sprint(n)}))
	}
	require.ErrorContains(t, l.acquire(Target{Namespace: "a", Name: "more"}), "120 per minute")
	require.NoError(t, l.acquire(Target{Namespace: "b"}))
	for n := range maxBuckets + 500 {
		_ = l.acquire(Target{Namespace: fmt.Sprint("n", n), Name: fmt.Sprint(n)})
	}
	require.LessOrEqual(t, len(l.objects.all), maxBuckets)
	require.LessOrEqual(t, len(l.namespaces.all), maxBuckets)
	env.clock.Step(time.Hour)
	require.NoError(t, l.acquire(Target{Namespace: "new"}))
}

func TestRecentOperations_AreBounded(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	r := env.o.recent
	for n := range 2 * maxRecent {
		env.clock.Step(time.Millisecond)
		r.set(fmt.Sprint(n), &infrastructure.MachineOperation{Action: fmt.Sprint(n)})
	}
	require.LessOrEqual(t, len(r.byKey), maxRecent)
	get := func(key string) *infrastructure.MachineOperation {
		last, _ := r.get(key)
		return last
	}
	require.Nil(t, get("0"), "the oldest go")
	require.NotNil(t, get(fmt.Sprint(2*maxRecent-1)))
	env.clock.Step(recentDuration)
	require.Nil(t, get(fmt.Sprint(2*maxRecent-1)))

	r.set("in flight", &infrastructure.MachineOperation{Outcome: infrastructure.OperationRequested})
	for n := range 2 * maxRecent {
		env.clock.Step(time.Millisecond)
		r.set(fmt.Sprint(n), &infrastructure.MachineOperation{Outcome: infrastructure.OperationSent})
	}
	require.NotNil(t, get("in flight"), "those whose calls have ended go first")
}

// A flood of LEDs takes no room from the operations of discovered machines.
func TestRecentOperations_OfLEDsAreApart(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	to := env.discovered()
	_, err := env.o.Identify(env.context(), to, infrastructure.MachineIdentifySpec{State: infrastructure.LEDOn})
	require.NoError(t, err)
	require.Empty(t, env.o.recent.byKey)
}
