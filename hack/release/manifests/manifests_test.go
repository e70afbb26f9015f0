// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

const source = "../../.."

var digests = map[string]string{
	"metalstack-apiserver":          "sha256:" + strings.Repeat("0a", 32),
	"metalstack-controller-manager": "sha256:" + strings.Repeat("0b", 32),
}

// byTag are the manifests of a release whose images have no digests.
var byTag = sync.OnceValues(func() (map[string][]byte, error) {
	directory, err := os.MkdirTemp("", "manifests-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(directory) }()
	names, err := Write(source, directory, Images{Registry: "ghcr.io/metal-stack", Tag: "v0.1.7"})
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, name := range names {
		if files[name], err = os.ReadFile(filepath.Join(directory, name)); err != nil {
			return nil, err
		}
	}
	return files, nil
})

// parse returns the objects of a manifest by kind/name.
func parse(t *testing.T, content []byte) map[string]unstructured.Unstructured {
	t.Helper()
	objects := map[string]unstructured.Unstructured{}
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
	for {
		var object unstructured.Unstructured
		err := decoder.Decode(&object.Object)
		if err == io.EOF {
			return objects
		}
		require.NoError(t, err)
		if len(object.Object) > 0 {
			objects[object.GetKind()+"/"+object.GetName()] = object
		}
	}
}

// TestComponents_TakeAnyKey: clusterctl puts the value of the variable into the text.
func TestComponents_TakeAnyKey(t *testing.T) {
	t.Parallel()
	files, err := byTag()
	require.NoError(t, err)
	for _, key := range []string{"the-key", "0123", "1e3", "true", "null", "a #b", "a: b", "- a", "*a", `a"b`, "a'b", `a\nb`, "{a}", "| a", "%a", "a:"} {
		objects := parse(t, bytes.ReplaceAll(files["infrastructure-components.yaml"], []byte("${METAL_API_HMAC}"), []byte(key)))
		value, _, err := unstructured.NestedString(objects["Secret/metal-api"].Object, "stringData", "hmac")
		require.NoError(t, err, key)
		assert.Equal(t, key, strings.TrimSpace(value))
	}
}

// image returns what a Deployment's only container runs.
func image(t *testing.T, objects map[string]unstructured.Unstructured, program string) string {
	t.Helper()
	deployment, ok := objects["Deployment/"+program]
	require.True(t, ok, program)
	containers, _, err := unstructured.NestedSlice(deployment.Object, "spec", "template", "spec", "containers")
	require.NoError(t, err)
	require.Len(t, containers, 1)
	return containers[0].(map[string]any)["image"].(string)
}

func TestWrite_PinsImages(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	names, err := Write(source, directory, Images{Registry: "registry.example:5000/metal", Tag: "v0.1.7", Digests: digests})
	require.NoError(t, err)
	unpinned, err := byTag()
	require.NoError(t, err)
	for _, name := range []string{"install.yaml", "install-monitoring.yaml", "infrastructure-components.yaml"} {
		content, err := os.ReadFile(filepath.Join(directory, name))
		require.NoError(t, err)
		assert.NotContains(t, string(content), ":latest", name)
		for _, program := range Deployed {
			assert.Equal(t, "registry.example:5000/metal/"+program+":v0.1.7@"+digests[program], image(t, parse(t, content), program), name)
			assert.Equal(t, "ghcr.io/metal-stack/"+program+":v0.1.7", image(t, parse(t, unpinned[name]), program), name)
		}
	}
	entries, err := os.ReadDir(directory)
	require.NoError(t, err)
	assert.Len(t, entries, len(names))
}

func TestWrite_AddsMonitoringAlone(t *testing.T) {
	t.Parallel()
	files, err := byTag()
	require.NoError(t, err)
	install, monitoring := parse(t, files["install.yaml"]), parse(t, files["install-monitoring.yaml"])
	for name, object := range install {
		assert.Equal(t, object, monitoring[name], name)
	}
	assert.Contains(t, monitoring, "PrometheusRule/metalstack")
	assert.NotContains(t, install, "PrometheusRule/metalstack")
}

// Every file of artifacts/clusterctl is released, and every template has metal-ccm.
func TestWrite_HasEveryFlavour(t *testing.T) {
	t.Parallel()
	files, err := byTag()
	require.NoError(t, err)
	templates, err := filepath.Glob(filepath.Join(source, "artifacts", "clusterctl", "*-*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, templates)
	for _, template := range templates {
		// Calico is a flavour's, and of no use without its template.
		if name := filepath.Base(template); name != "addons-calico.yaml" {
			assert.Contains(t, files, name)
		}
	}
	for name, content := range files {
		if strings.HasPrefix(name, "cluster-template") {
			// Not parsed: with its variables, a template is not YAML.
			assert.Contains(t, string(content), "kind: ClusterResourceSet\nmetadata:\n  name: \"${CLUSTER_NAME}-metal-ccm\"\n", name)
		}
	}
	assert.Contains(t, string(files["cluster-template-calico.yaml"]), "kind: HelmChartProxy")
}

func TestWrite_RefusesVersionWithoutSeries(t *testing.T) {
	t.Parallel()
	_, err := Write(source, t.TempDir(), Images{Registry: "ghcr.io/metal-stack", Tag: "v47.11.0"})
	assert.ErrorContains(t, err, "no releaseSeries for v47.11, only for v0.1")
}

// A renamed image must not leave a release with images of another one.
func TestWrite_RefusesManifestsWithOtherImages(t *testing.T) {
	t.Parallel()
	changed := t.TempDir()
	require.NoError(t, os.CopyFS(filepath.Join(changed, "artifacts"), os.DirFS(filepath.Join(source, "artifacts"))))
	kustomization := filepath.Join(changed, "artifacts", "deploy", "kustomization.yaml")
	content, err := os.ReadFile(kustomization)
	require.NoError(t, err)
	content = bytes.ReplaceAll(content, []byte("ghcr.io/metal-stack/metalstack-apiserver"), []byte("ghcr.io/metal-stack/renamed"))
	require.NoError(t, os.WriteFile(kustomization, content, fs.ModePerm))
	_, err = Write(changed, t.TempDir(), Images{Registry: "ghcr.io/metal-stack", Tag: "v0.1.0"})
	assert.ErrorContains(t, err, "install.yaml: artifacts/deploy has no container with the image ghcr.io/metal-stack/metalstack-apiserver")
}
