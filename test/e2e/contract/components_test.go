// SPDX-License-Identifier: Apache-2.0

package contract_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func TestComponents_MeetClusterctlRules(t *testing.T) {
	t.Parallel()
	rendered, err := exec.CommandContext(t.Context(), filepath.Join(root, "bin", "kubectl"), "kustomize", filepath.Join(root, "artifacts", "clusterctl")).Output()
	require.NoError(t, err)
	kinds := map[string]int{}
	for _, document := range strings.Split(string(rendered), "\n---\n") {
		obj := &unstructured.Unstructured{}
		require.NoError(t, yaml.Unmarshal([]byte(document), &obj.Object))
		what := obj.GetKind() + " " + obj.GetName()
		kinds[obj.GetKind()]++
		assert.Equal(t, "infrastructure-metal-stack", obj.GetLabels()["cluster.x-k8s.io/provider"], what)
		if obj.GetNamespace() != "" {
			assert.Equal(t, "metal-stack-system", obj.GetNamespace(), what)
		}
		if obj.GetKind() != "Deployment" {
			continue
		}
		for _, container := range at[[]any](t, obj, "spec", "template", "spec", "containers") {
			assert.Equal(t, "manager", container.(map[string]any)["name"], what)
			if obj.GetName() == "metalstack-controller-manager" {
				args := container.(map[string]any)["args"].([]any)
				assert.Equal(t, []any{"--management-cluster-url", `${METAL_MANAGEMENT_URL:=""}`}, args[len(args)-2:], "without the variable, the flag is empty")
			}
		}
	}
	assert.Equal(t, 1, kinds["Namespace"], "clusterctl takes the one that there is for its target")
	assert.Equal(t, 2, kinds["Deployment"])
	assert.Zero(t, kinds["APIService"], "clusterctl would point it to nowhere while it upgrades")
	assert.Zero(t, kinds["CustomResourceDefinition"], "the server keeps the markers")
}
