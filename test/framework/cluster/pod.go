// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

// StartServer starts one more replica of the server, and does not wait for it.
func (c *Cluster) StartServer(t testing.TB) *Program {
	t.Helper()
	return c.Run(t, Deployment{
		Namespace: Namespace, Name: APIServer, Port: "https", Scheme: "https",
		Args: func(p *Program) []string {
			return append([]string{
				"--kubeconfig=" + c.Kubeconfig(p.Account),
				"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", p.Ports["https"]),
				// A test sees in moments what takes a real data centre minutes. On a busy machine,
				// where nothing may be observed within a second, too, a read is not stale.
				"--metal-api-polling-budget=1", "--sweep-interval=200ms", "--consistent-read-timeout=30s",
			}, c.opts.Flags...)
		},
	})
}

// StartControllerManager starts one more replica of the controller manager, and does
// not wait for it.
func (c *Cluster) StartControllerManager(t testing.TB) *Program {
	t.Helper()
	return c.Run(t, Deployment{
		Namespace: Namespace, Name: Manager, Port: "health", Scheme: "http", Env: c.opts.ManagerEnv,
		Args: func(p *Program) []string {
			return append([]string{
				"--kubeconfig=" + c.Kubeconfig(p.Account),
				fmt.Sprintf("--metrics-bind-address=127.0.0.1:%d", p.Ports["metrics"]),
				fmt.Sprintf("--health-probe-bind-address=127.0.0.1:%d", p.Ports["health"]),
				"--standalone",
			}, c.opts.ManagerFlags...)
		},
	})
}

// Deployment is one whose Pod's only container is run as a process.
type Deployment struct {
	Namespace, Name string
	// Path is the program; empty for the one that Options.Program says.
	Path string
	// Port is the name of the container's port at which /readyz is answered,
	// and Scheme is http or https.
	Port, Scheme string
	// Args are the ones that follow the container's, and win over them: ports
	// and mounts are others.
	Args func(p *Program) []string
	// Env is added to the container's, as key=value.
	Env []string
}

// Run starts the one container of a Deployment's Pod, as the kubelet would:
// its mounts are directories, its ports are others. It does not wait for it.
func (c *Cluster) Run(t testing.TB, d Deployment) *Program {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callLimit)
	defer cancel()
	deployment, err := c.Client().AppsV1().Deployments(d.Namespace).Get(ctx, d.Name, metav1.GetOptions{})
	require.NoError(t, err)
	template := deployment.Spec.Template
	pod := &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
	pod.Namespace, pod.Name = d.Namespace, d.Name+"-"+rand.String(5)
	container := &pod.Spec.Containers[0]
	if d.Path == "" {
		d.Path = c.opts.Program(t, d.Name, container.Image)
	}

	dir, err := os.MkdirTemp(c.Dir(), "test-")
	require.NoError(t, err)
	addresses, ports := map[int32]string{}, map[string]int{}
	for _, p := range container.Ports {
		free, err := controlplane.FreePort()
		require.NoError(t, err)
		ports[p.Name], addresses[p.ContainerPort] = free, fmt.Sprintf("127.0.0.1:%d", free)
	}
	// A fresh token of exactly this service account.
	account := c.ServiceAccount(t, d.Namespace, pod.Spec.ServiceAccountName)
	p := &Program{
		Name: pod.Name, Ports: ports, Account: account,
		URL: fmt.Sprintf("%s://127.0.0.1:%d", d.Scheme, ports[d.Port]), ready: "/readyz",
		path: d.Path, env: slices.Clone(d.Env), log: filepath.Join(dir, pod.Name+".log"),
	}
	env := c.environment(ctx, t, pod, container)
	args := make([]string, 0, len(container.Args))
	for _, arg := range container.Args {
		args = append(args, os.Expand(strings.ReplaceAll(strings.ReplaceAll(arg, "$(", "${"), ")", "}"), func(key string) string { return env[key] }))
	}
	for _, mount := range container.VolumeMounts {
		at := filepath.Join(dir, mount.Name)
		c.mount(ctx, t, pod, mount.Name, at)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], mount.MountPath, at)
		}
		p.Mounts = at
	}
	p.args = append(args, d.Args(p)...)
	for key, value := range env {
		p.env = append(p.env, key+"="+value)
	}
	p.Pod = c.RunPod(t, pod, addresses)
	p.Pod.SetReady(t, false)
	p.Start(t)
	t.Cleanup(func() { p.cleanup(t) })
	return p
}

// environment is the container's, with what it refers to looked up.
func (c *Cluster) environment(ctx context.Context, t testing.TB, pod *corev1.Pod, container *corev1.Container) map[string]string {
	t.Helper()
	env := map[string]string{}
	for _, e := range container.Env {
		switch from := e.ValueFrom; {
		case from == nil:
			env[e.Name] = e.Value
		case from.FieldRef != nil && from.FieldRef.FieldPath == "metadata.name":
			env[e.Name] = pod.Name
		case from.FieldRef != nil && from.FieldRef.FieldPath == "metadata.namespace":
			env[e.Name] = pod.Namespace
		case from.FieldRef != nil && from.FieldRef.FieldPath == "metadata.uid":
			// The Pod has none yet. Cluster API does without.
		case from.SecretKeyRef != nil:
			secret, err := c.Client().CoreV1().Secrets(pod.Namespace).Get(ctx, from.SecretKeyRef.Name, metav1.GetOptions{})
			require.NoError(t, err)
			env[e.Name] = string(secret.Data[from.SecretKeyRef.Key])
		case from.ResourceFieldRef != nil && from.ResourceFieldRef.Resource == "limits.memory":
			env[e.Name] = fmt.Sprint(container.Resources.Limits.Memory().Value())
		default:
			t.Fatalf("environment variable %s of %s: this fixture does not know where it comes from", e.Name, pod.Name)
		}
	}
	return env
}

// mount writes the files of a volume.
func (c *Cluster) mount(ctx context.Context, t testing.TB, pod *corev1.Pod, name, dir string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o700))
	for _, volume := range pod.Spec.Volumes {
		if volume.Name != name {
			continue
		}
		require.NotNil(t, volume.Secret, "volume %s: this fixture knows Secrets only", name)
		secret, err := c.Client().CoreV1().Secrets(pod.Namespace).Get(ctx, volume.Secret.SecretName, metav1.GetOptions{})
		require.NoError(t, err)
		for key, value := range secret.Data {
			require.NoError(t, os.WriteFile(filepath.Join(dir, key), value, 0o600))
		}
	}
}
