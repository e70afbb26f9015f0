// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"metal-stack.io/infrastructure-apiserver/generated/openapi"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/testserver"
)

const root = "../.."

// committed is docs/api.md as readers find it.
func committed(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, "docs", "api.md"))
	require.NoError(t, err)
	return string(content)
}

// described are the types of a group and version on the page, by name, with the rows of their
// fields.
func described(t *testing.T, version schema.GroupVersion) map[string]string {
	t.Helper()
	_, part, found := strings.Cut(committed(t), "\n## "+version.String()+"\n")
	require.True(t, found, version)
	part, _, _ = strings.Cut(part, "\n## ")
	types := map[string]string{}
	for section := range strings.SplitSeq(part, "\n#### ") {
		name, text, _ := strings.Cut(section, "\n")
		types[name] = text
	}
	return types
}

func TestPage_IsUpToDate(t *testing.T) {
	t.Parallel()
	page, err := render(root)
	require.NoError(t, err)
	assert.Equal(t, page, committed(t), "run hack/update-codegen.sh")
}

func TestPage_HasEveryKind(t *testing.T) {
	t.Parallel()
	for _, g := range groups {
		kinds := 0
		for kind, goType := range scheme.Scheme.KnownTypes(g.version) {
			if foreign(goType) {
				continue // Kubernetes' own, in every group.
			}
			kinds++
			if _, heading := described(t, g.version)[kind]; !heading {
				assert.Contains(t, committed(t), "of the kind `"+kind+"`", "%s %s", g.version, kind)
			}
		}
		assert.Positive(t, kinds, g.version)
	}
}

func TestPage_HasEveryFieldOfTheOpenAPI(t *testing.T) {
	t.Parallel()
	for _, g := range groups {
		types, fields := described(t, g.version), 0
		for name, definition := range definitions() {
			name, own := strings.CutPrefix(name, g.models)
			if !own || strings.HasSuffix(name, "List") || name == "AllocationState" {
				continue // lists are described in one sentence; the state is inlined in others.
			}
			if !assert.Contains(t, types, name) {
				continue
			}
			for field := range definition.Schema.Properties {
				fields++
				row := "\n| `" + field + "`"
				if slices.Contains(definition.Schema.Required, field) {
					row += "<br>**required**"
				}
				assert.Contains(t, types[name], row+" |", "%s.%s", name, field)
			}
		}
		assert.Positive(t, fields, g.version)
	}
}

// The page describes one version for both.
func TestPage_VersionsHaveTheSameFields(t *testing.T) {
	t.Parallel()
	const v3, v4 = "io.x-k8s.cluster.infrastructure.v1alpha3.", "io.x-k8s.cluster.infrastructure.v1alpha4."
	older := openapi.GetOpenAPIDefinitions(func(name string) spec.Ref {
		return spec.MustCreateRef(strings.Replace(name, v3, v4, 1))
	})
	compared := 0
	for name, definition := range definitions() {
		if short, own := strings.CutPrefix(name, v4); own {
			compared++
			assert.Equal(t, definition.Schema, older[v3+short].Schema, short)
		}
	}
	assert.Positive(t, compared)
}

func TestPage_HasDefaultsAndEnumerations(t *testing.T) {
	t.Parallel()
	types := described(t, v1alpha4.SchemeGroupVersion)
	assert.Regexp(t, "\n\\| `port` .*<br>Default: `6443`", types["APIEndpoint"])
	assert.Regexp(t, "\n\\| `timeout` .*<br>Default: `15m`", types["RemediationStrategy"])
	assert.Regexp(t, "\n\\| `action`<br>\\*\\*required\\*\\* \\| \\[PowerAction\\]\\(#poweraction\\) ", types["MachinePowerSpec"])
	assert.Contains(t, types["PowerAction"], "| `Cycle` | Switches the machine off, and on again. |")
	assert.Contains(t, types["RemediationStrategyType"], "| `Reboot` | The machine is switched off and on again, ")
	assert.Regexp(t, "\n\\| `phase` \\| \\[AllocationPhase\\]", types["MachineAllocation"], "of a type that is inlined")
}

// A field may be called kind, and not be that of an object.
func TestPage_HasDescriptionOfOtherKinds(t *testing.T) {
	t.Parallel()
	types := described(t, v1alpha4.SchemeGroupVersion)
	assert.Contains(t, types["MetalUser"], "kind is `MetalStackCluster`, `MetalStackNetwork`, ")
	assert.Contains(t, types["MetalStackMachine"], "| `kind` | string | `MetalStackMachine` |")
}

func TestPage_LinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	page := committed(t)
	var anchors []string
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(page, -1) {
		anchors = append(anchors, anchor(heading[1]))
	}
	links := regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(page, -1)
	require.NotEmpty(t, links)
	for _, link := range links {
		file, fragment, _ := strings.Cut(link[1], "#")
		switch {
		case file == "":
			assert.Contains(t, anchors, fragment)
		case !strings.Contains(file, "://"):
			assert.FileExists(t, filepath.Join(root, "docs", file))
		}
	}
}

// TestLayout_IsWhatTheServerServes compares resources, short names, verbs and subresources with
// the server's discovery.
func TestLayout_IsWhatTheServerServes(t *testing.T) {
	t.Parallel()
	client, err := discovery.NewDiscoveryClientForConfig(testserver.Start(t, testserver.Options{Memory: true}).Config)
	require.NoError(t, err)
	type resource struct {
		kind, short, verbs string
		cluster            bool
	}
	for _, g := range groups {
		want, got := map[string]resource{}, map[string]resource{}
		for _, s := range g.sections {
			for _, k := range s.kinds {
				if k.body {
					continue
				}
				want[plural(k)] = resource{kind: k.name, short: k.short, verbs: k.verbs, cluster: k.cluster}
				for _, sub := range k.resources {
					want[plural(k)+"/"+sub.name] = resource{kind: sub.kind, verbs: sub.verbs, cluster: k.cluster}
				}
			}
		}
		list, err := client.ServerResourcesForGroupVersion(g.version.String())
		require.NoError(t, err)
		for _, r := range list.APIResources {
			slices.Sort(r.Verbs)
			got[r.Name] = resource{kind: r.Kind, short: strings.Join(r.ShortNames, " "), verbs: strings.Join(r.Verbs, " "), cluster: !r.Namespaced}
		}
		assert.Equal(t, want, got, g.version)
	}
}
