// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func (env *environment) reinstall(o *Operator, to Target, image string, force ...bool) (string, error) {
	answer, err := o.Reinstall(env.context(), to, infrastructure.MachineReinstallSpec{Image: image, Reason: "broken", Force: len(force) > 0})
	if err != nil {
		return "", err
	}
	return answer.Status.Image, nil
}

func TestReinstall_InstallsTheNewestOfAnAlias(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.machine("node")
	for range 2 {
		image, err := env.reinstall(env.o, target("node"), simulator.MachineImage)
		require.NoError(t, err)
		require.Equal(t, exactImage, image)
	}
	require.Equal(t, map[string]int{"machine-reinstall": 1}, env.calls())
	live := env.observe(m.Status.Allocation.MachineID)
	require.True(t, live.Allocation.Reinstall)
	require.Equal(t, exactImage, live.Allocation.Image)
	last := env.get("node").Status.LastOperation
	require.Equal(t, []string{infrastructure.OperationReinstall, exactImage, "broken", string(infrastructure.OperationSent)},
		[]string{last.Action, last.Image, last.Reason, string(last.Outcome)})
	events := env.events.taken()
	require.Len(t, events, 1)
	require.Equal(t, ReasonReinstallRequested, events[0].Reason)
	require.Contains(t, events[0].Note, exactImage)
	require.Contains(t, events[0].Note, "alice@example.org")

	env.clock.Step(time.Minute)
	_, err := env.reinstall(env.o, target("node"), exactImage)
	requireCode(t, http.StatusConflict, err, "marked for a reinstallation", "Reset")
	image, err := env.reinstall(env.o, target("node"), "ubuntu-22.04.20250701")
	require.NoError(t, err, "another image, while that is installed")
	require.Equal(t, "ubuntu-22.04.20250701", image)
}

func TestReinstall_OfFirewallNeedsItsImage(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.firewall("fw")
	to := target("fw")
	to.Kind = "MetalStackFirewall"
	_, err := env.reinstall(env.o, to, exactImage)
	requireCode(t, http.StatusUnprocessableEntity, err, "MachineReinstall", "spec.image", "features machine", "feature firewall")
	image, err := env.reinstall(env.o, to, simulator.FirewallImage)
	require.NoError(t, err)
	require.Equal(t, simulator.FirewallImage+".20260101", image)
}

func TestReinstall_RefusesImagesThatCannotBeInstalled(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	env.sim.AddImage(simulator.Image{ID: "ubuntu-26.04.20260401", Features: []string{"machine"}, ExpiresInDays: -1})
	env.sim.AddImage(simulator.Image{ID: "debian-12.0.20260101", Features: []string{"machine"}})
	for image, words := range map[string][]string{
		"":                      {"Required"},
		"nope-1.0":              {`"nope-1.0"`, "ubuntu-24.04"},
		"ubuntu-24.04.19990101": {"ubuntu-24.04.19990101", "ubuntu-24.04"},
		simulator.FirewallImage: {"firewall-ubuntu-3.0.20260101, which the alias stands for", "feature machine"},
		"ubuntu-26.04.20260401": {"expired at 2026-11-28T12:00:00Z"},
		"ubuntu-26.04":          {"which the alias stands for, expired"},
		"debian-12.0.20260101":  {"file system layout", "default-small", "ubuntu"},
	} {
		_, err := env.reinstall(env.o, target("node"), image)
		requireCode(t, http.StatusUnprocessableEntity, err, append(words, "MachineReinstall", "spec.image")...)
	}
	require.Empty(t, env.calls())
	require.Empty(t, env.events.taken())
	require.Nil(t, env.get("node").Status.LastOperation)
}

func TestReinstall_OfMachineOfClusterAPINeedsForce(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.machine("node")
	m.OwnerReferences = []metav1.OwnerReference{{APIVersion: "cluster.x-k8s.io/v1beta2", Kind: "Machine", Name: "worker-1"}}
	env.machines.put(m)
	_, err := env.reinstall(env.o, target("node"), exactImage)
	requireCode(t, http.StatusUnprocessableEntity, err, "spec.force", "worker-1", "user data")
	require.Empty(t, env.calls())
	_, err = env.reinstall(env.o, target("node"), exactImage, true)
	require.NoError(t, err)
}

func TestReinstall_RefusesLockedMachine(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.machine("node")
	require.NoError(t, env.sim.Lock(m.Status.Allocation.MachineID, "forensics"))
	_, err := env.reinstall(env.o, target("node"), exactImage)
	requireCode(t, http.StatusConflict, err, "locked", "forensics")
	require.Empty(t, env.calls())
}

// The metal-api marks the machine before it finds its queue away.
func TestReinstall_WithoutQueueIsUncertainAndCanBeRepeated(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.machine("node")
	up := env.withoutQueue()
	_, err := env.reinstall(env.o, target("node"), exactImage)
	requireCode(t, http.StatusGatewayTimeout, err, "marked", infrastructure.ConditionReinstalling, "cannot publish")
	up()
	require.True(t, env.observe(m.Status.Allocation.MachineID).Allocation.Reinstall)
	require.Equal(t, infrastructure.OperationUncertain, env.get("node").Status.LastOperation.Outcome)
	_, err = env.reinstall(env.o, target("node"), exactImage)
	requireCode(t, http.StatusGatewayTimeout, err, "marked")
	require.Equal(t, map[string]int{"machine-reinstall": 1}, env.calls())
	env.clock.Step(repeatInterval)
	_, err = env.reinstall(env.o, target("node"), exactImage)
	require.NoError(t, err)
	require.Equal(t, map[string]int{"machine-reinstall": 2}, env.calls())
}

// The machine is marked before its switches are reset, which fails if they are changed meanwhile.
func TestReinstall_ConflictAfterTheMarkIsUncertain(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	const message = "cannot delete vrf switches: Conflict cannot update switch (leaf01): the entity was changed from another, please retry"
	up := env.down("machine-reinstall", http.StatusConflict, message)
	_, err := env.reinstall(env.o, target("node"), exactImage)
	requireCode(t, http.StatusGatewayTimeout, err, "marked", message)
	up()
	require.Equal(t, infrastructure.OperationUncertain, env.get("node").Status.LastOperation.Outcome)
	notes := env.events.notes()
	require.Len(t, notes, 2)
	require.Contains(t, notes[0], "which wipes the disk, is requested by")
	require.Contains(t, notes[1], "It is not known whether the reinstallation with image")
}

func TestReinstall_RefusalNamesTheImage(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	up := env.down("machine-reinstall", http.StatusNotFound, `error finding image "x" for machine "m": NotFound no image with id "x" found`)
	_, err := env.reinstall(env.o, target("node"), exactImage)
	requireCode(t, http.StatusUnprocessableEntity, err, "MachineReinstall", "spec.image: Invalid value: \""+exactImage, "no image with id")
	up()
	notes := env.events.notes()
	require.Len(t, notes, 2)
	require.Contains(t, notes[1], "The metal-api refused the reinstallation")
}

func TestReinstall_CrashMakesNoSecondCall(t *testing.T) {
	t.Parallel()
	for step, calls := range map[string]int{"recorded": 0, "called": 1} {
		env := newEnvironment(t)
		env.machine("node")
		crashAt(env.o, step)
		_, err := env.reinstall(env.o, target("node"), exactImage)
		require.Error(t, err)
		next := env.newOperator()
		_, err = env.reinstall(next, target("node"), exactImage)
		requireCode(t, http.StatusGatewayTimeout, err)
		env.clock.Step(repeatInterval)
		_, err = env.reinstall(next, target("node"), exactImage)
		requireCode(t, http.StatusGatewayTimeout, err)
		_, err = env.reinstall(next, target("node"), "ubuntu-22.04.20250701")
		requireCode(t, http.StatusConflict, err, "in flight")
		require.Equal(t, calls, env.calls()["machine-reinstall"], step)
	}
}

func TestReinstall_UnknownCatalogueIsUnavailable(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	up := env.down("image-list", http.StatusBadGateway, "away")
	_, err := env.reinstall(env.o, target("node"), exactImage)
	requireCode(t, http.StatusServiceUnavailable, err, "away")
	up()
	up = env.down("machine-get", http.StatusNotFound, "NotFound no machine with id x found")
	_, err = env.reinstall(env.o, target("node"), exactImage)
	requireCode(t, http.StatusServiceUnavailable, err, "away")
	up()
	require.Empty(t, env.calls())
}

func TestReinstall_NeedsALayoutThatWipesADisk(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.machine("node")
	env.o.opts.Metal = keptLayout{Operator: env.client, uuid: m.Status.Allocation.AllocationUUID}
	_, err := env.reinstall(env.o, target("node"), exactImage)
	requireCode(t, http.StatusUnprocessableEntity, err, "MachineReinstall", "spec.image", "manual-keep", "wipes no disk")
	env.o.opts.Metal = keptLayout{Operator: env.client, uuid: "another"}
	_, err = env.reinstall(env.o, target("node"), exactImage)
	requireCode(t, http.StatusConflict, err, "allocated again")
	require.Empty(t, env.calls())
}

// keptLayout is a metal-api whose machines have a layout that wipes no disk.
type keptLayout struct {
	metal.Operator
	uuid string
}

func (k keptLayout) Layout(context.Context, string) (*metal.Layout, error) {
	return &metal.Layout{ID: "manual-keep", AllocationUUID: k.uuid}, nil
}
