// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestProtocolSteps_CrashLostLeaseAndPause(t *testing.T) {
	runPoints(t, stepPoints())
}

func TestMachineAdoptionSteps_CrashLostLeaseAndPause(t *testing.T) {
	runPoints(t, adoptionPoints())
}

func TestClusterAdoptionSteps_CrashLostLeaseAndPause(t *testing.T) {
	runPoints(t, networkAdoptionPoints())
}

func TestDuplicate_NamedWhileItIsFreed(t *testing.T) { runPoints(t, duplicatePoints()) }

func TestMetalAPICalls_EveryOutcomeKeepsInvariants(t *testing.T) { runPoints(t, callPoints()) }

func TestLedgerWrites_EveryOutcomeKeepsInvariants(t *testing.T) { runPoints(t, writePoints()) }

func runPoints(t *testing.T, points []point) {
	for _, p := range points {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, p.run)
		})
	}
}

// run plays the point, and checks the invariants.
func (p point) run(t *testing.T) {
	env := newEnvironment(t, 1, pointSetup(2), breaks{})
	defer env.close()
	happened := p.play(env)
	require.True(t, happened(), "it did not come to that:\n%s", env.story())
	wrong := env.check(p.except...)
	for _, words := range wrong {
		t.Error(words)
	}
	if len(wrong) > 0 {
		t.Log("\n" + env.story())
	}
}

// play allocates a cluster with a machine and a firewall and gives them back,
// with what goes wrong.
func (p point) play(env *environment) (happened func() bool) {
	happened = func() bool { return true }
	prepare := func(when string) {
		if p.when == when {
			happened = p.prepare(env)
		}
	}
	env.eventually(env.anyServerReady)
	prepare(allocating)
	for _, name := range []string{"c0", "m0-0", "f0"} {
		env.eventually(func() string { return env.present(name) })
	}
	env.eventually(env.everythingIsAllocated)
	prepare(between)
	env.eventually(env.everythingIsAllocated)
	prepare(releasing)
	env.eventually(env.everythingIsGivenBack)
	return happened
}

func (env *environment) anyServerReady() string {
	if env.active() == nil {
		return "no server answers"
	}
	return ""
}

// present creates an object unless it is there.
func (env *environment) present(name string) string {
	resource := resourceOf(name)
	if err := env.create(resource, name); err != nil {
		if there, listErr := env.find(resource, name); listErr != nil || there == nil {
			return err.Error()
		}
	}
	return ""
}

// everythingIsGivenBack deletes all that is there.
func (env *environment) everythingIsGivenBack() string {
	for _, resource := range []string{machines, firewalls, clusters} {
		for _, name := range slices.Concat(names[resource], namingOf[resource]) {
			if err := env.removeNamed(resource, name); err != nil {
				return err.Error()
			}
		}
	}
	return env.nothingIsLeft()
}

// loseAnAttempt lets a server die with a machine that no record names, and the
// object be deleted before anybody can look for it.
func (env *environment) loseAnAttempt() {
	env.traps.add(trap{step: "machine/called", do: trapKill})
	go func() {
		for !env.traps.has("machine/called") {
			time.Sleep(100 * time.Millisecond)
		}
		env.inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultStatus, Status: 503, Message: "no", Times: 20})
		env.eventually(func() string { return env.removed(machines, "m0-0") })
	}()
}

// removed deletes an object unless it is deleted, or not there.
func (env *environment) removed(resource, name string) string {
	if err := env.removeNamed(resource, name); err != nil {
		return err.Error()
	}
	return ""
}

// makeADuplicate is the late work of a server that stood still for too long: it
// allocates a machine for an object that has one.
func (env *environment) makeADuplicate() {
	held := env.ours()
	i := slices.IndexFunc(held, func(m simulator.MachineState) bool { return m.Role == metal.RoleMachine })
	require.GreaterOrEqual(env.t, i, 0)
	_, err := env.client().AllocateMachine(context.Background(), metal.MachineRequest{
		Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Size: simulator.SmallSize, Image: simulator.MachineImage,
		Name: "duplicate", Hostname: "duplicate", Networks: held[i].Networks[:1], Tags: withoutMachine(held[i].Tags),
	})
	require.NoError(env.t, err)
}
