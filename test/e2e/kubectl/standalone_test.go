// SPDX-License-Identifier: Apache-2.0

package kubectl_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/testserver"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework/build"
)

// alone is a server without Kubernetes, and kubectl with what it wrote for it.
type alone struct {
	t          *testing.T
	kubeconfig string
}

func startAlone(t *testing.T) *alone {
	t.Helper()
	s := testserver.Start(t, testserver.Options{OpenAPI: true})
	return &alone{t, filepath.Join(s.DataDir, "kubeconfig")}
}

func (a *alone) run(stdin string, args ...string) outcome {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(build.Root(), "bin", "kubectl"), args...)
	cmd.Env = []string{"HOME=" + a.t.TempDir(), "PATH=" + os.Getenv("PATH"), "KUBECONFIG=" + a.kubeconfig}
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(a.t, err)
	}
	return outcome{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

func (a *alone) kubectl(args ...string) string {
	a.t.Helper()
	o := a.run("", args...)
	require.Zero(a.t, o.code, "kubectl %q: %s%s", args, o.stdout, o.stderr)
	assert.Empty(a.t, o.stderr, "kubectl %q", args)
	return o.stdout
}

func TestStandalone_FirstKubectlCommands(t *testing.T) {
	t.Parallel()
	a := startAlone(t)
	assert.Regexp(t, `(?m)^Username\s+\S+$`, a.kubectl("auth", "whoami"))
	assert.Contains(t, a.kubectl("auth", "whoami"), "system:masters")
	assert.Equal(t, "yes\n", a.kubectl("auth", "can-i", "delete", "metalstackmachines"))
	assert.Equal(t, "yes\n", a.kubectl("auth", "can-i", "create", "msm/allocation"))
	assert.Equal(t, "yes\n", a.kubectl("auth", "can-i", "get", "/metrics"))
	assert.Regexp(t, `(?m)^\*\.\*\s+\[\]\s+\[\]\s+\[\*\]$`, a.kubectl("auth", "can-i", "--list"))
	assert.Equal(t, "NAME     STATUS   PROJECT\n"+
		"team-a   Active   "+simulator.ProjectA+"\n"+
		"team-b   Active   "+simulator.ProjectB+"\n", a.kubectl("get", "ns"))
	assert.Equal(t, "namespace/team-a\n", a.kubectl("get", "namespace", "team-a", "-o=name"))
	assert.Equal(t, "namespace/team-b\n", a.kubectl("get", "ns", "-l", "kubernetes.io/metadata.name=team-b", "-o=name"))
	assert.Contains(t, a.run("", "get", "ns", "team-c").stderr, `namespaces "team-c" not found`)
	assert.Contains(t, a.run("", "create", "ns", "team-c").stderr, "MethodNotAllowed")
	assert.Contains(t, a.run("", "get", "msm", "none", "-n", "team-a").stderr, `metalstackmachines.infrastructure.cluster.x-k8s.io "none" not found`)
	assert.Contains(t, a.run("", "get", "events").stderr, `the server doesn't have a resource type "events"`)
}

func TestStandalone_ForegroundAndOrphanDeletionIsRefused(t *testing.T) {
	t.Parallel()
	a := startAlone(t)
	created := a.run(restingManifest("node-1"), "create", "-n", "team-a", "-f", "-")
	require.Zero(t, created.code, created.stderr)
	for _, args := range [][]string{
		{"--cascade=foreground"}, {"--cascade=orphan"}, {"--cascade=foreground", "--dry-run=server"},
	} {
		refused := a.run("", append([]string{"delete", "msm", "node-1", "-n", "team-a", "--wait=false"}, args...)...)
		assert.NotZero(t, refused.code, "%q", args)
		assert.Contains(t, refused.stderr, "propagationPolicy: Invalid value", "%q", args)
		assert.Contains(t, refused.stderr, "requires a garbage collector", "%q", args)
		all := a.run("", append([]string{"delete", "msm", "--all", "-n", "team-a", "--wait=false"}, args...)...)
		assert.NotZero(t, all.code, "%q --all", args)
	}
	raw := a.run(`{"kind":"DeleteOptions","apiVersion":"v1","orphanDependents":true}`, "delete", "--raw",
		"/apis/infrastructure.cluster.x-k8s.io/v1alpha4/namespaces/team-a/metalstackmachines/node-1", "-f", "-")
	assert.Contains(t, raw.stderr, "orphanDependents: Invalid value")
	assert.Empty(t, a.kubectl("get", "msm", "node-1", "-n", "team-a", "-o=jsonpath={.metadata.deletionTimestamp}"), "it is not deleted")

	a.kubectl("delete", "msm", "node-1", "-n", "team-a", "--wait=false")
	assert.Equal(t, `["metalstackmachine.infrastructure.cluster.x-k8s.io"]`, a.kubectl("get", "msm", "node-1", "-n", "team-a", "-o=jsonpath={.metadata.finalizers}"))
}
