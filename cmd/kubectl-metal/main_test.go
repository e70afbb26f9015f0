// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// manifest is what krew reads; it refuses other fields.
type manifest struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		Version          string     `json:"version"`
		Homepage         string     `json:"homepage"`
		ShortDescription string     `json:"shortDescription"`
		Description      string     `json:"description"`
		Caveats          string     `json:"caveats"`
		Platforms        []platform `json:"platforms"`
	} `json:"spec"`
}

type platform struct {
	Selector struct {
		MatchLabels struct {
			OS   string `json:"os"`
			Arch string `json:"arch"`
		} `json:"matchLabels"`
	} `json:"selector"`
	URI    string `json:"uri"`
	SHA256 string `json:"sha256"`
	Files  []struct {
		From string `json:"from"`
		To   string `json:"to"`
	} `json:"files"`
	Bin string `json:"bin"`
}

// TestKrewManifest_IsWhatKrewTakes checks what krew's own validation does, for the template and
// what the release script puts into it.
func TestKrewManifest_IsWhatKrewTakes(t *testing.T) {
	t.Parallel()
	template, err := os.ReadFile("../../artifacts/krew/metal.yaml.tmpl")
	require.NoError(t, err)
	text := strings.ReplaceAll(string(template), "@TAG@", "v0.1.0")
	text = regexp.MustCompile(`@SHA256_[a-z]+_[a-z0-9]+@`).ReplaceAllString(text, strings.Repeat("0a", 32))
	assert.NotContains(t, text, "@", "a placeholder that the script does not fill in")
	var m manifest
	require.NoError(t, yaml.UnmarshalStrict([]byte(text), &m))
	assert.Equal(t, "krew.googlecontainertools.github.com/v1alpha2", m.APIVersion)
	assert.Equal(t, "Plugin", m.Kind)
	assert.Equal(t, "metal", m.Metadata.Name)
	assert.Regexp(t, `^v\d+\.\d+\.\d+`, m.Spec.Version)
	assert.LessOrEqual(t, len(m.Spec.ShortDescription), 50)
	assert.NotEmpty(t, m.Spec.Description)
	assert.Regexp(t, `^https://`, m.Spec.Homepage)

	var platforms []string
	for _, p := range m.Spec.Platforms {
		system, arch := p.Selector.MatchLabels.OS, p.Selector.MatchLabels.Arch
		platforms = append(platforms, system+"/"+arch)
		assert.Equal(t, "https://github.com/metal-stack/metalstack-apiserver/releases/download/v0.1.0/kubectl-metal_"+system+"_"+arch+".tar.gz", p.URI)
		assert.Regexp(t, `^[0-9a-f]{64}$`, p.SHA256)
		bin := "kubectl-metal"
		if system == "windows" {
			bin += ".exe"
		}
		assert.Equal(t, bin, p.Bin)
		require.NotEmpty(t, p.Files)
		assert.Equal(t, "./"+bin, p.Files[0].From)
		assert.Contains(t, string(template), `"@SHA256_`+system+"_"+arch+`@"`)
	}
	assert.ElementsMatch(t, []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64"}, platforms)

	script, err := os.ReadFile("../../hack/release-kubectl-metal.sh")
	require.NoError(t, err)
	assert.Contains(t, string(script), strings.Join(platforms, " "), "the script builds the same platforms")
}
