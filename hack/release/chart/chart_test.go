// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"metal-stack.io/infrastructure-apiserver/hack/release/manifests"
)

// repository returns one with a chart of these files.
func repository(t *testing.T, files map[string]string) string {
	t.Helper()
	source := t.TempDir()
	if _, ok := files[".helmignore"]; !ok {
		files[".helmignore"] = ""
	}
	for name, content := range files {
		file := filepath.Join(source, Directory, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
	}
	return source
}

func unpack(t *testing.T, file string) map[string]string {
	t.Helper()
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	compressed, err := gzip.NewReader(bytes.NewReader(content))
	require.NoError(t, err)
	files := map[string]string{}
	for reader := tar.NewReader(compressed); ; {
		header, err := reader.Next()
		if err == io.EOF {
			return files
		}
		require.NoError(t, err)
		text, err := io.ReadAll(reader)
		require.NoError(t, err)
		files[header.Name] = string(text)
	}
}

func TestWrite_HasVersionAndImagesOfTheRelease(t *testing.T) {
	t.Parallel()
	source := repository(t, map[string]string{
		"Chart.yaml":            "apiVersion: v2\nname: metalstack-apiserver\nversion: 0.0.0-devel\nappVersion: latest\n",
		"values.yaml":           "image:\n  registry: ghcr.io/metal-stack\n",
		"templates/a.yaml":      "a: {}\n",
		".helmignore":           ".*\n# editors'\n*.swp\n",
		"templates/.a.yaml.swp": "password",
		"templates/a.swp":       "password",
		".idea/workspace.xml":   "password",
		"README.md":             "# version: 0.0.0-devel\n",
		"templates/generated/b": "",
	})
	directory := t.TempDir()
	images := manifests.Images{Registry: "registry.example:5000/metal", Tag: "v0.1.0-rc.1"}
	require.NoError(t, Write(source, directory, images))
	files := unpack(t, filepath.Join(directory, "metalstack-apiserver-0.1.0-rc.1.tgz"))
	assert.Len(t, files, 5, "as `helm package`, without what .helmignore names")
	var chart map[string]string
	require.NoError(t, yaml.Unmarshal([]byte(files["metalstack-apiserver/Chart.yaml"]), &chart))
	assert.Equal(t, map[string]string{"apiVersion": "v2", "name": Name, "version": "0.1.0-rc.1", "appVersion": "v0.1.0-rc.1"}, chart)
	assert.Equal(t, "image:\n  registry: registry.example:5000/metal\n", files["metalstack-apiserver/values.yaml"])

	first, err := os.ReadFile(filepath.Join(directory, File("v0.1.0-rc.1")))
	require.NoError(t, err)
	require.NoError(t, Write(source, directory, images))
	second, err := os.ReadFile(filepath.Join(directory, File("v0.1.0-rc.1")))
	require.NoError(t, err)
	assert.Equal(t, first, second)
}

func TestWrite_PackagesTheChartOfThisRepository(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	digests := map[string]string{}
	for i, program := range append(manifests.Deployed, "metal-api-simulator") {
		digests[program] = "sha256:" + strings.Repeat(strconv.Itoa(i), 64)
	}
	require.NoError(t, Write("../../..", directory, manifests.Images{Registry: "ghcr.io/metal-stack", Tag: "v0.1.0", Digests: digests}))
	files := unpack(t, filepath.Join(directory, "metalstack-apiserver-0.1.0.tgz"))
	var chart struct {
		Version, AppVersion string
		Annotations         map[string]string
	}
	require.NoError(t, yaml.Unmarshal([]byte(files["metalstack-apiserver/Chart.yaml"]), &chart))
	assert.Equal(t, "0.1.0", chart.Version)
	assert.Equal(t, "v0.1.0", chart.AppVersion)
	assert.Equal(t, map[string]string{
		"metal-stack.io/digest-of-metalstack-apiserver":          digests["metalstack-apiserver"],
		"metal-stack.io/digest-of-metalstack-controller-manager": digests["metalstack-controller-manager"],
	}, chart.Annotations, "of what the chart runs")
	for _, name := range []string{"values.yaml", "values.schema.json", "templates/apiserver.yaml", "templates/NOTES.txt"} {
		assert.NotEmpty(t, files["metalstack-apiserver/"+name], name)
	}
}

func TestWrite_RefusesChartWithoutItsLines(t *testing.T) {
	t.Parallel()
	const whole, values = "version: 0.0.0-devel\nappVersion: latest\n", "  registry: ghcr.io/metal-stack\n"
	for message, files := range map[string]map[string]string{
		"no Chart.yaml":                                {"values.yaml": values},
		`the line "appVersion: latest" 0 times`:        {"Chart.yaml": "version: 0.0.0-devel\n", "values.yaml": values},
		`"  registry: ghcr.io/metal-stack" 2 times`:    {"Chart.yaml": whole, "values.yaml": values + values},
		`unsupported pattern "!templates/*"`:           {".helmignore": "!templates/*\n"},
		`the line "version: 0.0.0-devel" 0 times, and`: {"Chart.yaml": "version: 1.0.0\nappVersion: latest\n", "values.yaml": values},
	} {
		assert.ErrorContains(t, Write(repository(t, files), t.TempDir(), manifests.Images{Registry: "r.example", Tag: "v0.1.0"}), message)
	}
}
