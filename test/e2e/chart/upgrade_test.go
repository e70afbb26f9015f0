// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

// nextChart is a copy of the chart with another version.
func nextChart(t *testing.T) string {
	t.Helper()
	next := filepath.Join(t.TempDir(), "metalstack-apiserver")
	require.NoError(t, os.CopyFS(next, os.DirFS(chart())))
	path := filepath.Join(next, "Chart.yaml")
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	for old, version := range map[string]string{"\nversion: 0.0.0-devel\n": "\nversion: 9.8.7\n", "\nappVersion: latest\n": "\nappVersion: v9.8.7\n"} {
		require.Equal(t, 1, bytes.Count(content, []byte(old)), old)
		content = bytes.Replace(content, []byte(old), []byte(version), 1)
	}
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return next
}

// TestUpgrade_ToAnotherVersion has the images of that version, keeps values, and rotates the Secret of the
// chart, which stays when the value is removed and after an uninstallation: Pods do not start without it.
func TestUpgrade_ToAnotherVersion(t *testing.T) {
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
	deployment := func() *appsv1.Deployment {
		t.Helper()
		found, err := plane.Client().AppsV1().Deployments(cluster.Namespace).Get(t.Context(), cluster.APIServer, metav1.GetOptions{})
		require.NoError(t, err)
		return found
	}
	next := nextChart(t)
	for _, flag := range []string{"--reset-then-reuse-values", "--reuse-values"} {
		helm("upgrade", cluster.APIServer, next, flag)
		container := deployment().Spec.Template.Spec.Containers[0]
		assert.Equal(t, "ghcr.io/metal-stack/metalstack-apiserver:v9.8.7", container.Image, flag)
		assert.Contains(t, container.Args, "--metal-api-url=https://api.example.org/metal", flag)
		helm("rollback", cluster.APIServer)
		assert.Equal(t, "ghcr.io/metal-stack/metalstack-apiserver:latest", deployment().Spec.Template.Spec.Containers[0].Image, flag)
	}

	t.Log("what kubectl has changed is replaced if that is asked for")
	_, stderr, err := plane.Kubectl(t, plane.Admin(), "scale", "-n", cluster.Namespace, "deployment", cluster.APIServer, "--replicas=1")
	require.NoError(t, err, stderr)
	_, stderr, err = run(command(t, kubeconfig, "helm", "upgrade", cluster.APIServer, chart(), "--namespace", cluster.Namespace, "--reset-then-reuse-values"))
	require.Error(t, err)
	assert.Contains(t, stderr, "conflict")
	upgrade("--force-conflicts")
	assert.EqualValues(t, 2, *deployment().Spec.Replicas)

	helm("uninstall", cluster.APIServer)
	assert.Equal(t, "second-key", key())
	helm("install", cluster.APIServer, chart(), "--set=metalAPI.url=https://api.example.org/metal,metalAPI.hmac=third-key")
	assert.Equal(t, "third-key", key())
}
