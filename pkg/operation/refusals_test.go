// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
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
		}, words: "being released"},
		"released": {make: func(env *environment, m *infrastructure.MetalStackMachine) {
			m.Status.Allocation.Phase = infrastructure.AllocationReleased
			env.machines.put(m)
		}, words: "was released"},
		"being deleted": {make: func(env *environment, m *infrastructure.MetalStackMachine) {
			now := metav1.NewTime(env.clock.Now())
			m.DeletionTimestamp = &now
			env.machines.put(m)
		}, words: "being deleted"},
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

// What would leave no trace is not done.
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
	require.NoError(t, errs["power"])
	require.NoError(t, errs["identify"])
	require.Equal(t, map[string]int{"machine-power": 2}, env.calls())
	require.Contains(t, env.logs.String(), "Failed to write an Event")
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
	require.Nil(t, r.get("0"), "the oldest go")
	require.NotNil(t, r.get(fmt.Sprint(2*maxRecent-1)))
	env.clock.Step(recentDuration)
	require.Nil(t, r.get(fmt.Sprint(2*maxRecent-1)))
}
