// SPDX-License-Identifier: Apache-2.0

package kubectl_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/test/framework/build"
)

// plugin has kubectl find kubectl metal, in the namespace of the test.
type plugin struct {
	*space
	path string
}

func newPlugin(s *space) plugin {
	s.t.Helper()
	dir, err := build.Programs(nil, "./cmd/kubectl-metal")
	require.NoError(s.t, err)
	return plugin{s, strings.Join([]string{dir, filepath.Join(build.Root(), "artifacts", "krew"), os.Getenv("PATH")}, ":")}
}

// metal runs kubectl metal, without a terminal.
func (p plugin) metal(args ...string) outcome {
	p.t.Helper()
	return p.runExactly([]string{"PATH=" + p.path}, "", append(append([]string{"metal"}, args...), "--namespace="+p.name)...)
}

// succeeds returns the standard output.
func (p plugin) succeeds(args ...string) string {
	p.t.Helper()
	o := p.metal(args...)
	require.Zero(p.t, o.code, "kubectl metal %q: %s%s", args, o.stdout, o.stderr)
	return o.stdout
}

// pluginOperatesMachines goes through a day of a person who looks after a machine.
func pluginOperatesMachines(s *space) {
	p := newPlugin(s)
	s.kubectlIn(clusterManifest("orchid")+"---"+machineManifest("node-1", "orchid"), "create", "-f", "-")
	p.succeeds("wait", "node-1", "--for=ready", "--timeout="+kubectlTimeout)
	assert.Contains(s.t, p.succeeds("ls"), "─ node-1")

	o := p.metal("power", "cycle", "node-1")
	assert.Equal(s.t, 1, o.code)
	assert.Contains(s.t, o.stderr, "nothing was sent: the input is no terminal")
	assert.Equal(s.t, "metalstackmachine/node-1: Cycle was sent to the machine's controller (BMC)\n", p.succeeds("power", "cycle", "node-1", "--yes", "--reason=hangs"))
	p.succeeds("wait", "node-1", "--for=phoned-home", "--timeout="+kubectlTimeout)
	assert.Contains(s.t, p.succeeds("log", "node-1"), "Planned Reboot")
	p.succeeds("power", "off", "node-1", "--yes")
	p.succeeds("wait", "node-1", "--for=power=off", "--timeout="+kubectlTimeout)
	p.succeeds("power", "on", "node-1")
	p.succeeds("wait", "node-1", "--for=power=on", "--timeout="+kubectlTimeout)

	password := p.succeeds("console-password", "node-1", "--reason=no network")
	assert.Equal(s.t, 1, strings.Count(password, "\n"))
	assert.NotEmpty(s.t, strings.TrimSpace(password))
	assert.Contains(s.t, p.succeeds("identify", "on", "node-1"), "chassis LED on was sent")
	assert.Equal(s.t, "metalstackmachine/node-1 is locked: evidence\n", p.succeeds("lock", "node-1", "--reason=evidence"))
	p.succeeds("unlock", "node-1", "--reason=case closed")

	described := p.succeeds("describe", "node-1")
	for _, words := range []string{"Last operation:", "Power:", "PowerRequested", "ConsolePasswordRead", "no network"} {
		assert.Contains(s.t, described, words)
	}
	assert.NotContains(s.t, described, "cannot be read")
	assert.NotContains(s.t, described, strings.TrimSpace(password))
	o = p.metal("power", "boot-disk", "node-1", "--as=viewer")
	assert.Equal(s.t, 1, o.code)
	assert.Contains(s.t, o.stderr, "ClusterRole that grants it: metalstack-operator")
}

func pluginAdoptsAndCompletes(s *space) {
	p := newPlugin(s)
	id := s.discovered()
	assert.Equal(s.t, "metalstackmachine/node-7 created for machine "+id+" (server dry run)\n", p.succeeds("adopt", id, "--name=node-7", "--dry-run=server"))
	assert.Equal(s.t, "metalstackmachine.infrastructure.cluster.x-k8s.io/node-7\n", p.succeeds("adopt", id, "--name=node-7", "-o=name"))
	s.eventually(func() bool { return s.field(".spec.providerID", "msm", "node-7") != "" }, "the object is there")

	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	cmd := s.KubectlCommand(ctx, s.Admin(), "__complete", "metal", "log", "--namespace="+s.name, "node")
	cmd.Env = append(cmd.Env, "PATH="+p.path)
	out, err := cmd.Output()
	require.NoError(s.t, err)
	assert.Equal(s.t, "node-7\n:4\n", string(out))
}
