// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"metal-stack.io/infrastructure-apiserver/test/framework/build"
)

const (
	// Version is the version of our provider that is installed; Next is one
	// that clusterctl can upgrade to.
	Version = "v0.1.0"
	Next    = "v0.1.1"

	module = "sigs.k8s.io/cluster-api"
)

// provider is one of Cluster API's own, in the module and in a repository.
type provider struct {
	// name and kind are what clusterctl calls it.
	name, kind string
	// label is the provider's in its components, and so its directory.
	label string
	// components is its file, and source its kustomization in the module.
	components, source string
	// program is below bin/capi.
	program string
	// namespace and deployment are where it runs.
	namespace, deployment string
}

var providers = []provider{
	{"cluster-api", "CoreProvider", "cluster-api", "core-components.yaml", "core/config/default", "core", "capi-system", "capi-controller-manager"},
	{"kubeadm", "BootstrapProvider", "bootstrap-kubeadm", "bootstrap-components.yaml", "bootstrap/kubeadm/config/default", "bootstrap",
		"capi-kubeadm-bootstrap-system", "capi-kubeadm-bootstrap-controller-manager"},
	{"kubeadm", "ControlPlaneProvider", "control-plane-kubeadm", "control-plane-components.yaml", "controlplane/kubeadm/config/default", "controlplane",
		"capi-kubeadm-control-plane-system", "capi-kubeadm-control-plane-controller-manager"},
}

// bin is a program that `make controlplane capi bin/release` builds.
func bin(name ...string) string {
	return filepath.Join(append([]string{build.Root(), "bin"}, name...)...)
}

// Repository is a directory from which clusterctl installs.
type Repository struct {
	// Config is a file for clusterctl's --config.
	Config string
	dir    string
}

var clusterAPI = sync.OnceValues(func() (m struct{ Dir, Version string }, err error) {
	out, err := exec.Command("go", "-C", filepath.Join(build.Root(), "hack", "capi"), "list", "-m", "-json", module).Output()
	if err != nil {
		return m, fmt.Errorf("where the module %s is: %w", module, err)
	}
	return m, json.Unmarshal(out, &m)
})

// NewRepository makes one with Cluster API's providers, from the module that
// their programs are built from, and with ours in two versions.
func NewRepository(t testing.TB) *Repository {
	t.Helper()
	source, err := clusterAPI()
	require.NoError(t, err)
	// Below a directory with a short name: clusterctl reads a path's parts.
	dir, err := os.MkdirTemp("", "clusterctl-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &Repository{Config: filepath.Join(dir, "clusterctl.yaml"), dir: dir}

	metadata, err := os.ReadFile(filepath.Join(source.Dir, "metadata.yaml"))
	require.NoError(t, err)
	var listed []map[string]string
	for _, p := range providers {
		components := exec.Command(bin("kubectl"), "kustomize", filepath.Join(source.Dir, p.source))
		var complaint strings.Builder
		components.Stderr = &complaint
		text, err := components.Output()
		require.NoError(t, err, complaint.String())
		r.write(t, text, p.label, source.Version, p.components)
		r.write(t, metadata, p.label, source.Version, "metadata.yaml")
		listed = append(listed, r.entry(p.name, p.kind, p.label, source.Version, p.components))
	}
	for _, version := range []string{Version, Next} {
		release := exec.Command(bin("release"), "manifests", "--source", build.Root(),
			"--output", filepath.Join(dir, "infrastructure-metal-stack", version), "--tag", version)
		out, err := release.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	listed = append(listed, r.entry("metal-stack", "InfrastructureProvider", "infrastructure-metal-stack", Next, "infrastructure-components.yaml"))
	config, err := yaml.Marshal(map[string]any{"providers": listed})
	require.NoError(t, err)
	r.write(t, config, "clusterctl.yaml")
	return r
}

func (r *Repository) entry(name, kind, label, version, components string) map[string]string {
	return map[string]string{"name": name, "type": kind, "url": filepath.Join(r.dir, label, version, components)}
}

func (r *Repository) write(t testing.TB, data []byte, path ...string) {
	t.Helper()
	file := filepath.Join(append([]string{r.dir}, path...)...)
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, data, 0o600))
}
