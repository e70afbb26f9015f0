package faults_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	metalclient "metal-stack.io/infrastructure-apiserver/pkg/metal/client"
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

func TestMetalAPICalls_EveryOutcome(t *testing.T) { runPoints(t, callPoints()) }

func TestLedgerWrites_EveryOutcome(t *testing.T) { runPoints(t, writePoints()) }

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
	w := newWorld(t, 1, 2, breaks{})
	defer w.close()
	happened := p.play(w)
	require.True(t, happened(), "it did not come to that:\n%s", w.story())
	wrong := w.check(p.except...)
	for _, words := range wrong {
		t.Error(words)
	}
	if len(wrong) > 0 {
		t.Log("\n" + w.story())
	}
}

// play allocates a cluster with a machine and a firewall and gives them back,
// with what goes wrong.
func (p point) play(w *world) (happened func() bool) {
	happened = func() bool { return true }
	prepare := func(when string) {
		if p.when == when {
			happened = p.prepare(w)
		}
	}
	w.settle(w.somebodyAnswers)
	prepare(allocating)
	for _, name := range []string{"c0", "m0-0", "f0"} {
		w.settle(func() string { return w.present(name) })
	}
	w.settle(w.everythingIsAllocated)
	prepare(between)
	w.settle(w.everythingIsAllocated)
	prepare(releasing)
	w.settle(w.everythingIsGivenBack)
	return happened
}

func (w *world) somebodyAnswers() string {
	if w.active() == nil {
		return "nobody answers"
	}
	return ""
}

// present creates an object unless it is there.
func (w *world) present(name string) string {
	resource := resourceOf(name)
	if err := w.create(resource, name); err != nil {
		if there, listErr := w.find(resource, name); listErr != nil || there == nil {
			return err.Error()
		}
	}
	return ""
}

// everythingIsGivenBack deletes all that is there.
func (w *world) everythingIsGivenBack() string {
	for _, resource := range []string{machines, firewalls, clusters} {
		for _, name := range slices.Concat(names[resource], namingOf[resource]) {
			if err := w.removeNamed(resource, name); err != nil {
				return err.Error()
			}
		}
	}
	return w.nothingIsLeft()
}

// loseAnAttempt lets a server die with a machine that no record names, and the
// object be deleted before anybody can look for it.
func (w *world) loseAnAttempt() {
	w.traps.add(trap{step: "machine/called", do: trapKill})
	go func() {
		for !w.traps.has("machine/called") {
			time.Sleep(100 * time.Millisecond)
		}
		w.inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultStatus, Status: 503, Message: "no", Times: 20})
		w.settle(func() string { return w.removed(machines, "m0-0") })
	}()
}

// removed deletes an object unless it is deleted, or not there.
func (w *world) removed(resource, name string) string {
	if err := w.removeNamed(resource, name); err != nil {
		return err.Error()
	}
	return ""
}

// makeADuplicate is the late work of a server that stood still for too long: it
// allocates a machine for an object that has one.
func (w *world) makeADuplicate() {
	held := w.ours()
	i := slices.IndexFunc(held, func(m simulator.MachineAccount) bool { return m.Role == metal.RoleMachine })
	require.GreaterOrEqual(w.t, i, 0)
	client, err := metalclient.New(metalclient.Options{URL: "http://metal-api.test", HMAC: editKey, Transport: &wire{handler: w.sim.Handler(), life: context.Background()}})
	require.NoError(w.t, err)
	_, err = client.AllocateMachine(context.Background(), metal.MachineRequest{
		Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Size: simulator.SmallSize, Image: simulator.MachineImage,
		Name: "twin", Hostname: "twin", Networks: held[i].Networks[:1], Tags: withoutMachine(held[i].Tags),
	})
	require.NoError(w.t, err)
}
