// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

const secret = "geheim-4711"

// Whoever pipes the password somewhere gets the password, and whoever keeps the errors does not.
func TestConsolePassword_IsAloneOnStandardOutput(t *testing.T) {
	t.Parallel()
	s := shop(t)
	s.on("POST metalstackmachines/worker-1/consolepassword", http.StatusCreated, v1alpha4.MachineConsolePassword{
		Spec: v1alpha4.MachineConsolePasswordSpec{Reason: "no network"}, Status: v1alpha4.MachineConsolePasswordStatus{Password: secret},
	})
	o := s.run("console-password", "worker-1", "--reason=no network")
	require.Zero(t, o.code, o.stderr)
	assert.Equal(t, secret+"\n", o.stdout)
	assert.NotContains(t, o.stderr, secret)
	assert.Contains(t, o.stderr, "recorded in an Event")
	assert.Equal(t, map[string]any{"reason": "no network"}, s.made()[0].Body["spec"])
}

// No flag makes the client log bodies, as --v=8 does in kubectl.
func TestConsolePassword_HasNoFlagThatLogsBodies(t *testing.T) {
	t.Parallel()
	s := shop(t)
	for _, flag := range []string{"--v=8", "-v=8", "--output=json"} {
		o := s.run("console-password", "worker-1", "--reason=x", flag)
		assert.Equal(t, 1, o.code)
		assert.Contains(t, o.stderr, "unknown")
	}
	assert.Empty(t, s.made())
}

func TestReason_IsRequiredInOneLine(t *testing.T) {
	t.Parallel()
	s := shop(t)
	for _, args := range [][]string{
		{"console-password", "worker-1"}, {"lock", "worker-1"}, {"unlock", "worker-1"}, {"reinstall", "worker-1", "--image=ubuntu-24.04"},
	} {
		for reason, says := range map[string]string{
			"": "--reason is required", "  ": "--reason is required", "a\nb": "--reason has several lines", strings.Repeat("a", 257): "--reason has 257 bytes: at most 256",
		} {
			o := s.run(append(args, "--reason="+reason)...)
			assert.Equal(t, 1, o.code)
			assert.Contains(t, o.stderr, says)
			assert.Contains(t, o.stderr, "\nUsage: kubectl metal "+args[0]+" NAME")
		}
	}
	assert.Empty(t, s.made())
}

func TestIdentify_SendsTheState(t *testing.T) {
	t.Parallel()
	s := shop(t)
	s.on("POST metalstackmachines/worker-1/identify", http.StatusCreated, v1alpha4.MachineIdentify{})
	o := s.run("identify", "off", "worker-1", "--reason=found it")
	assert.Equal(t, "metalstackmachine/worker-1: chassis LED off was sent to the machine's controller (BMC)\n", o.stdout)
	assert.Equal(t, map[string]any{"state": "Off", "reason": "found it"}, s.made()[0].Body["spec"])
	assert.Contains(t, s.run("identify").stderr, "expected on or off, and a NAME")
}

func TestLock_LocksShowsAndUnlocks(t *testing.T) {
	t.Parallel()
	s := shop(t)
	locked := v1alpha4.MachineLock{Status: v1alpha4.MachineLockStatus{Locked: true, Reason: "evidence"}}
	s.on("POST metalstackmachines/worker-1/lock", http.StatusCreated, locked)
	s.on("GET metalstackmachines/worker-1/lock", http.StatusOK, locked)
	s.on("DELETE metalstackmachines/worker-1/lock", http.StatusOK, v1alpha4.MachineLock{})
	assert.Equal(t, "metalstackmachine/worker-1 is locked: evidence\n", s.run("lock", "worker-1", "--reason=evidence").stdout)
	assert.Equal(t, "metalstackmachine/worker-1 is locked: evidence\n", s.run("lock", "worker-1", "--show").stdout)
	assert.Equal(t, "metalstackmachine/worker-1 is unlocked\n", s.run("unlock", "worker-1", "--reason=case closed").stdout)
	made := s.made()
	require.Len(t, made, 2)
	assert.Equal(t, "reason=case+closed", made[1].Query)
	assert.Equal(t, map[string]any{"uid": "uid-of-worker-1"}, made[1].Body["preconditions"])
}

func TestAdopt_CreatesTheObjectForADiscoveredMachine(t *testing.T) {
	t.Parallel()
	s := shop(t)
	id := discovered().Name
	o := s.run("adopt", id, "--name=worker-7", "--cluster-name=shop", "--dry-run=client", "-o=yaml")
	require.Zero(t, o.code, o.stderr)
	assert.Empty(t, s.made())
	var manifest map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(o.stdout), &manifest))
	assert.Equal(t, "MetalStackMachine", manifest["kind"])
	assert.Equal(t, map[string]any{
		"image": "debian-13.0.20260301", "machineType": "c1-large-x86", "partition": "fra-01", "providerID": "metal://fra-01/" + id,
	}, manifest["spec"])
	assert.Equal(t, map[string]any{"cluster.x-k8s.io/cluster-name": "shop"}, manifest["metadata"].(map[string]any)["labels"])

	created := worker("worker-7")
	s.on("POST metalstackmachines", http.StatusCreated, created)
	o = s.run("adopt", id, "--name=worker-7", "--dry-run=server")
	assert.Equal(t, "metalstackmachine/worker-7 created for machine "+id+" (server dry run)\n", o.stdout)
	o = s.run("adopt", id, "--name=worker-7")
	assert.Equal(t, "metalstackmachine/worker-7 created for machine "+id+"\n", o.stdout)
	assert.Contains(t, o.stderr, "infrastructureRef")
	made := s.made()
	require.Len(t, made, 2)
	assert.Contains(t, made[0].Query, "dryRun=All")
	assert.NotContains(t, made[1].Query, "dryRun")
	assert.Equal(t, manifest["spec"], made[1].Body["spec"])
}

func TestAdopt_RefusesWhatIsManaged(t *testing.T) {
	t.Parallel()
	s := shop(t)
	assert.Contains(t, s.run("adopt", "worker-1", "--name=worker-7").stderr, "metalstackmachine/worker-1 was not discovered")
	assert.Contains(t, s.run("adopt", "worker-1").stderr, "--name is required")
	assert.Empty(t, s.made())
}

// --as is kubectl's: the user to impersonate.
func TestCommands_KeepTheFlagsOfKubectl(t *testing.T) {
	t.Parallel()
	root := NewCommand(Environment{})
	for _, c := range root.Commands() {
		for _, sub := range append(c.Commands(), c) {
			for _, flag := range []string{"as", "namespace", "context", "kubeconfig", "server", "user", "cluster"} {
				assert.Nil(t, sub.LocalNonPersistentFlags().Lookup(flag), "%s has a flag --%s of its own", sub.CommandPath(), flag)
			}
		}
	}
}
