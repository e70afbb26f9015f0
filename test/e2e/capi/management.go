// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/dynamic"

	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

// clusterctlLimit ends a clusterctl that does not end by itself.
const clusterctlLimit = 5 * time.Minute

// Options are what a test may want differently.
type Options struct {
	// Site is the data centre, which other management clusters may share.
	Site *Site
	// Repository is where clusterctl installs from; default: a new one.
	Repository *Repository
	// ManagerFlags are added to the controller manager's arguments.
	ManagerFlags []string
}

// Management is a management cluster, with Cluster API and our provider
// installed and running.
type Management struct {
	*cluster.Cluster
	Site       *Site
	Repository *Repository
	// Managers are Cluster API's, by the directory of their program: core,
	// bootstrap, controlplane.
	Managers map[string]*cluster.Program

	plane   *controlplane.ControlPlane
	dynamic dynamic.Interface
}

// Start runs a control plane, has clusterctl install everything, runs it, and
// stops it when the test ends. It returns when all is ready.
func Start(t testing.TB, opts Options) *Management {
	t.Helper()
	if opts.Repository == nil {
		opts.Repository = NewRepository(t)
	}
	m := &Management{Site: opts.Site, Repository: opts.Repository, plane: controlplane.Start(t), Managers: map[string]*cluster.Program{}}
	var err error
	m.dynamic, err = dynamic.NewForConfig(m.plane.Admin())
	require.NoError(t, err)
	m.installCertManager(t)
	m.Clusterctl(t, "init", "--core", "cluster-api", "--bootstrap", "kubeadm", "--control-plane", "kubeadm",
		"--infrastructure", "metal-stack:"+Version)
	m.certify(t)

	m.Cluster = cluster.Start(t, cluster.Options{
		ControlPlane: m.plane, Metal: m.Site.Metal, Installed: true,
		// As in an installation: in an outage, controllers do not wait.
		Flags:             []string{"--consistent-read-timeout=1s"},
		ControllerManager: true, ManagerFlags: append([]string{"--standalone=false"}, opts.ManagerFlags...),
		ManagerEnv: []string{"HTTPS_PROXY=" + m.Site.Proxy},
	})
	for _, p := range providers {
		m.Managers[p.program] = m.run(t, p)
	}
	for _, p := range m.Managers {
		p.AwaitReady(t)
	}
	m.awaitWebhooks(t)
	return m
}

// run starts one of Cluster API's managers.
func (m *Management) run(t testing.TB, p provider) *cluster.Program {
	t.Helper()
	return m.Run(t, cluster.Deployment{
		Namespace: p.namespace, Name: p.deployment, Path: bin("capi", p.program, "manager"), Port: "healthz", Scheme: "http",
		Args: func(running *cluster.Program) []string {
			return []string{
				"--kubeconfig=" + m.Kubeconfig(running.Account),
				fmt.Sprintf("--webhook-port=%d", running.Ports["webhook-server"]),
				"--webhook-cert-dir=" + running.Mounts,
				fmt.Sprintf("--health-addr=127.0.0.1:%d", running.Ports["healthz"]),
				fmt.Sprintf("--diagnostics-address=127.0.0.1:%d", running.Ports["metrics"]),
				"--leader-elect=false",
			}
		},
		Env: []string{"HTTPS_PROXY=" + m.Site.Proxy},
	})
}

// awaitWebhooks waits until the kube-apiserver reaches all webhooks: Services
// take a moment to know their Pods.
func (m *Management) awaitWebhooks(t testing.TB) {
	t.Helper()
	probes := map[string]string{
		"core":         `{"apiVersion":"cluster.x-k8s.io/v1beta2","kind":"MachineDeployment","metadata":{"name":"probe","namespace":"default"},"spec":{"clusterName":"x","template":{"spec":{"clusterName":"x","bootstrap":{"dataSecretName":"x"},"infrastructureRef":{"apiGroup":"infrastructure.cluster.x-k8s.io","kind":"MetalStackMachineTemplate","name":"x"}}}}}`,
		"bootstrap":    `{"apiVersion":"bootstrap.cluster.x-k8s.io/v1beta2","kind":"KubeadmConfig","metadata":{"name":"probe","namespace":"default"},"spec":{"format":"ignition"}}`,
		"controlplane": `{"apiVersion":"controlplane.cluster.x-k8s.io/v1beta2","kind":"KubeadmControlPlane","metadata":{"name":"probe","namespace":"default"},"spec":{"replicas":1,"version":"v1.36.0","machineTemplate":{"spec":{"infrastructureRef":{"apiGroup":"infrastructure.cluster.x-k8s.io","kind":"MetalStackMachineTemplate","name":"x"}}},"kubeadmConfigSpec":{"format":"ignition"}}}`,
	}
	for _, probe := range probes {
		framework.Eventually(t, time.Minute, func(ctx context.Context) error {
			return m.Apply(ctx, probe, "--dry-run=server")
		})
	}
}

// Apply applies objects as an administrator.
func (m *Management) Apply(ctx context.Context, objects string, args ...string) error {
	cmd := m.plane.KubectlCommand(ctx, m.plane.Admin(), append([]string{"apply", "-f", "-"}, args...)...)
	cmd.Stdin = bytes.NewBufferString(objects)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl apply: %w: %s", err, out)
	}
	return nil
}

// Clusterctl runs clusterctl against this cluster, and returns what it printed.
func (m *Management) Clusterctl(t testing.TB, args ...string) string {
	t.Helper()
	out, err := m.TryClusterctl(t, nil, args...)
	require.NoError(t, err)
	return out
}

// TryClusterctl is Clusterctl where it may fail, with variables for templates.
func (m *Management) TryClusterctl(t testing.TB, variables map[string]string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clusterctlLimit)
	defer cancel()
	home, err := os.MkdirTemp(m.plane.Dir(), "test-clusterctl-")
	require.NoError(t, err)
	cmd := exec.CommandContext(ctx, bin("clusterctl"), append(args, "--config", m.Repository.Config)...)
	cmd.Env = []string{
		"HOME=" + home, "XDG_CONFIG_HOME=" + home, "PATH=" + os.Getenv("PATH"), "KUBECONFIG=" + m.plane.Kubeconfig(m.plane.Admin()),
		"CLUSTERCTL_DISABLE_VERSIONCHECK=true", "NO_COLOR=true",
		"METAL_API_URL=" + m.Site.Metal.URL, "METAL_API_HMAC=" + m.Site.Metal.Key("Metal-Edit"), "METAL_MANAGEMENT_URL=" + m.plane.Admin().Host,
		"CLUSTER_TOPOLOGY=true", "EXP_KUBEADM_BOOTSTRAP_FORMAT_IGNITION=true",
	}
	for key, value := range variables {
		cmd.Env = append(cmd.Env, key+"="+value)
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("clusterctl %v: %w: %s", args, err, errs.String())
	}
	return out.String(), nil
}
