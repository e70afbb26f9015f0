// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

// variant is a way to install with kustomize, and the same with helm.
type variant struct {
	components []string
	// kustomization is what the overlay has besides.
	kustomization string
	values        []string
}

var variants = map[string]variant{
	"base":         {},
	"monitoring":   {components: []string{"monitoring"}, values: []string{"--set=monitoring.enabled=true"}},
	"cert-manager": {components: []string{"cert-manager"}, values: []string{"--set=certManager.enabled=true"}},
	"both":         {components: []string{"monitoring", "cert-manager"}, values: []string{"--set=monitoring.enabled=true,certManager.enabled=true"}},
	"management cluster": {
		kustomization: `
patches:
- target: {kind: Deployment, name: metalstack-controller-manager}
  patch: |
    - {op: add, path: /spec/template/spec/containers/0/args/-, value: "--management-cluster-url=https://kubernetes.example.org:6443"}
`,
		values: []string{"--set=managementCluster.url=https://kubernetes.example.org:6443"},
	},
	"images": {
		kustomization: `
images:
- {name: ghcr.io/metal-stack/metalstack-apiserver, newName: example.org:5000/mirror/metalstack-apiserver, newTag: v1.2.3}
- {name: ghcr.io/metal-stack/metalstack-controller-manager, newName: example.org:5000/mirror/metalstack-controller-manager, newTag: v1.2.3}
`,
		values: []string{"--set=image.registry=example.org:5000/mirror,image.tag=v1.2.3"},
	},
}

const otherNamespace = "other-namespace"

func TestChart_IsEqualToKustomize(t *testing.T) {
	t.Parallel()
	for name, v := range variants {
		for _, namespace := range []string{cluster.Namespace, otherNamespace} {
			t.Run(name+" in "+namespace, func(t *testing.T) {
				t.Parallel()
				want := kustomize(t, v, namespace)
				got := index(t, render(t, namespace, v.values...))
				for id, object := range got {
					labels := object.GetLabels()
					assert.Equal(t, "metalstack-apiserver-0.0.0-devel", labels["helm.sh/chart"], id)
					delete(labels, "helm.sh/chart")
					if len(labels) == 0 {
						labels = nil
					}
					object.SetLabels(labels)
				}
				require.Equal(t, slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)))
				for id := range want {
					assert.Equal(t, text(t, want[id]), text(t, got[id]), id)
				}
			})
		}
	}
}

// TestChart_QuotesNamespaces: kustomize makes a number of one that looks like a number, so the
// chart is compared with itself.
func TestChart_QuotesNamespaces(t *testing.T) {
	t.Parallel()
	values := "--set=monitoring.enabled=true,certManager.enabled=true,metalAPI.url=https://x,metalAPI.hmac=y"
	want, got := render(t, otherNamespace, values), render(t, "123", values)
	require.Len(t, got, len(want))
	for i := range want {
		assert.Equal(t, strings.ReplaceAll(text(t, want[i]), otherNamespace, "123"), text(t, got[i]))
	}
}

// kustomize is what an overlay makes, as artifacts/deploy/README.md says, but for what Helm
// cannot have.
func kustomize(t *testing.T, v variant, namespace string) map[string]*unstructured.Unstructured {
	t.Helper()
	overlay := cluster.Overlay(t, v.components...)
	path := filepath.Join(overlay, "kustomization.yaml")
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	content = append(content, []byte(v.kustomization+"\nnamespace: \""+namespace+"\"\n")...)
	require.NoError(t, os.WriteFile(path, content, 0o600))
	rendered, stderr, err := run(command(t, "", "kubectl", "kustomize", overlay))
	require.NoError(t, err, stderr)
	objects := decode(t, rendered)
	for _, object := range objects {
		switch object.GetKind() {
		case "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding":
			// kustomize does not know that they have no namespace. The kube-apiserver takes it off.
			object.SetNamespace("")
		case "Certificate", "ServiceMonitor":
			// The names that artifacts/deploy/README.md says to change with the namespace.
			replaced := strings.ReplaceAll(text(t, object), cluster.APIServer+"."+cluster.Namespace, cluster.APIServer+"."+namespace)
			require.NoError(t, json.Unmarshal([]byte(replaced), &object.Object))
		}
	}
	all := index(t, objects)
	// The namespace of a release is not in it.
	const id = "Namespace/"
	require.Contains(t, all, id+namespace)
	assert.Equal(t, "restricted", all[id+namespace].GetLabels()["pod-security.kubernetes.io/enforce"], "README.md and NOTES.txt say so")
	delete(all, id+namespace)
	return all
}

// index is objects by kind, namespace and name. Each is there once.
func index(t *testing.T, objects []*unstructured.Unstructured) map[string]*unstructured.Unstructured {
	t.Helper()
	found := map[string]*unstructured.Unstructured{}
	for _, object := range objects {
		id := strings.Join([]string{object.GetKind(), object.GetNamespace(), object.GetName()}, "/")
		if object.GetNamespace() == "" {
			id = object.GetKind() + "/" + object.GetName()
		}
		require.NotContains(t, found, id)
		found[id] = object
	}
	return found
}

func text(t *testing.T, object *unstructured.Unstructured) string {
	t.Helper()
	content, err := json.MarshalIndent(object.Object, "", "  ")
	require.NoError(t, err)
	return string(content)
}

// TestChart_PassesStrictValidation: also with values that artifacts/deploy has no component for.
func TestChart_PassesStrictValidation(t *testing.T) {
	t.Parallel()
	plane := controlplane.StartShared(t)
	const namespace = "strict"
	_, stderr, err := plane.Kubectl(t, plane.Admin(), "create", "namespace", namespace)
	require.NoError(t, err, stderr)
	_, stderr, err = plane.Kubectl(t, plane.Admin(), "label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
	require.NoError(t, err, stderr)
	text, stderr, err := template(t, namespace, "--values=testdata/all.yaml")
	require.NoError(t, err, stderr)
	objects := decode(t, text)
	cluster.DefineOthers(t, plane, objects)
	file := filepath.Join(t.TempDir(), "all.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	stdout, stderr, err := plane.Kubectl(t, plane.Admin(), "apply", "-f", file, "--dry-run=server", "--validate=strict")
	require.NoError(t, err, stderr)
	assert.Equal(t, len(objects), strings.Count(stdout, "(server dry run)"))
	assert.Empty(t, stderr, "no warning")
}

func TestChart_PassesLint(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{nil, {"--values=testdata/all.yaml"}} {
		stdout, stderr, err := run(command(t, "", "helm", append([]string{"lint", "--strict", chart(), "--namespace", "metal"}, flags...)...))
		require.NoError(t, err, stdout+stderr)
		assert.NotContains(t, stdout, "WARNING")
	}
}
