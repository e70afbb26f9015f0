// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

// TestSecret_OfTheChart is rotated by an upgrade, and stays when the value is removed and after an
// uninstallation: Pods do not start without it.
func TestSecret_OfTheChart(t *testing.T) {
	t.Parallel()
	plane := controlplane.Start(t)
	kubeconfig := plane.Kubeconfig(plane.Admin())
	helm := func(args ...string) string {
		t.Helper()
		stdout, stderr, err := run(command(t, kubeconfig, "helm", append(args, "--namespace", cluster.Namespace)...))
		require.NoError(t, err, stderr)
		return stdout + stderr
	}
	key := func() string {
		t.Helper()
		secret, err := plane.Client().CoreV1().Secrets(cluster.Namespace).Get(t.Context(), "metal-api", metav1.GetOptions{})
		require.NoError(t, err)
		return string(secret.Data["hmac"])
	}
	// What a shell, YAML or a template could misread.
	const first = "100%s{{ fail \"x\" }}'#: \\n\n"
	file := filepath.Join(t.TempDir(), "hmac")
	require.NoError(t, os.WriteFile(file, []byte(first), 0o600))
	upgrade := func(flags ...string) string {
		return helm(append([]string{"upgrade", cluster.APIServer, chart(), "--reset-then-reuse-values"}, flags...)...)
	}

	printed := helm("install", cluster.APIServer, chart(), "--create-namespace", "--set=metalAPI.url=https://api.example.org/metal", "--set-file=metalAPI.hmac="+file)
	assert.NotContains(t, printed, "100%s")
	assert.Equal(t, first, key())
	assert.NotContains(t, upgrade("--set=metalAPI.hmac=second-key"), "second-key")
	assert.Equal(t, "second-key", key())
	upgrade("--set=metalAPI.hmac=")
	assert.Equal(t, "second-key", key())

	t.Log("what kubectl has changed is replaced if that is asked for")
	_, stderr, err := plane.Kubectl(t, plane.Admin(), "scale", "-n", cluster.Namespace, "deployment", cluster.APIServer, "--replicas=1")
	require.NoError(t, err, stderr)
	_, stderr, err = run(command(t, kubeconfig, "helm", "upgrade", cluster.APIServer, chart(), "--namespace", cluster.Namespace, "--reset-then-reuse-values"))
	require.Error(t, err)
	assert.Contains(t, stderr, "conflict")
	upgrade("--force-conflicts")
	deployment, err := plane.Client().AppsV1().Deployments(cluster.Namespace).Get(t.Context(), cluster.APIServer, metav1.GetOptions{})
	require.NoError(t, err)
	assert.EqualValues(t, 2, *deployment.Spec.Replicas)

	helm("uninstall", cluster.APIServer)
	assert.Equal(t, "second-key", key())
	helm("install", cluster.APIServer, chart(), "--set=metalAPI.url=https://api.example.org/metal,metalAPI.hmac=third-key")
	assert.Equal(t, "third-key", key())
}
